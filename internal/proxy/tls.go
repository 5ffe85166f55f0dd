package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/loop"
)

// The names by which ALPN (RFC 7301) knows what is spoken inside TLS.
const (
	alpnHTTP2 = "h2"
	alpnHTTP1 = "http/1.1"
)

// serverTLS is how a gateway ends the TLS of callers. It goes on in the next
// snapshot when that has the same, so that callers can resume their sessions;
// connections that were opened by an older one go on as they are.
type serverTLS struct {
	key  serverKey
	once sync.Once
	// Made of the key by the first caller; for what carries bytes without ALPN,
	// because that is the callee's to choose.
	requests, bytes *tls.Config
	err             error
}

// serverKey is all that a serverTLS is made of.
type serverKey struct {
	chain, key string
	ca         string // of callers; "" = they need not prove who they are
	optional   bool
	min, max   mesh.TLSVersion
}

// serverTLS finds or makes what ends the TLS of callers.
func (c *compiler) serverTLS(of *mesh.ServerTLS) *serverTLS {
	own := c.snapshot.Certificates[of.Certificate]
	key := serverKey{chain: string(own.Chain), key: string(own.Key), optional: of.Optional, min: of.Min, max: of.Max}
	if of.ClientCA != "" {
		key.ca = string(c.snapshot.Certificates[of.ClientCA].CA)
	}
	s := c.old.servers[key]
	if s == nil {
		s = &serverTLS{key: key}
	}
	c.table.servers[key] = s
	return s
}

// config is for connections that carry requests, or bytes.
func (s *serverTLS) config(requests bool) (*tls.Config, error) {
	s.once.Do(s.make)
	if requests {
		return s.requests, s.err
	}
	return s.bytes, s.err
}

func (s *serverTLS) make() {
	k := &s.key
	own, err := tls.X509KeyPair([]byte(k.chain), []byte(k.key))
	if err != nil {
		s.err = err
		return
	}
	// Records of full size from the start: they are not sent one by one.
	s.bytes = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: version(k.min), MaxVersion: version(k.max), DynamicRecordSizingDisabled: true}
	if s.bytes.MinVersion == 0 {
		s.bytes.MinVersion = tls.VersionTLS12
	}
	if k.ca != "" {
		s.bytes.ClientAuth = tls.RequireAndVerifyClientCert
		if k.optional {
			s.bytes.ClientAuth = tls.VerifyClientCertIfGiven
		}
		s.bytes.ClientCAs = authorities(k.ca)
	}
	s.requests = s.bytes.Clone()
	s.requests.NextProtos = []string{alpnHTTP2, alpnHTTP1}
}

// version is the number of a version in crypto/tls; 0 = its default.
func version(v mesh.TLSVersion) uint16 {
	if v == mesh.TLSDefault {
		return 0
	}
	return tls.VersionTLS10 + uint16(v-mesh.TLS10)
}

func authorities(pem string) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(pem)) // the snapshot is valid: there is one
	return pool
}

// endsTLS finds what ends the TLS of callers who ask for a host, in canonical
// form, and how specific the pattern is by which it was found; -1 = none.
func (g *gateway) endsTLS(host string) (end *mesh.ServerTLS, best int) {
	best = -1
	for _, t := range g.tls {
		for _, pattern := range t.Hosts {
			if s := specificity(pattern); s > best && mesh.HostMatches(pattern, host) {
				best, end = s, t
			}
		}
	}
	return end, best
}

// misdirected reports whether a request for a host came over TLS that was
// asked for another one, and is not what the host's own would be: otherwise who
// is let in for one host would reach another that asks for a certificate.
func (t *table) misdirected(port uint16, serverName, host string) bool {
	g := t.gateways[port]
	if g == nil || serverName == "" {
		return false
	}
	serverName, host = mesh.CanonicalHost(serverName, ""), mesh.CanonicalHost(host, "")
	if serverName == host {
		return false
	}
	asked, _ := g.endsTLS(serverName)
	own, _ := g.endsTLS(host)
	return asked != own
}

// misdirectedReply is RFC 9110, section 15.5.20.
var misdirectedReply = &reply{status: 421, grpc: noGRPC, body: "serin: the host was not asked for by TLS\n"}

// endTLS shakes hands with a caller whose first bytes were read already, and
// reports whether that went well. If not, that is recorded.
func (c *callerConn) endTLS(t *loop.Task, y *relay, early []byte) bool {
	g := y.table.gateways[y.seen.port]
	if len(g.tls) == 0 {
		return true
	}
	y.begin(t)
	flag, err := flagNoRoute, errNoTLS
	if y.tls != nil {
		flag, err = flagMalformed, c.shakeHands(y, g.ends[slices.Index(g.tls, y.tls)], early)
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		flag = flagCallerGone
	}
	c.worker.proxy.log.Debug("tls handshake failed", "caller", c.remoteIP, "host", y.seen.sni, "err", err)
	y.record.Flags, y.refusal = flag, err
	y.finish(c)
	return false
}

