package proxy

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/proxy/loop"
)

// helloOf is what a client of crypto/tls sends first.
func helloOf(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if err := near.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	go tls.Client(far, c).Handshake()
	var head [recordHead]byte
	if _, err := io.ReadFull(near, head[:]); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(near, body); err != nil {
		t.Fatal(err)
	}
	return append(head[:], body...)
}

func TestTheNameThatAClientAsksForIsRead(t *testing.T) {
	for name, test := range map[string]struct {
		config *tls.Config
		want   string
	}{
		"TLS 1.3":    {&tls.Config{ServerName: "music.example.org"}, "music.example.org"},
		"TLS 1.2":    {&tls.Config{ServerName: "music.example.org", MaxVersion: tls.VersionTLS12}, "music.example.org"},
		"upper case": {&tls.Config{ServerName: "Music.Example.Org"}, "music.example.org"},
		"with ALPN":  {&tls.Config{ServerName: "a.b", NextProtos: []string{"h2", "http/1.1"}}, "a.b"},
		"no name":    {&tls.Config{InsecureSkipVerify: true}, ""},
		"an address": {&tls.Config{ServerName: "127.0.0.1"}, ""},
		"long":       {&tls.Config{ServerName: strings.Repeat("a.", 120) + "org"}, strings.Repeat("a.", 120) + "org"},
	} {
		t.Run(name, func(t *testing.T) {
			b := helloOf(t, test.config)
			for n := range len(b) {
				if h, known := parseHello(b[:n]); known {
					t.Fatalf("the first %d of %d bytes are taken for %+v", n, len(b), h)
				}
			}
			more := append(slices.Clone(b), "early data"...)
			for _, b := range [][]byte{b, more, inRecords(b, 1), inRecords(b, 100)} {
				if h, known := parseHello(b); !known || !h.tls || h.serverName != test.want {
					t.Errorf("found %+v, %t; want TLS for %q", h, known, test.want)
				}
			}
		})
	}
}

// inRecords divides a ClientHello over records of so many bytes.
func inRecords(b []byte, size int) []byte {
	var out []byte
	for part := range slices.Chunk(b[recordHead:], size) {
		out = append(out, b[0], b[1], b[2], byte(len(part)>>8), byte(len(part)))
		out = append(out, part...)
	}
	return out
}

func TestWhatIsNoClientHelloIsNotTakenForOne(t *testing.T) {
	good := helloOf(t, &tls.Config{ServerName: "music.example.org"})
	changed := func(at int, to ...byte) []byte {
		b := slices.Clone(good)
		copy(b[at:], to)
		return b
	}
	at := strings.Index(string(good), "music.example.org")
	for name, b := range map[string][]byte{
		"a request":                  []byte("GET / HTTP/1.1\r\n"),
		"one byte":                   []byte("G"),
		"SSL 2.0":                    {0x80, 0x2e, 1, 3, 1},
		"an alert":                   {21, 3, 1, 0, 2, 1, 0},
		"an empty record":            {22, 3, 1, 0, 0},
		"a ServerHello":              changed(recordHead, 2),
		"a message without end":      changed(recordHead+1, 0xff),
		"a session beyond the end":   changed(recordHead+messageHead+34, 0xff),
		"a name of other characters": changed(at, ' '),
		"a name with a zero":         changed(at, 0),
		"a name beyond its list":     changed(at-2, 0xff),
		"a list beyond its end":      changed(at-5, 0xff),
		"an empty name":              changed(at-2, 0, 0),
	} {
		if h, known := parseHello(b); !known || h != (hello{}) {
			t.Errorf("%s: found %+v, %t; want to know that it is none", name, h, known)
		}
	}
}

// onALoop runs f in a task with a connection, of which the test has the other
// end.
func onALoop(t *testing.T, f func(c *loop.Conn)) net.Conn {
	t.Helper()
	g, err := loop.NewGroup(1, loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := g.Listen("127.0.0.1:0", func(c *loop.Conn) {
		c.Loop().Go(func(*loop.Task) {
			defer c.Close()
			f(c)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		far.Close()
		ln.Close()
		if err := g.Stop(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return far
}

type helloRead struct {
	early []byte
	hello hello
	err   error
}

func TestAHelloIsReadWithinBounds(t *testing.T) {
	good := helloOf(t, &tls.Config{ServerName: "music.example.org"})
	for name, test := range map[string]struct {
		send []byte
		end  bool
		want hello
		err  error
	}{
		"whole":         {send: good, want: hello{true, "music.example.org"}},
		"in pieces":     {send: inRecords(good, 7), want: hello{true, "music.example.org"}},
		"silent":        {err: os.ErrDeadlineExceeded},
		"half":          {send: good[:50], err: os.ErrDeadlineExceeded},
		"ended":         {end: true, err: io.EOF},
		"ended halfway": {send: good[:50], end: true, err: io.EOF},
		"too long":      {send: slices.Concat([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x40, 0}, make([]byte, maxHello))},
	} {
		t.Run(name, func(t *testing.T) {
			within := time.Minute
			if test.err == os.ErrDeadlineExceeded {
				within = 20 * time.Millisecond
			}
			got := make(chan helloRead, 1)
			far := onALoop(t, func(c *loop.Conn) {
				early, h, err := readHello(c.Loop(), c, nil, within)
				got <- helloRead{early, h, err}
			})
			if _, err := far.Write(test.send); err != nil {
				t.Fatal(err)
			}
			if test.end {
				far.(*net.TCPConn).CloseWrite()
			}
			r := <-got
			if r.err != test.err || r.hello != test.want {
				t.Errorf("read %+v, %v; want %+v, %v", r.hello, r.err, test.want, test.err)
			}
			if !strings.HasPrefix(string(test.send), string(r.early)) || r.err == nil && len(r.early) == 0 {
				t.Errorf("%d bytes handed back that were not sent", len(r.early))
			}
		})
	}
}

func FuzzHello(f *testing.F) {
	good := helloOf(f, &tls.Config{ServerName: "music.example.org"})
	f.Add(good)
	f.Add(good[:60])
	f.Add(inRecords(good, 9))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, known := parseHello(b)
		if h.serverName != "" && (!h.tls || !known) {
			t.Fatalf("a name without a ClientHello: %+v", h)
		}
		if _, _, ok := checkedHost(h.serverName, 0, true); h.serverName != "" && !ok {
			t.Fatalf("%q is no host", h.serverName)
		}
		// Once it is known, what follows does not change it.
		if again, still := parseHello(append(slices.Clone(b), 22, 3, 1)); known && (!still || again != h) {
			t.Fatalf("%+v became %+v by more bytes", h, again)
		}
		// crypto/tls, where it accepts a name, sees the same.
		if known && h.tls {
			if name, ok := nameByTLS(b); ok && name != h.serverName {
				t.Fatalf("found %q, crypto/tls %q", h.serverName, name)
			}
		}
	})
}

// nameByTLS asks crypto/tls for the name in a ClientHello. ok is false when it
// does not take it for one.
func nameByTLS(b []byte) (name string, ok bool) {
	_ = tls.Server(replay{nil, bytes.NewReader(b)}, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = strings.ToLower(h.ServerName), true
		return nil, io.EOF
	}}).Handshake() // it fails in any case
	return name, ok
}

// replay is a connection on which some bytes arrive, and that takes all.
type replay struct {
	net.Conn
	*bytes.Reader
}

func (r replay) Read(p []byte) (int, error)  { return r.Reader.Read(p) }
func (r replay) Write(p []byte) (int, error) { return len(p), nil }
