package http2

import (
	"io"
	"net"
	"testing"
	"time"

	"serin.dev/serin/internal/proxy/wire"
)

// FuzzServer sends any bytes behind the preface. The server must neither panic
// nor keep a connection whose peer has ended it.
func FuzzServer(f *testing.F) {
	settings := appendHeader(nil, 0, frameSettings, 0, 0)
	e := newEncoder()
	request := appendBlock(nil, e.request(&wire.Head{Method: "GET", Authority: "a", Path: "/"}), 1, false, frameSize)
	f.Add(settings)
	f.Add(append(append([]byte{}, settings...), request...))
	f.Add(append(append(append([]byte{}, settings...), request...), appendReset(nil, 1, Cancel)...))
	f.Add(append(append([]byte{}, settings...), appendGoAway(nil, 0, NoError, "")...))
	address := serve(f, Limits{Streams: 5, Window: 1000}, echo)
	f.Fuzz(func(t *testing.T, frames []byte) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			// The server may close before it has read everything.
			_, _ = conn.Write(append([]byte(Preface), frames...))
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Errorf("the server keeps a connection whose peer has ended it")
			}
		}
	})
}

// FuzzFields decodes any block. A head that is accepted must be one that
// HTTP/1.1 can carry: written out, it reads the same.
func FuzzFields(f *testing.F) {
	e := newEncoder()
	h := wire.Head{Method: "GET", Authority: "music", Path: "/a?b"}
	h.Add("x-color", "yellow")
	f.Add(append([]byte{}, e.request(&h)...))
	f.Fuzz(func(t *testing.T, fragment []byte) {
		b := newBlock(Limits{}.withDefaults().Head)
		var h wire.Head
		if err := b.decode(fragment, &h, false, false); err != nil || b.err != nil || b.large || h.Method == "CONNECT" {
			return
		}
		var back wire.Head
		text := h.AppendRequest(nil)
		n, err := back.ParseRequest(text, wire.Limits{})
		if err != nil || n != len(text) {
			t.Fatalf("%q is accepted but cannot be passed on: %v", text, err)
		}
		if back.Method != h.Method || back.Path != h.Path || back.Authority != h.Authority || len(back.Fields) != len(h.Fields) {
			t.Errorf("%+v became %+v", h, back)
		}
	})
}
