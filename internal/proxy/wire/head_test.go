package wire

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fields(pairs ...string) (list []Field) {
	for pair := range slices.Chunk(pairs, 2) {
		list = append(list, Field{pair[0], pair[1]})
	}
	return list
}

func TestFieldsAreEditedInPlace(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Head)
		want []Field
	}{
		{"set takes the first place and removes the others", func(h *Head) { h.Set("a", "9") }, fields("a", "9", "b", "2", "c", "4")},
		{"set appends what is new", func(h *Head) { h.Set("d", "9") }, fields("a", "1", "b", "2", "a", "3", "c", "4", "d", "9")},
		{"set of the last", func(h *Head) { h.Set("c", "9") }, fields("a", "1", "b", "2", "a", "3", "c", "9")},
		{"add appends", func(h *Head) { h.Add("a", "9") }, fields("a", "1", "b", "2", "a", "3", "c", "4", "a", "9")},
		{"del removes all", func(h *Head) { h.Del("a") }, fields("b", "2", "c", "4")},
		{"del of nothing", func(h *Head) { h.Del("d") }, fields("a", "1", "b", "2", "a", "3", "c", "4")},
	} {
		h := Head{Fields: fields("a", "1", "b", "2", "a", "3", "c", "4")}
		c.edit(&h)
		if diff := cmp.Diff(c.want, h.Fields); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.name, diff)
		}
	}
	h := Head{Fields: fields("a", "1", "b", "2", "a", "3")}
	if got := slices.Collect(h.Values("a")); !slices.Equal(got, []string{"1", "3"}) {
		t.Errorf("Values(a) = %q", got)
	}
	if got, ok := h.Get("a"); got != "1" || !ok {
		t.Errorf("Get(a) = %q, %v", got, ok)
	}
	if got, ok := h.Get("d"); got != "" || ok {
		t.Errorf("Get(d) = %q, %v", got, ok)
	}
}

