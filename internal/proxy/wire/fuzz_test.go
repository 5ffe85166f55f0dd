package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/tools/txtar"
)

// seed adds the corpus of verdicts.
func seed(f *testing.F, kind string) {
	files, err := filepath.Glob("testdata/" + kind + "/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no corpus of %s: %v", kind, err)
	}
	for _, file := range files {
		corpus, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, s := range corpus.Files {
			text, _, _ := strings.Cut(string(s.Data), "----\n")
			f.Add([]byte(unescape(f, text)))
		}
	}
}

// message is what a parser understood: the framing and what is behind.
type message struct {
	Lead   string
	Close  bool
	Body   string
	Failed bool // the body has no proper end
	Next   string
}

// FuzzRequestAgainstNetHTTP holds that what is accepted, net/http accepts too
// and delimits the same way: no request hides from one of them.
func FuzzRequestAgainstNetHTTP(f *testing.F) {
	seed(f, "requests")
	f.Fuzz(func(t *testing.T, sent []byte) {
		buf := bytes.Clone(sent)
		var h Head
		n, err := h.ParseRequest(buf, Limits{})
		if n == 0 || err != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(bytes.TrimLeft(sent, "\r\n"))) // it takes no empty lines first
		req, err := http.ReadRequest(r)
		var target *url.Error
		if errors.As(err, &target) {
			return // it parses paths, which pass here unread
		}
		if err != nil {
			t.Fatalf("accepted %q, net/http: %v", sent, err)
		}
		got := restBehind(&h, buf[n:])
		if got.Failed {
			return // not accepted
		}
		want := restOf(req.Body, r)
		want.Lead = fmt.Sprint(req.Method, " ", req.ProtoMinor)
		want.Close = req.Close
		got.Lead = fmt.Sprint(h.Method, " ", h.Minor)
		if h.Minor == 0 && !h.Close && req.Close {
			// Of "keep-alive, foo" in HTTP/1.0 net/http sees nothing.
			got.Close = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -net/http +here:\n%s", sent, diff)
		}
	})
}

// FuzzAnswerAgainstNetHTTP is the same for answers.
func FuzzAnswerAgainstNetHTTP(f *testing.F) {
	seed(f, "answers")
	f.Fuzz(func(t *testing.T, sent []byte) {
		for _, method := range []string{"GET", "HEAD"} {
			buf := bytes.Clone(sent)
			var h Head
			n, err := h.ParseAnswer(buf, method, Limits{})
			if n == 0 || err != nil {
				continue
			}
			r := bufio.NewReader(bytes.NewReader(sent))
			resp, err := http.ReadResponse(r, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("accepted %q, net/http: %v", sent, err)
			}
			got := restBehind(&h, buf[n:])
			if got.Failed {
				continue // not accepted
			}
			want := restOf(resp.Body, r)
			want.Lead = fmt.Sprint(resp.StatusCode, " ", resp.ProtoMinor)
			got.Lead = fmt.Sprint(h.Status, " ", h.Minor)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q to %s: -net/http +here:\n%s", sent, method, diff)
			}
		}
	})
}

// restOf reads a message of net/http to its end.
func restOf(body io.Reader, r *bufio.Reader) (m message) {
	text, err := io.ReadAll(body)
	m.Body, m.Failed = string(text), err != nil
	if !m.Failed {
		next, err := io.ReadAll(r)
		if err != nil {
			panic(err) // it reads from memory
		}
		m.Next = string(next)
	}
	return m
}

func restBehind(h *Head, rest []byte) (m message) {
	m.Close = h.Close && h.Status == 0
	switch h.Body {
	case NoBody:
		m.Next = string(rest)
	case UntilClose:
		m.Body = string(rest)
	case Sized:
		k := min(h.Length, int64(len(rest)))
		m.Body, m.Failed = string(rest[:k]), k < h.Length
		m.Next = string(rest[k:])
	case Chunked:
		body, _, k, err := dechunk(rest)
		m.Body, m.Failed = string(body), err != nil
		if !m.Failed {
			m.Next = string(rest[k:])
		}
	}
	return m
}

