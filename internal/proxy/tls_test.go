package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	last int64 // serial number
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// issue makes a key pair for hosts, or URIs.
func (a *authority) issue(names ...string) *mesh.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.last++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 + a.last), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if u, err := url.Parse(name); err == nil && u.Scheme != "" {
			template.URIs = append(template.URIs, u)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &mesh.Certificate{
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}
}

// pair is a certificate as crypto/tls takes it.
func (a *authority) pair(c *mesh.Certificate) tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(c.Chain, c.Key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// overTLS returns a client that speaks TLS to the listener, whatever host it
// calls, and HTTP/1.1 or HTTP/2 in it.
func (r *rig) overTLS(l *Listener, two bool, c *tls.Config) *http.Client {
	r.t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(!two)
	protocols.SetHTTP2(two)
	transport := &http.Transport{
		Protocols: &protocols, DisableCompression: true, TLSClientConfig: c,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		},
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// edge is a gateway on port 443 with the entries of TLS, before music.default.
func edge(entries ...mesh.ServerTLS) mesh.Gateway {
	return mesh.Gateway{Name: "default/edge", Port: 443, TLS: entries, VirtualHosts: []mesh.VirtualHost{weighted("*", 1)}}
}

func (r *rig) gateway() *Listener {
	r.t.Helper()
	l, err := r.ListenGateway("127.0.0.1:0", 443)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

func TestGatewaysEndTLS(t *testing.T) {
	r := newRig(t, Config{})
	ca := newAuthority(t)
	app := r.app(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "%s by %s", q.Host, q.Header.Get("X-Forwarded-Proto"))
	})
	r.apply(service("music.default", app),
		map[string]*mesh.Certificate{"a": ca.issue("a.test"), "b": ca.issue("*.b.test"), "c": ca.issue("c.test")},
		edge(mesh.ServerTLS{Hosts: []string{"a.test"}, Certificate: "a"},
			mesh.ServerTLS{Hosts: []string{"*.b.test"}, Certificate: "b"},
			mesh.ServerTLS{Hosts: []string{"c.test"}, Certificate: "c", Min: mesh.TLS13}))
	l := r.gateway()
	for _, two := range []bool{false, true} {
		c := r.overTLS(l, two, &tls.Config{RootCAs: ca.pool()})
		for _, host := range []string{"a.test", "x.b.test", "c.test", "a.test"} {
			res, err := r.call(c, "GET", "https://"+host+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			if err != nil || string(b) != host+" by https" || (res.ProtoMajor == 2) != two {
				t.Errorf("%s: %s %q %v", host, res.Proto, b, err)
			}
			if rec := r.recorded(); rec.Protocol != map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[two] || rec.Host != host || rec.Code != 200 {
				t.Errorf("record: %+v", rec)
			}
		}
		// One who was let in for one host must not reach another one's.
		q, err := http.NewRequestWithContext(t.Context(), "GET", "https://a.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Host = "c.test"
		res, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != 421 {
			t.Errorf("another host than was asked for by TLS: %d, want 421", res.StatusCode)
		}
		r.recorded()
	}

	for name, config := range map[string]*tls.Config{
		"a name that nobody has": {RootCAs: ca.pool(), ServerName: "d.test"},
		"an old version":         {RootCAs: ca.pool(), ServerName: "c.test", MaxVersion: tls.VersionTLS12},
		"another protocol":       {RootCAs: ca.pool(), ServerName: "a.test", NextProtos: []string{"smtp"}},
	} {
		if c, err := tls.Dial("tcp", l.Addr().String(), config); err == nil {
			c.Close()
			t.Errorf("%s: the gateway shook hands", name)
		}
	}
	c := r.dialTo(l)
	c.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
	if b, err := io.ReadAll(c); err == nil && len(b) > 0 {
		t.Errorf("plain requests where TLS is spoken: %q", b)
	}
}

func TestCallersProveWhoTheyAre(t *testing.T) {
	r := newRig(t, Config{})
	ca, other := newAuthority(t), newAuthority(t)
	r.apply(service("music.default", r.app(says("hi"))),
		map[string]*mesh.Certificate{"own": ca.issue("must.test", "may.test"), "callers": {CA: ca.pem}},
		edge(mesh.ServerTLS{Hosts: []string{"must.test"}, Certificate: "own", ClientCA: "callers"},
			mesh.ServerTLS{Hosts: []string{"may.test"}, Certificate: "own", ClientCA: "callers", Optional: true}))
	l := r.gateway()
	known, unknown := ca.pair(ca.issue("caller")), other.pair(other.issue("caller"))
	for _, tt := range []struct {
		host string
		who  *tls.Certificate
		ok   bool
	}{
		{"must.test", nil, false}, {"must.test", &known, true}, {"must.test", &unknown, false},
		{"may.test", nil, true}, {"may.test", &known, true}, {"may.test", &unknown, false},
	} {
		for _, two := range []bool{false, true} {
			config := &tls.Config{RootCAs: ca.pool()}
			if tt.who != nil {
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.who, nil }
			}
			res, err := r.call(r.overTLS(l, two, config), "GET", "https://"+tt.host+"/", nil)
			if (err == nil) != tt.ok {
				t.Errorf("%+v: %v", tt, err)
			}
			if err == nil {
				res.Body.Close()
			}
		}
	}
}

// TestCertificatesAreChangedUnderWay: connections go on, new ones get the new
// certificate, and who has not changed can resume its session.
func TestCertificatesAreChangedUnderWay(t *testing.T) {
	r := newRig(t, Config{})
	ca := newAuthority(t)
	svc := service("music.default", r.app(says("hi")))
	entries := edge(mesh.ServerTLS{Hosts: []string{"*"}, Certificate: "own"})
	first, second := ca.issue("a.test"), ca.issue("a.test")
	var shown []int64
	var resumed bool
	config := &tls.Config{RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1), VerifyConnection: func(s tls.ConnectionState) error {
		shown, resumed = append(shown, s.PeerCertificates[0].SerialNumber.Int64()), s.DidResume
		return nil
	}}
	apply := func(c *mesh.Certificate) { r.apply(svc, map[string]*mesh.Certificate{"own": c}, entries) }
	apply(first)
	l := r.gateway()
	c := r.overTLS(l, false, config)
	call := func() {
		t.Helper()
		if status, got := r.get(c, "https://a.test/"); status != 200 {
			t.Errorf("%d %s", status, got)
		}
	}
	call()
	apply(second)
	call() // on the first connection
	if len(shown) != 1 {
		t.Errorf("the change cost the connection")
	}
	c.CloseIdleConnections()
	call()
	apply(second)
	c.CloseIdleConnections()
	call()
	if len(shown) != 3 || shown[0] == shown[1] || shown[1] != shown[2] {
		t.Errorf("certificates shown: %v", shown)
	}
	if !resumed {
		t.Error("a snapshot with the same certificate cost the session")
	}
}

// TestBodiesStreamThroughTLS both ways at once, larger than all that is
// buffered, with TLS on both sides.
func TestBodiesStreamThroughTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, two := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2: %t", tls.VersionName(version), two), func(t *testing.T) {
				r := newRig(t, Config{})
				ca := newAuthority(t)
				certificates := map[string]*mesh.Certificate{"own": ca.issue("a.test"), "ca": {CA: ca.pem}}
				app, _ := r.appTLS(&tls.Config{Certificates: []tls.Certificate{ca.pair(ca.issue("music.default"))}, MaxVersion: version}, two,
					func(w http.ResponseWriter, q *http.Request) {
						if err := http.NewResponseController(w).EnableFullDuplex(); err != nil && !two {
							t.Error(err)
						}
						w.WriteHeader(200)
						if _, err := io.Copy(flushing{w}, q.Body); err != nil {
							t.Error(err)
						}
					})
				svc := service("music.default", app)
				svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {TLS: &mesh.ClientTLS{CA: "ca"}, Pool: mesh.Pool{HTTP2: two}}}
				r.apply(svc, certificates, edge(mesh.ServerTLS{Hosts: []string{"*"}, Certificate: "own"}))
				c := r.overTLS(r.gateway(), two, &tls.Config{RootCAs: ca.pool(), MaxVersion: version})
				var wg sync.WaitGroup
				for i := range 4 {
					wg.Go(func() {
						sent := bytes.Repeat([]byte{byte('a' + i), '1', '2', '3', '4', '5', '6'}, 500_000)
						res, err := r.call(c, "POST", "https://a.test/", io.MultiReader(bytes.NewReader(sent)))
						if err != nil {
							t.Error(err)
							return
						}
						defer res.Body.Close()
						got, err := io.ReadAll(res.Body)
						if err != nil || !bytes.Equal(got, sent) {
							t.Errorf("%d bytes of %d came back: %v", len(got), len(sent), err)
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// flushing sends each piece at once.
type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	return n, errors.Join(err, http.NewResponseController(f.ResponseWriter).Flush())
}

// appTLS is an application that speaks TLS. It tells which names were asked
// for.
func (r *rig) appTLS(c *tls.Config, two bool, h http.HandlerFunc) (address string, asked func() []string) {
	r.t.Helper()
	var mu sync.Mutex
	var names []string
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		names = append(names, hello.ServerName)
		return nil, nil
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS, s.EnableHTTP2 = c, two
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	r.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), names...)
	}
}

func TestEndpointsSpeakTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	certificates := map[string]*mesh.Certificate{"ca": {CA: ca.pem}, "other": {CA: other.pem}, "own": ca.issue("caller")}
	spiffe := "spiffe://cluster.local/ns/default/sa/music"
	for _, tt := range []struct {
		name string
		tls  mesh.ClientTLS
		sni  string
		ok   bool
	}{
		{"the called host", mesh.ClientTLS{CA: "ca", Certificate: "own"}, "music.default", true},
		{"another name", mesh.ClientTLS{CA: "ca", Certificate: "own", SNI: "b.test"}, "b.test", true},
		{"a name that it has not", mesh.ClientTLS{CA: "ca", Certificate: "own", SNI: "c.test"}, "c.test", false},
		{"another authority", mesh.ClientTLS{CA: "other", Certificate: "own"}, "music.default", false},
		{"the system's authorities", mesh.ClientTLS{Certificate: "own"}, "music.default", false},
		{"not verified", mesh.ClientTLS{CA: "other", Certificate: "own", Insecure: true}, "music.default", true},
		{"one of its names", mesh.ClientTLS{CA: "ca", Certificate: "own", SNI: "c.test", SubjectAlts: []string{"d.test", spiffe}}, "c.test", true},
		{"none of its names", mesh.ClientTLS{CA: "ca", Certificate: "own", SubjectAlts: []string{"d.test"}}, "music.default", false},
		{"its name, by another authority", mesh.ClientTLS{CA: "other", Certificate: "own", SubjectAlts: []string{spiffe}}, "music.default", false},
		{"without our certificate", mesh.ClientTLS{CA: "ca"}, "music.default", false},
	} {
		for _, two := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2: %t", tt.name, two), func(t *testing.T) {
				r := newRig(t, Config{Loops: 1})
				app, asked := r.appTLS(&tls.Config{
					Certificates: []tls.Certificate{ca.pair(ca.issue("music.default", "b.test", spiffe))},
					// TLS 1.2 tells the caller within the handshake that it is not let in.
					ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), MaxVersion: tls.VersionTLS12,
				}, two, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.Proto) })
				svc := service("music.default", app)
				svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {TLS: &tt.tls, Pool: mesh.Pool{HTTP2: two}}}
				r.apply(svc, certificates)
				_, c := r.outbound()
				for range 2 {
					status, got := r.get(c, "http://music/")
					rec := r.recorded()
					if ok := status == 200; ok != tt.ok || ok && got != map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[two] {
						t.Fatalf("%d %s", status, got)
					}
					if !tt.ok && (status != 503 || rec.Flags != "UF,URX") {
						t.Errorf("%d %q, want 503 UF,URX", status, rec.Flags)
					}
				}
				names := asked()
				if tt.ok && len(names) != 1 {
					t.Errorf("%d handshakes, want 1: the connection is kept", len(names))
				}
				for _, name := range names {
					if name != tt.sni {
						t.Errorf("asked for %q, want %q", name, tt.sni)
					}
				}
			})
		}
	}
}

