package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"serin.dev/serin/test/story"
)

// TestVerdicts holds the corpus of testdata. A section is one message: its
// bytes with Go's escapes, where the ends of the file's lines mean nothing and
// lines with "#" say why; then "----" and what is understood, or the refusal. The
// name of a section in answers may begin with "HEAD: " or another method.
func TestVerdicts(t *testing.T) {
	for kind, verdict := range map[string]func(name, message string) string{"requests": requestVerdict, "answers": answerVerdict} {
		story.EachArchive(t, "testdata/"+kind+"/*.txtar", func(t *testing.T, told *txtar.Archive) {
			for i := range told.Files {
				f := &told.Files[i]
				text, _, _ := strings.Cut(string(f.Data), story.Rule)
				f.Data = []byte(text + story.Rule + verdict(f.Name, unescape(t, text)))
			}
		})
	}
}

func unescape(t testing.TB, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		s, err := strconv.Unquote(`"` + strings.ReplaceAll(line, `"`, `\"`) + `"`)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		b.WriteString(s)
	}
	return b.String()
}

func requestVerdict(_, message string) string {
	var h Head
	n, err := h.ParseRequest([]byte(message), Limits{})
	var b strings.Builder
	if n > 0 {
		fmt.Fprintf(&b, "%s HTTP/%d.%d\n", h.Method, h.Major, h.Minor)
		fmt.Fprintf(&b, "scheme=%q authority=%q path=%q\n", h.Scheme, h.Authority, h.Path)
	}
	return b.String() + restOfVerdict(&h, message, n, err)
}

func answerVerdict(name, message string) string {
	method, _, ok := strings.Cut(name, ": ")
	if !ok {
		method = "GET"
	}
	var h Head
	n, err := h.ParseAnswer([]byte(message), method, Limits{})
	var b strings.Builder
	if n > 0 {
		fmt.Fprintf(&b, "HTTP/%d.%d %d\n", h.Major, h.Minor, h.Status)
	}
	return b.String() + restOfVerdict(&h, message, n, err)
}

// restOfVerdict tells fields, framing, body, and what is left for a next message.
func restOfVerdict(h *Head, message string, n int, err error) string {
	if err != nil {
		return refusal(err)
	}
	if n == 0 {
		return "incomplete\n"
	}
	var b strings.Builder
	for _, f := range h.Fields {
		fmt.Fprintf(&b, "%s: %q\n", f.Name, f.Value)
	}
	for _, said := range []struct {
		what string
		is   bool
	}{
		{"close", h.Close},
		{"upgrade=" + strconv.Quote(h.Upgrade), h.Upgrade != ""},
		{"expect 100", h.Expect100},
		{"trailers ok", h.TrailersOK},
	} {
		if said.is {
			fmt.Fprintln(&b, said.what)
		}
	}
	rest := []byte(message[n:])
	switch h.Body {
	case NoBody:
		fmt.Fprintf(&b, "no body, length %d", h.Length)
	case Sized:
		body := rest[:min(h.Length, int64(len(rest)))]
		fmt.Fprintf(&b, "body of %d: %q", h.Length, body)
		rest = rest[len(body):]
	case UntilClose:
		fmt.Fprintf(&b, "body until close: %q", rest)
		rest = nil
	case Chunked:
		body, trailers, k, err := dechunk(rest)
		fmt.Fprintf(&b, "chunks: %q", body)
		if err != nil {
			return b.String() + "\n" + refusal(err)
		}
		for _, f := range trailers {
			fmt.Fprintf(&b, "\ntrailer %s: %q", f.Name, f.Value)
		}
		rest = rest[k:]
	}
	if len(rest) > 0 {
		fmt.Fprintf(&b, "\nnext: %q", rest)
	}
	return b.String() + "\n"
}

func refusal(err error) string {
	if err == errIncomplete {
		return "incomplete\n"
	}
	var refused *ParseError
	if !errors.As(err, &refused) {
		return "not a ParseError: " + err.Error() + "\n"
	}
	return fmt.Sprintf("%d %s\n", refused.Status, refused.Reason)
}

var errIncomplete = errors.New("incomplete")

// dechunk decodes a whole body.
func dechunk(buf []byte) (body []byte, trailers []Field, n int, err error) {
	var c Chunks
	for {
		data, k, done, err := c.Next(buf[n:])
		body = append(body, data...)
		n += k
		switch {
		case err != nil:
			return body, nil, n, err
		case done:
			return body, c.Trailers(), n, nil
		case k == 0:
			return body, nil, n, errIncomplete
		}
	}
}