// FuzzChunks holds that a body has the same content wherever it is cut, and that
// what is accepted, net/http decodes to the same.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), uint8(1))
	f.Add([]byte("5;a=\"b\"\r\nhello\r\n1\r\n!\r\n000\r\nSum: 7\r\nHost: x\r\n\r\nGET"), uint8(3))
	f.Add([]byte("fffffffffffffffff\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, sent []byte, step uint8) {
		body, trailers, n, err := dechunk(bytes.Clone(sent))
		got, gotTrailers, gotN, gotErr := dechunkCut(bytes.Clone(sent), max(int(step), 1))
		if (err == nil) != (gotErr == nil) || err == nil && (n != gotN || !bytes.Equal(body, got) || !cmp.Equal(trailers, gotTrailers)) {
			t.Errorf("%q: whole %q %v %d %v, in pieces of %d %q %v %d %v", sent, body, trailers, n, err, step, got, gotTrailers, gotN, gotErr)
		}
		if err != nil {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(sent)))
		if err != nil || !bytes.Equal(body, want) {
			t.Errorf("%q: %q, net/http reads %q, %v", sent, body, want, err)
		}
	})
}

// dechunkCut decodes a body of which step more bytes come at a time.
func dechunkCut(sent []byte, step int) (body []byte, trailers []Field, n int, err error) {
	var c Chunks
	for end := 0; ; {
		data, k, done, err := c.Next(sent[n:end])
		body = append(body, data...)
		n += k
		switch {
		case err != nil:
			return body, nil, n, err
		case done:
			return body, c.Trailers(), n, nil
		case k > 0:
		case end == len(sent):
			return body, nil, n, errIncomplete
		default:
			end = min(end+step, len(sent))
		}
	}
}

// FuzzAppendParse holds that a head is read as it was written, and written
// again as it was read.
func FuzzAppendParse(f *testing.F) {
	seed(f, "requests")
	f.Fuzz(func(t *testing.T, sent []byte) {
		var h Head
		if n, err := h.ParseRequest(sent, Limits{}); n == 0 || err != nil || h.Minor == 0 {
			return // HTTP/1.0 becomes 1.1, which wants a host
		}
		first := h.AppendRequest(nil)
		var again Head
		n, err := again.ParseRequest(bytes.Clone(first), Limits{HeadBytes: 2 * DefaultHeadBytes})
		if err != nil || n != len(first) {
			t.Fatalf("%q was written as %q, of which %d bytes are read: %v", sent, first, n, err)
		}
		if second := again.AppendRequest(nil); !bytes.Equal(first, second) {
			t.Errorf("written as %q, then as %q", first, second)
		}
		again.Scheme, again.Major, again.Minor = h.Scheme, h.Major, h.Minor
		if diff := cmp.Diff(h, again, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Head{})); diff != "" {
			t.Errorf("%q: -read +read again:\n%s", sent, diff)
		}
	})
}

// FuzzPoliciesCannotSplit puts arbitrary strings where policies can, and looks
// at what comes out: one head, of the fields that are fields.
func FuzzPoliciesCannotSplit(f *testing.F) {
	f.Add("x-a", "b\r\nContent-Length: 5", "/a b\r\n", "host\r\nX: y", "GET /")
	f.Add("content-length", "5", "/", "host", "POST")
	f.Add("a: b\r\nc", "d", "", "", "")
	f.Fuzz(func(t *testing.T, name, value, path, authority, method string) {
		h := Head{Method: method, Path: path, Authority: authority, Status: 200, Upgrade: value}
		h.Add(name, value)
		h.Add("x-last", "1")
		for kind, written := range map[string][]byte{"request": h.AppendRequest(nil), "answer": h.AppendAnswer(nil)} {
			head, rest, _ := bytes.Cut(written, []byte("\r\n\r\n"))
			if len(rest) > 0 {
				t.Fatalf("%s: %q is more than a head", kind, written)
			}
			for i, line := range strings.Split(string(head), "\r\n") {
				if strings.ContainsAny(line, "\r\n\x00") {
					t.Errorf("%s: line %q", kind, line)
				}
				got, _, _ := strings.Cut(line, ":")
				switch got {
				case "host", "upgrade", "connection", "content-length", "x-last", strings.ToLower(name), name:
				default:
					if i > 0 {
						t.Errorf("%s: line %q of a field that nobody set", kind, line)
					}
				}
			}
			if n := bytes.Count(head, []byte("\r\ncontent-length:")); n > 1 {
				t.Errorf("%s: %q has %d lengths", kind, head, n)
			}
		}
	})
}