// TestChangedPoliciesUseOtherConnections: what was connected under another
// policy, plain or with less proof, is not used any more.
func TestChangedPoliciesUseOtherConnections(t *testing.T) {
	r := newRig(t, Config{Loops: 1})
	ca := newAuthority(t)
	app, asked := r.appTLS(&tls.Config{Certificates: []tls.Certificate{ca.pair(ca.issue("music.default"))}}, false, says("hi"))
	_, c := r.outbound()
	svc := service("music.default", app)
	certificates := map[string]*mesh.Certificate{"ca": {CA: ca.pem}}
	for i, tt := range []struct {
		tls    *mesh.ClientTLS
		status int
		asked  int
	}{
		{&mesh.ClientTLS{Insecure: true}, 200, 1},
		{&mesh.ClientTLS{CA: "ca"}, 200, 2},
		{&mesh.ClientTLS{CA: "ca"}, 200, 2},
		{&mesh.ClientTLS{CA: "ca", SubjectAlts: []string{"other"}}, 503, 5}, // tried three times
		{nil, 400, 5}, // net/http's answer to plain requests
	} {
		changed := *svc
		changed.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {TLS: tt.tls}}
		r.apply(&changed, certificates)
		if status, got := r.get(c, "http://music/"); status != tt.status || len(asked()) != tt.asked {
			t.Errorf("step %d: %d %s after %d handshakes", i, status, got, len(asked()))
		}
	}
}