// errNoTLS ends connections where others speak TLS: nobody speaks plain there.
var errNoTLS = errors.New("a plain connection to a port with TLS")

func (c *callerConn) shakeHands(y *relay, by *serverTLS, early []byte) error {
	config, err := by.config(!y.carries())
	if err != nil {
		return err
	}
	s, err := serveTLS(c.conn, early, config, c.worker.loop.Now().Add(c.worker.proxy.limits.HeaderTime))
	if err != nil {
		return err
	}
	c.socket, c.scheme, c.serverName = s, "https", y.seen.sni
	c.alpn = s.tls.ConnectionState().NegotiatedProtocol
	return nil
}

// clientTLS is how endpoints are spoken TLS to. It goes on in the next snapshot
// when that has the same, and so do the connections.
type clientTLS struct {
	key  clientKey
	once sync.Once
	conf *tls.Config
	err  error
}

// clientKey is all that a clientTLS is made of.
type clientKey struct {
	serverName string
	alpn       string // that is offered; "" = none
	ca         string // "" = the system's
	chain, key string // our own; "" = none
	alts       string // separated by zero bytes; "" = serverName
	insecure   bool
}

// clientTLS finds or makes how the endpoints of a group are spoken TLS to.
func (c *compiler) clientTLS(g *group, http2 bool) *clientTLS {
	of := g.policy.TLS
	key := clientKey{serverName: of.SNI, alts: strings.Join(of.SubjectAlts, "\x00"), insecure: of.Insecure}
	if of.SNI == "" {
		key.serverName = string(g.service)
	}
	switch {
	case http2:
		key.alpn = alpnHTTP2
	case g.protocol == mesh.HTTP:
		key.alpn = alpnHTTP1
	}
	if of.CA != "" {
		key.ca = string(c.snapshot.Certificates[of.CA].CA)
	}
	if of.Certificate != "" {
		own := c.snapshot.Certificates[of.Certificate]
		key.chain, key.key = string(own.Chain), string(own.Key)
	}
	t := c.old.clients[key]
	if t == nil {
		t = &clientTLS{key: key}
	}
	c.table.clients[key] = t
	return t
}

// keptSessions of endpoints can be resumed.
const keptSessions = 64

func (t *clientTLS) make() {
	k := &t.key
	t.conf = &tls.Config{
		ServerName: k.serverName, ClientSessionCache: tls.NewLRUClientSessionCache(keptSessions),
		DynamicRecordSizingDisabled: true, InsecureSkipVerify: k.insecure,
	}
	if k.alpn != "" {
		t.conf.NextProtos = []string{k.alpn}
	}
	if k.ca != "" {
		t.conf.RootCAs = authorities(k.ca)
	}
	if k.chain != "" {
		own, err := tls.X509KeyPair([]byte(k.chain), []byte(k.key))
		if err != nil {
			t.err = err
			return
		}
		t.conf.Certificates = []tls.Certificate{own}
	}
	if k.alts != "" && !k.insecure {
		// crypto/tls would look for the server's name: it is done here.
		t.conf.InsecureSkipVerify, t.conf.VerifyConnection = true, t.verify
	}
}

// verify makes sure that an endpoint's certificate is signed as it has to be,
// and has one of the wanted names.
func (t *clientTLS) verify(state tls.ConnectionState) error {
	shown := state.PeerCertificates
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	if _, err := shown[0].Verify(x509.VerifyOptions{Roots: t.conf.RootCAs, Intermediates: between}); err != nil {
		return err
	}
	for alt := range strings.SplitSeq(t.key.alts, "\x00") {
		if hasName(shown[0], alt) {
			return nil
		}
	}
	return fmt.Errorf("the certificate has none of the names %s", strings.ReplaceAll(t.key.alts, "\x00", ", "))
}

// hasName reports whether a certificate has a subject alternative name: of a
// host, an address, or a URI as SPIFFE's.
func hasName(c *x509.Certificate, alt string) bool {
	for _, u := range c.URIs {
		if u.String() == alt {
			return true
		}
	}
	return c.VerifyHostname(alt) == nil
}

// errOtherProtocol says that an endpoint does not speak what its policy says.
var errOtherProtocol = errors.New("the endpoint does not choose h2 by ALPN")

// call shakes hands with an endpoint. If that fails, the connection is closed.
func (t *clientTLS) call(raw *loop.Conn, until time.Time) (*tlsConn, error) {
	t.once.Do(t.make)
	if t.err != nil {
		return nil, errors.Join(t.err, raw.Close())
	}
	c, err := callTLS(raw, t.conf, until)
	if err != nil {
		return nil, err
	}
	// One that chooses none may be meant to be spoken to so all the same.
	if chosen := c.tls.ConnectionState().NegotiatedProtocol; t.key.alpn == alpnHTTP2 && chosen != alpnHTTP2 && chosen != "" {
		return nil, errors.Join(errOtherProtocol, c.Close())
	}
	return c, nil
}