func TestHeadsAreWritten(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nhost: x\r\n"
	for _, c := range []struct {
		name string
		head Head
		want string
	}{
		{"request", Head{Method: "GET", Path: "/a?b", Authority: "x", Fields: fields("a", "1")}, "GET /a?b HTTP/1.1\r\nhost: x\r\na: 1\r\n\r\n"},
		{"without a path", Head{Method: "GET", Authority: "x"}, get + "\r\n"},
		{"CONNECT", Head{Method: "CONNECT", Authority: "x:1"}, "CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n"},
		{"everything of the connection", Head{Method: "GET", Authority: "x", Close: true, Upgrade: "websocket", TrailersOK: true, Expect100: true, Body: Chunked},
			get + "transfer-encoding: chunked\r\nexpect: 100-continue\r\nte: trailers\r\nupgrade: websocket\r\nconnection: close, upgrade, te\r\n\r\n"},
		{"a request cannot end with its connection", Head{Method: "GET", Authority: "x", Body: UntilClose}, get + "transfer-encoding: chunked\r\nconnection: close\r\n\r\n"},
		{"POST without a body says so", Head{Method: "POST", Authority: "x"}, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"},
		{"framing in fields is not ours", Head{Method: "GET", Authority: "x", Body: Sized, Length: 5, Fields: fields("content-length", "7", "transfer-encoding", "chunked", "host", "y", "connection", "a", "a", "1")},
			get + "a: 1\r\ncontent-length: 5\r\n\r\n"},
		{"fields that are none", Head{Method: "GET", Authority: "x", Fields: fields("a\r\nb", "1", "", "1", "a b", "1", "a:", "1", "ok", "a\r\nb", "ok", "a\nb", "ok", "a\x00b", "fine", "a\tb")},
			get + "fine: a\tb\r\n\r\n"},
		{"a target that is none", Head{Method: "GET", Path: "/a b\r\nX: y\x7f\xff#", Authority: "x"}, "GET /a%20b%0D%0AX:%20y%7F%FF%23 HTTP/1.1\r\nhost: x\r\n\r\n"},
		{"a host that is none", Head{Method: "GET", Authority: "x\r\nX: y"}, "GET / HTTP/1.1\r\nhost: \r\n\r\n"},
		{"a method that is none", Head{Method: "GET / HTTP/1.1\r\n", Authority: "x"}, "GET%20/%20HTTP/1.1%0D%0A / HTTP/1.1\r\nhost: x\r\n\r\n"},

		{"answer", Head{Status: 200, Body: Sized, Length: 5, Fields: fields("a", "1")}, "HTTP/1.1 200 OK\r\na: 1\r\ncontent-length: 5\r\n\r\n"},
		{"answer without a body", Head{Status: 404}, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"},
		{"answer of unknown status", Head{Status: 299}, "HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n"},
		{"answer of no status", Head{Status: 7}, "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"},
		{"answer in chunks", Head{Status: 200, Body: Chunked}, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"},
		{"answer until the end", Head{Status: 200, Body: UntilClose}, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"},
		{"100", Head{Status: 100}, "HTTP/1.1 100 Continue\r\n\r\n"},
		{"101", Head{Status: 101, Upgrade: "websocket"}, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"},
		{"204", Head{Status: 204}, "HTTP/1.1 204 No Content\r\n\r\n"},
		{"304 with a length told", Head{Status: 304, Length: 5}, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"},
		{"304 without", Head{Status: 304, Length: -1}, "HTTP/1.1 304 Not Modified\r\n\r\n"},
		{"answer to HEAD without a length", Head{Status: 200, Length: -1}, "HTTP/1.1 200 OK\r\n\r\n"},
	} {
		write := c.head.AppendRequest
		if c.head.Status != 0 {
			write = c.head.AppendAnswer
		}
		if got := string(write([]byte("before "))); got != "before "+c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestChunksAreWritten(t *testing.T) {
	for size, want := range map[int]string{1: "1\r\n", 15: "f\r\n", 16: "10\r\n", 4096: "1000\r\n", 1<<31 - 1: "7fffffff\r\n"} {
		if got := string(AppendChunkHeader(nil, size)); got != want {
			t.Errorf("chunk of %d: %q, want %q", size, got, want)
		}
	}
	got := string(AppendLastChunk(nil, fields("grpc-status", "0", "content-length", "5", "authorization", "me", "a", "b\r\nc")))
	if want := "0\r\ngrpc-status: 0\r\n\r\n"; got != want {
		t.Errorf("last chunk %q, want %q", got, want)
	}
}

func TestLimitsHold(t *testing.T) {
	head := func(lines int, value string) string {
		return "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a: "+value+"\r\n", lines) + "\r\n"
	}
	for _, c := range []struct {
		name, sent string
		limits     Limits
		status     int // 0: accepted
	}{
		{"as many fields as may be", head(99, "b"), Limits{}, 0},
		{"one field more", head(100, "b"), Limits{}, 431},
		{"a limit of one's own", head(2, "b"), Limits{Fields: 2}, 431},
		{"as many bytes as may be", head(1, strings.Repeat("b", 70)), Limits{HeadBytes: 102}, 0},
		{"one byte more", head(1, strings.Repeat("b", 71)), Limits{HeadBytes: 102}, 431},
		{"bytes without an end", strings.TrimSuffix(head(1, strings.Repeat("b", DefaultHeadBytes)), "\r\n"), Limits{}, 431},
		{"a body is not the head's", head(1, "b") + strings.Repeat("b", DefaultHeadBytes), Limits{}, 0},
		{"a long target", "GET /" + strings.Repeat("b", DefaultHeadBytes), Limits{}, 414},
	} {
		var h Head
		n, err := h.ParseRequest([]byte(c.sent), c.limits)
		status := 0
		if refused, ok := err.(*ParseError); ok {
			status = refused.Status
		}
		if status != c.status || (n == 0) != (c.status != 0) {
			t.Errorf("%s: %d bytes, %v; want status %d", c.name, n, err, c.status)
		}
	}
	for name, body := range map[string]string{
		"a long extension":     "5;" + strings.Repeat("a", 300) + "\r\n",
		"many extensions":      strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\na\r\n", 50),
		"many trailers":        "0\r\n" + strings.Repeat("a: b\r\n", 101) + "\r\n",
		"large trailers":       "0\r\na: " + strings.Repeat("b", DefaultHeadBytes),
		"an extension, no end": "5;" + strings.Repeat("a", 300),
	} {
		if _, _, _, err := dechunk([]byte(body)); err == nil || err == errIncomplete {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

// A head that comes byte by byte is accepted at its last byte, not before.
func TestAHeadMayComeInPieces(t *testing.T) {
	for name, parse := range map[string]func(*Head, []byte) (int, error){
		typicalRequest: func(h *Head, buf []byte) (int, error) { return h.ParseRequest(buf, Limits{}) },
		typicalAnswer:  func(h *Head, buf []byte) (int, error) { return h.ParseAnswer(buf, "GET", Limits{}) },
	} {
		var h Head
		buf := []byte(name)
		for end := range len(buf) {
			if n, err := parse(&h, buf[:end]); n != 0 || err != nil {
				t.Fatalf("%q: %d, %v", buf[:end], n, err)
			}
		}
		if n, err := parse(&h, buf); n != len(buf) || err != nil {
			t.Errorf("%q: %d, %v", buf, n, err)
		}
	}
}

func TestParsingAndWritingAllocateNothing(t *testing.T) {
	request, answer := []byte(typicalRequest), []byte(typicalAnswer)
	body := []byte("5\r\nhello\r\n0\r\nsum: 7\r\n\r\n")
	dst := make([]byte, 0, 1024)
	var h, a Head
	var c Chunks
	n := testing.AllocsPerRun(100, func() {
		if n, err := h.ParseRequest(request, Limits{}); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		h.Set("x-a", "1")
		h.Del("accept")
		for range h.Values("cookie") {
			h.Get("user-agent")
		}
		dst = h.AppendRequest(dst[:0])
		if n, err := a.ParseAnswer(answer, "GET", Limits{}); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		dst = a.AppendAnswer(dst[:0])
		c.Reset()
		for n, done := 0, false; !done; {
			var k int
			_, k, done, _ = c.Next(body[n:])
			n += k
		}
		dst = AppendLastChunk(AppendChunkHeader(dst[:0], 5), c.Trailers())
	})
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
