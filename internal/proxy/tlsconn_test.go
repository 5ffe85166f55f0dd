package proxy

import (
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/loop"
)

// TestTLSConnCarriesWhatIsWritten: whatever the sizes of what is written and
// read, however a task waits, and though both sides send at once.
func TestTLSConnCarriesWhatIsWritten(t *testing.T) {
	ca := newAuthority(t)
	pair := ca.pair(ca.issue("peer.test"))
	l, err := loop.New(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	go l.Run()
	defer l.Stop()
	for seed := range uint64(40) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		version := uint16(tls.VersionTLS12 + seed%2)
		ended := make(chan bool)
		l.Post(func() {
			l.Go(func(task *loop.Task) {
				defer close(ended)
				raw, err := l.Dial(ln.Addr().(*net.TCPAddr).AddrPort(), time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				c, err := callTLS(raw, &tls.Config{RootCAs: ca.pool(), ServerName: "peer.test", MaxVersion: version}, l.Now().Add(time.Minute))
				if err != nil {
					t.Error(err)
					return
				}
				echoAtRandom(t, task, c, rand.New(rand.NewPCG(seed, 1)))
			})
		})
		raw, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		speakAtRandom(t, tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}}), rand.New(rand.NewPCG(seed, 2)))
		raw.Close()
		<-ended
	}
}

// sizeAtRandom is often small, and sometimes above all buffers.
func sizeAtRandom(r *rand.Rand) int { return 1 + r.IntN(1<<(1+r.IntN(17))) }

// echoAtRandom sends back what comes, until it ends.
func echoAtRandom(t *testing.T, task *loop.Task, c *tlsConn, r *rand.Rand) {
	defer c.Close()
	buf := make([]byte, 1<<18)
	for {
		if r.IntN(2) == 0 {
			if err := await(task, c, task.Wake); err != nil {
				t.Error(err)
				return
			}
			if !c.Readable() {
				t.Error("not readable though it was told so")
			}
		}
		n, err := c.Read(buf[:sizeAtRandom(r)])
		if err == io.EOF {
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		if r.IntN(2) == 0 {
			_, err = c.Write(buf[:n])
		} else {
			k := r.IntN(n + 1)
			err = c.WriteTwo(buf[:k], buf[k:n])
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// speakAtRandom sends, and looks whether that comes back.
func speakAtRandom(t *testing.T, c *tls.Conn, r *rand.Rand) {
	const all = 1 << 19
	go func() {
		buf := make([]byte, 1<<18)
		for sent := 0; sent < all; {
			p := buf[:min(sizeAtRandom(r), all-sent)]
			for i := range p {
				p[i] = byte((sent + i) * 7 >> 3)
			}
			n, err := c.Write(p)
			if err != nil {
				t.Error(err)
				return
			}
			sent += n
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(c)
	if err != nil || len(got) != all {
		t.Errorf("%d of %d bytes came back: %v", len(got), all, err)
	}
	for i, b := range got {
		if b != byte(i*7>>3) {
			t.Fatalf("byte %d was changed", i)
		}
	}
}

// TestTicketsAreNothingToRead: what TLS itself has to say must not look like
// an answer, or no connection to an endpoint could be kept.
func TestTicketsAreNothingToRead(t *testing.T) {
	r := newRig(t, Config{Loops: 1})
	ca := newAuthority(t)
	app, asked := r.appTLS(&tls.Config{Certificates: []tls.Certificate{ca.pair(ca.issue("music.default"))}, MinVersion: tls.VersionTLS13}, false, says("hi"))
	svc := service("music.default", app)
	svc.Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {TLS: &mesh.ClientTLS{CA: "ca"}}}
	r.apply(svc, map[string]*mesh.Certificate{"ca": {CA: ca.pem}})
	_, c := r.outbound()
	for range 10 {
		if status, got := r.get(c, "http://music/"); status != 200 {
			t.Fatalf("%d %s", status, got)
		}
	}
	if n := len(asked()); n != 1 {
		t.Errorf("%d handshakes, want 1", n)
	}
}
