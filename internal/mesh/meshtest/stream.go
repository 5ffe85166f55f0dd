package meshtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand/v2"
	"time"

	"serin.dev/serin/internal/mesh"
)

// streams makes routes for the connections to those of the ports that are not
// HTTP.
func (m *maker) streams(service mesh.ServiceName, ports []mesh.Port) []mesh.Stream {
	var out []mesh.Stream
	for _, p := range ports {
		if !m.Streams || p.Protocol != mesh.TCP || m.percent(30) {
			continue
		}
		s := m.stream(service, p.Number)
		s.Matches = []mesh.StreamMatch{{Port: p.Number}}
		if m.Sources && m.percent(30) {
			s.Matches[0].SourceLabels = mesh.Labels{"app": "web"}
		}
		if m.Sources && m.percent(30) {
			s.Matches[0].SourceNamespace = "shop"
		}
		out = append(out, s)
	}
	return out
}

// sniStreams take some TLS connections at a gateway as they are.
func (m *maker) sniStreams() []mesh.Stream {
	var out []mesh.Stream
	for i, sni := range [][]string{{"raw.example.org", "*.raw.example.org"}, {"*.example.org"}} {
		if m.percent(70) {
			s := m.stream("", 443)
			s.Name = fmt.Sprintf("sni-%d", i)
			s.Matches = []mesh.StreamMatch{{SNI: sni}}
			out = append(out, s)
		}
	}
	return out
}

// stream sends connections to a port of up to two services that have it, and
// closes them where none does.
func (m *maker) stream(service mesh.ServiceName, port uint16) mesh.Stream {
	s := mesh.Stream{Name: fmt.Sprintf("stream-%d", port), Origin: m.origin("VirtualService"), Service: service}
	for _, name := range some(m, 1, 2, m.names...) {
		if _, ok := m.s.Services[name].Port(port); ok {
			s.Split = append(s.Split, mesh.Destination{Service: name, Port: port, Subset: pick(m, "", "v1"), Weight: 1 + m.Uint32N(99)})
		}
	}
	return s
}

// certificates makes an authority and what it signed. The same source of
// randomness gives the same bytes.
func certificates(r *rand.Rand) map[string]*mesh.Certificate {
	sign := func(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, mesh.Certificate) {
		key := newKey(r)
		template := &x509.Certificate{
			SerialNumber: new(big.Int).SetUint64(1 + r.Uint64N(1<<62)),
			Subject:      pkix.Name{CommonName: name},
			DNSNames:     []string{name},
			NotBefore:    time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
			NotAfter:     time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
			KeyUsage:     x509.KeyUsageDigitalSignature,
			ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if parent == nil {
			template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
			parent, signer = template, key
		}
		// Without a source of randomness signatures are deterministic (RFC 6979).
		der, err := x509.CreateCertificate(nil, template, parent, &key.PublicKey, signer)
		if err != nil {
			panic("meshtest: sign a certificate: " + err.Error())
		}
		private, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			panic("meshtest: encode a key: " + err.Error())
		}
		return template, key, mesh.Certificate{Chain: encode("CERTIFICATE", der), Key: encode("EC PRIVATE KEY", private)}
	}
	authority, key, ca := sign("ca.test", nil, nil)
	out := map[string]*mesh.Certificate{"default/ca": {CA: ca.Chain}}
	for _, leaf := range [...]struct{ name, host string }{
		{"default/www", "www.example.org"}, {"default/test", "*.test"}, {"default/client", "client.test"},
	} {
		_, _, c := sign(leaf.host, authority, key)
		out[leaf.name] = &c
	}
	return out
}

func newKey(r *rand.Rand) *ecdsa.PrivateKey {
	var raw [32]byte
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	raw[0] = 0 // below the order of the curve
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw[:])
	if err != nil {
		panic("meshtest: make a key: " + err.Error())
	}
	return key
}

func encode(kind string, der []byte) []byte {
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		panic("meshtest: write to memory: " + err.Error())
	}
	return b.Bytes()
}
