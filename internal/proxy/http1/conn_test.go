package http1

import (
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/proxy/wire"
)

// A caller that reads nothing can make Next wait in its "100 Continue" while
// the answer comes: the answer fails instead of two tasks writing at once.
func TestTwoTasksDoNotWriteAtOnce(t *testing.T) {
	conn := parseScript(t, `POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`)
	s := NewServerConn(conn, &testLoop{size: 16 << 10}, ServerOptions{}, nil)
	var request wire.Head
	if err := s.ReadRequest(&request); err != nil {
		t.Fatal(err)
	}
	var answered error
	conn.onWrite = func() { answered = s.Answer(&wire.Head{Status: 200}, true) }
	if _, err := s.Next(); err != errBusy {
		t.Errorf("Next: %v, want %v", err, errBusy)
	}
	if answered != errBusy {
		t.Errorf("Answer: %v, want %v", answered, errBusy)
	}
	if want := []string{"HTTP/1.1 100 Continue\r\n\r\n"}; !cmp.Equal(conn.wrote, want) {
		t.Errorf("wrote %q, want %q", conn.wrote, want)
	}
	if s.Finish() {
		t.Error("the connection goes on")
	}
	s.Close()
}

func TestTimeIsLimitedForHeadsAlone(t *testing.T) {
	for _, c := range []struct {
		name, says string
		want       []string
	}{
		{"a head at once", `GET / HTTP/1.1\r\nHost: x\r\n\r\n`, []string{"1m0s", "none"}},
		{"a head in pieces", "G\n~\nE\n~\n" + `T / HTTP/1.1\r\nHost: x\r\n\r\n`, []string{"1m0s", "10s", "none"}},
		{"line ends before", `\r\n` + "\n~\n" + `GET / HTTP/1.1\r\nHost: x\r\n\r\n`, []string{"1m0s", "none"}},
	} {
		conn := parseScript(t, c.says)
		s := NewServerConn(conn, &testLoop{size: 16 << 10}, ServerOptions{IdleTimeout: time.Minute, HeadTimeout: 10 * time.Second}, nil)
		var request wire.Head
		if err := s.ReadRequest(&request); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, conn.limits); diff != "" {
			t.Errorf("%s: deadlines -want +got:\n%s", c.name, diff)
		}
	}
}

func TestBytesReadBeforeComeFirst(t *testing.T) {
	l := &testLoop{size: 64}
	conn := parseScript(t, `st: x\r\nContent-Length: 5\r\n\r\nhello`)
	read := []byte("POST /a-path-that-is-longer-than-a-buffer-of-the-loop-has-room-for HTTP/1.1\r\nHo")
	s := NewServerConn(conn, l, ServerOptions{}, read)
	clear(read)
	var request wire.Head
	if err := s.ReadRequest(&request); err != nil || request.Authority != "x" || len(request.Path) != 61 {
		t.Fatalf("request to %q, path of %d bytes, %v", request.Authority, len(request.Path), err)
	}
	if body, err := s.Next(); string(body) != "hello" || err != nil {
		t.Errorf("body %q, %v", body, err)
	}
	if _, err := s.Next(); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

// FuzzServerConn holds that where the bytes are cut does not matter, and that
// no buffer is lost. (Of a head without its end a mistake may be seen or not.)
func FuzzServerConn(f *testing.F) {
	f.Add([]byte(plainRequest+chunkRequest), uint8(7))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, sent []byte, step uint8) {
		var whole []string
		if len(sent) > 0 {
			whole = []string{string(sent)}
		}
		var cut []string
		for i, n := 0, max(int(step), 1); i < len(sent); i += n {
			cut = append(cut, string(sent[i:min(i+n, len(sent))]))
		}
		if diff := cmp.Diff(serveAll(t, whole), serveAll(t, cut)); diff != "" {
			t.Errorf("%q in pieces of %d: -whole +cut:\n%s", sent, step, diff)
		}
	})
}

func endOf(err error) string {
	if err == io.EOF {
		return "the end"
	}
	return "no more"
}

// serveAll reads requests to the end and answers each.
func serveAll(t *testing.T, segments []string) (seen []string) {
	l := &testLoop{size: 8 << 10, soil: true}
	s := NewServerConn(&scriptConn{segments: segments, end: io.EOF}, l, ServerOptions{}, nil)
	for {
		var request wire.Head
		if err := s.ReadRequest(&request); err != nil {
			seen = append(seen, endOf(err))
			break
		}
		var body []byte
		var failed error
		for failed == nil {
			var piece []byte
			piece, failed = s.Next()
			body = append(body, piece...)
		}
		seen = append(seen, request.Method+" "+request.Path+tellFields(request.Fields), string(body)+tellFields(s.Trailers()), endOf(failed))
		if err := s.Answer(&wire.Head{Status: 200}, true); err != nil {
			t.Fatal(err)
		}
		if !s.Finish() {
			break
		}
	}
	s.Close()
	if l.out != 0 {
		t.Errorf("%d buffers are lent after close", l.out)
	}
	return seen
}

// FuzzClientConn is the same for answers.
func FuzzClientConn(f *testing.F) {
	f.Add([]byte(plainAnswer), uint8(3))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\n"+chunkAnswer), uint8(1))
	f.Add([]byte("HTTP/1.0 200 OK\r\n\r\nhello"), uint8(1))
	f.Fuzz(func(t *testing.T, sent []byte, step uint8) {
		var whole []string
		if len(sent) > 0 {
			whole = []string{string(sent)}
		}
		var cut []string
		for i, n := 0, max(int(step), 1); i < len(sent); i += n {
			cut = append(cut, string(sent[i:min(i+n, len(sent))]))
		}
		if diff := cmp.Diff(callAll(t, whole), callAll(t, cut)); diff != "" {
			t.Errorf("%q in pieces of %d: -whole +cut:\n%s", sent, step, diff)
		}
	})
}

func callAll(t *testing.T, segments []string) (seen []string) {
	l := &testLoop{size: 8 << 10, soil: true}
	c := NewClientConn(&scriptConn{segments: segments, end: io.EOF}, l, wire.Limits{})
	if err := c.Send(&wire.Head{Method: "GET"}, true); err != nil {
		t.Fatal(err)
	}
	for {
		var answer wire.Head
		err := c.Answer(&answer)
		if err != nil {
			seen = append(seen, endOf(err))
			break
		}
		seen = append(seen, tellHead(&answer))
		if answer.Status >= 200 || answer.Status == 101 {
			break
		}
	}
	var body []byte
	var failed error
	for failed == nil {
		var piece []byte
		piece, failed = c.Next()
		body = append(body, piece...)
	}
	seen = append(seen, string(body)+tellFields(c.Trailers()), endOf(failed))
	c.Close()
	if l.out != 0 {
		t.Errorf("%d buffers are lent after close", l.out)
	}
	return seen
}