func TestBytesInTLS(t *testing.T) {
	r := newRig(t, Config{})
	ca := newAuthority(t)
	app := r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		if _, err := io.Copy(c, in); err != nil {
			t.Error(err)
		}
		fmt.Fprint(c, " and the end")
	})
	svc := service("db.default", app)
	svc.Ports[0].Protocol = mesh.TCP
	g := edge(mesh.ServerTLS{Hosts: []string{"db.test"}, Certificate: "own"})
	g.VirtualHosts = nil
	g.Streams = []mesh.Stream{{Service: "db.default", Split: []mesh.Destination{{Service: "db.default", Weight: 1}}}}
	r.apply(svc, map[string]*mesh.Certificate{"own": ca.issue("db.test")}, g)
	c, err := tls.Dial("tcp", r.gateway().Addr().String(), &tls.Config{RootCAs: ca.pool(), ServerName: "db.test", NextProtos: []string{"postgresql"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := strings.Repeat("0123456789", 100_000)
	go func() {
		if _, err := io.WriteString(c, sent); err != nil {
			t.Error(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != sent+" and the end" {
		t.Errorf("%d bytes of %d came back: %v", len(got), len(sent), err)
	}
}

func TestSlowHandshakesAreCutOff(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{HeaderTime: unhurried}})
	ca := newAuthority(t)
	r.apply(service("music.default", r.app(says("hi"))), map[string]*mesh.Certificate{"own": ca.issue("a.test")},
		edge(mesh.ServerTLS{Hosts: []string{"*"}, Certificate: "own"}))
	l := r.gateway()
	hello := make(chan []byte, 1)
	half, other := net.Pipe()
	go func() {
		b := make([]byte, 16<<10)
		n, _ := other.Read(b)
		hello <- b[:n]
		other.Close()
	}()
	if err := tls.Client(half, &tls.Config{ServerName: "a.test"}).Handshake(); err == nil {
		t.Fatal("shook hands with a pipe")
	}
	// The hello comes, and the rest does not.
	c := r.dialTo(l)
	c.send(string(<-hello))
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Error(err) // it has to end, which it does without a reset
	}
}

func TestShutdownDrainsTLS(t *testing.T) {
	for _, two := range []bool{false, true} {
		r := newRig(t, Config{})
		ca := newAuthority(t)
		begun, finish := make(chan bool), make(chan bool)
		app := r.app(func(w http.ResponseWriter, _ *http.Request) {
			begun <- true
			<-finish
			fmt.Fprint(w, "whole")
		})
		r.apply(service("music.default", app), map[string]*mesh.Certificate{"own": ca.issue("a.test")},
			edge(mesh.ServerTLS{Hosts: []string{"*"}, Certificate: "own"}))
		l := r.gateway()
		c := r.overTLS(l, two, &tls.Config{RootCAs: ca.pool()})
		var wg sync.WaitGroup
		wg.Go(func() {
			if status, got := r.get(c, "https://a.test/"); status != 200 || got != "whole" {
				t.Errorf("the request under way: %d %s", status, got)
			}
		})
		<-begun
		ended := make(chan error)
		go func() { ended <- l.Shutdown(t.Context()) }()
		<-l.Stopped()
		finish <- true
		wg.Wait()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestUpgradesInTLS(t *testing.T) {
	r := newRig(t, Config{})
	ca := newAuthority(t)
	app := r.rawApp(func(_ int, c net.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, in) // the test sees what comes back
	})
	r.apply(service("music.default", app), map[string]*mesh.Certificate{"own": ca.issue("a.test")},
		edge(mesh.ServerTLS{Hosts: []string{"*"}, Certificate: "own"}))
	c, err := tls.Dial("tcp", r.gateway().Addr().String(), &tls.Config{RootCAs: ca.pool(), ServerName: "a.test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nearly ")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	fmt.Fprint(c, "and late")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(in); err != nil || string(b) != "early and late" {
		t.Errorf("%q %v came back", b, err)
	}
}
