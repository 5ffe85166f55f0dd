package xds

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
)

// caSuffix parts the authorities of a certificate from its key pair: to Envoy
// they are two secrets.
const caSuffix = "#ca"

const tlsSocket = "envoy.transport_sockets.tls"

// encodeSecrets makes one or two secrets of a certificate.
func encodeSecrets(name string, c *mesh.Certificate) []*tlsv3.Secret {
	var out []*tlsv3.Secret
	if len(c.Chain) > 0 || len(c.Key) > 0 {
		out = append(out, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(c.Chain), PrivateKey: inline(c.Key),
		}}})
	}
	if len(c.CA) > 0 {
		out = append(out, &tlsv3.Secret{Name: name + caSuffix, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(c.CA)},
		}})
	}
	return out
}

func inline(data []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: data}}
}

// decodeSecret adds one secret to the certificates.
func decodeSecret(m *tlsv3.Secret, certificates map[string]*mesh.Certificate) error {
	name := strings.TrimSuffix(m.GetName(), caSuffix)
	c := certificates[name]
	if c == nil {
		c = &mesh.Certificate{}
		certificates[name] = c
	}
	switch t := m.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		c.Chain, c.Key = t.TlsCertificate.GetCertificateChain().GetInlineBytes(), t.TlsCertificate.GetPrivateKey().GetInlineBytes()
	case *tlsv3.Secret_ValidationContext:
		c.CA = t.ValidationContext.GetTrustedCa().GetInlineBytes()
	default:
		return fmt.Errorf("secret %T is none of ours", t)
	}
	return nil
}

func secretConfig(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: overADS()}
}

func packTLS(m proto.Message) (*corev3.TransportSocket, error) {
	packed, err := pack(m)
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed}}, nil
}

func encodeClientTLS(t *mesh.ClientTLS, http2 bool, systemCA string) (*corev3.TransportSocket, error) {
	c := &tlsv3.CommonTlsContext{AlpnProtocols: []string{"http/1.1"}}
	if http2 {
		c.AlpnProtocols = []string{"h2"}
	}
	if t.Certificate != "" {
		c.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{secretConfig(t.Certificate)}
	}
	if !t.Insecure {
		check := &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: encodeAlts(t)}
		if t.CA != "" {
			c.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
				CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
					DefaultValidationContext:         check,
					ValidationContextSdsSecretConfig: secretConfig(t.CA + caSuffix),
				},
			}
		} else {
			check.TrustedCa = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: systemCA}}
			c.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: check}
		}
	}
	return packTLS(&tlsv3.UpstreamTlsContext{CommonTlsContext: c, Sni: t.SNI})
}

func encodeAlts(t *mesh.ClientTLS) []*tlsv3.SubjectAltNameMatcher {
	alts := t.SubjectAlts
	if len(alts) == 0 && t.SNI != "" {
		alts = []string{t.SNI}
	}
	var out []*tlsv3.SubjectAltNameMatcher
	for _, alt := range alts {
		kind := tlsv3.SubjectAltNameMatcher_DNS
		if _, err := netip.ParseAddr(alt); err == nil {
			kind = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		} else if strings.Contains(alt, "://") {
			kind = tlsv3.SubjectAltNameMatcher_URI
		}
		out = append(out, &tlsv3.SubjectAltNameMatcher{
			SanType: kind, Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: alt}},
		})
	}
	return out
}

func decodeClientTLS(s *corev3.TransportSocket) (*mesh.ClientTLS, error) {
	var m tlsv3.UpstreamTlsContext
	if err := unpack(s.GetTypedConfig(), &m); err != nil {
		return nil, err
	}
	c := m.GetCommonTlsContext()
	t := &mesh.ClientTLS{SNI: m.GetSni()}
	for _, secret := range c.GetTlsCertificateSdsSecretConfigs() {
		t.Certificate = secret.GetName()
	}
	check := c.GetValidationContext()
	if combined := c.GetCombinedValidationContext(); combined != nil {
		check = combined.GetDefaultValidationContext()
		t.CA = strings.TrimSuffix(combined.GetValidationContextSdsSecretConfig().GetName(), caSuffix)
	}
	t.Insecure = c.GetValidationContextType() == nil
	for _, alt := range check.GetMatchTypedSubjectAltNames() {
		t.SubjectAlts = append(t.SubjectAlts, alt.GetMatcher().GetExact())
	}
	return t, nil
}

// tlsVersions is in the order of mesh.TLSVersion.
var tlsVersions = [...]tlsv3.TlsParameters_TlsProtocol{
	tlsv3.TlsParameters_TLS_AUTO, tlsv3.TlsParameters_TLSv1_0, tlsv3.TlsParameters_TLSv1_1,
	tlsv3.TlsParameters_TLSv1_2, tlsv3.TlsParameters_TLSv1_3,
}

func encodeServerTLS(t *mesh.ServerTLS) (*corev3.TransportSocket, error) {
	if int(t.Min) >= len(tlsVersions) || int(t.Max) >= len(tlsVersions) {
		return nil, fmt.Errorf("unknown TLS version")
	}
	c := &tlsv3.CommonTlsContext{
		AlpnProtocols:                  []string{"h2", "http/1.1"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{secretConfig(t.Certificate)},
	}
	if t.Min != mesh.TLSDefault || t.Max != mesh.TLSDefault {
		c.TlsParams = &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsVersions[t.Min], TlsMaximumProtocolVersion: tlsVersions[t.Max]}
	}
	out := &tlsv3.DownstreamTlsContext{CommonTlsContext: c}
	if t.ClientCA != "" {
		c.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
			ValidationContextSdsSecretConfig: secretConfig(t.ClientCA + caSuffix),
		}
		out.RequireClientCertificate = wrapperspb.Bool(!t.Optional)
	}
	return packTLS(out)
}

func decodeServerTLS(s *corev3.TransportSocket, hosts []string) (mesh.ServerTLS, error) {
	t := mesh.ServerTLS{Hosts: full(hosts)}
	var m tlsv3.DownstreamTlsContext
	if err := unpack(s.GetTypedConfig(), &m); err != nil {
		return t, err
	}
	c := m.GetCommonTlsContext()
	for _, secret := range c.GetTlsCertificateSdsSecretConfigs() {
		t.Certificate = secret.GetName()
	}
	t.ClientCA = strings.TrimSuffix(c.GetValidationContextSdsSecretConfig().GetName(), caSuffix)
	t.Optional = t.ClientCA != "" && !m.GetRequireClientCertificate().GetValue()
	for i, v := range tlsVersions {
		if v == c.GetTlsParams().GetTlsMinimumProtocolVersion() {
			t.Min = mesh.TLSVersion(i)
		}
		if v == c.GetTlsParams().GetTlsMaximumProtocolVersion() {
			t.Max = mesh.TLSVersion(i)
		}
	}
	return t, nil
}

// joinHostPort is the inverse of socket.
func joinHostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}
