package http1

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/test/story"
)

// TestStories holds testdata: each file is a story of one connection. "peer" is
// what the other end says (parseScript), "do" what is called, "happens" what
// comes of it: results in the order of calls, then each write, then the end.
//
// The results and the bytes written must be the same wherever what the peer
// says is cut, unless the story says "# uncut" because cuts are its subject.
func TestStories(t *testing.T) {
	for dir, start := range map[string]func(*scriptConn, Loop) actor{"server": newServer, "client": newClient} {
		t.Run(dir, func(t *testing.T) {
			story.EachArchive(t, "testdata/"+dir+"/*.txtar", func(t *testing.T, told *txtar.Archive) {
				if len(told.Files) != 3 || told.Files[0].Name != "peer" || told.Files[1].Name != "do" || told.Files[2].Name != "happens" {
					t.Fatal("want the files peer, do, happens")
				}
				peer, do := string(told.Files[0].Data), string(told.Files[1].Data)
				script := parseScript(t, peer)
				got := play(t, script.segments, script.end, do, start)
				told.Files[2].Data = []byte(got.tell())
				if strings.Contains(peer, "# uncut") {
					return
				}
				splits(script.segments, func(segments []string) bool {
					cut := play(t, segments, script.end, do, start)
					cut.wrote, got.wrote = []string{strings.Join(cut.wrote, "")}, []string{strings.Join(got.wrote, "")}
					if diff := cmp.Diff(got.tell(), cut.tell()); diff != "" {
						t.Errorf("cut at %d of %d: -whole +cut:\n%s", len(segments[0]), len(strings.Join(segments, "")), diff)
						return false
					}
					return true
				})
			})
		})
	}
}

// outcome is what a story leads to.
type outcome struct {
	results []string
	wrote   []string
	ended   string
}

func (o *outcome) tell() string {
	var b strings.Builder
	for _, r := range o.results {
		b.WriteString(r + "\n")
	}
	for _, w := range o.wrote {
		b.WriteString("wrote " + short(w) + "\n")
	}
	if o.ended != "" {
		b.WriteString(o.ended + "\n")
	}
	return b.String()
}

// short quotes s, with the middle of a long run of one letter left out.
func short(s string) string {
	for _, letter := range []string{"a", "x"} {
		if run := strings.Repeat(letter, 64); strings.Contains(s, run) {
			first, last := strings.Index(s, run), strings.LastIndex(s, run)+len(run)
			return fmt.Sprintf("%q… %d bytes …%q", s[:first+3], last-first, s[last-3:])
		}
	}
	return strconv.Quote(s)
}

// actor does one step of a story and tells what came of it; "" is success
// without more to say.
type actor interface {
	do(verb string, args []string) string
}

func play(t *testing.T, segments []string, end error, do string, start func(*scriptConn, Loop) actor) *outcome {
	conn := &scriptConn{segments: append([]string(nil), segments...), end: end}
	l := &testLoop{size: 16 << 10, soil: true}
	a := start(conn, l)
	o := &outcome{}
	closed := false
	for line := range strings.Lines(do) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
			continue
		case words[0] == "peer-is-deaf":
			conn.writeErr = errTest
			continue
		}
		closed = words[0] == "close"
		result := a.do(words[0], words[1:])
		if result == "?" {
			t.Fatalf("unknown step %q", line)
		}
		if result != "" {
			o.results = append(o.results, words[0]+": "+result)
		}
	}
	if closed && l.out != 0 {
		t.Errorf("%d buffers are lent after close", l.out)
	}
	o.wrote, o.ended = conn.wrote, conn.ended
	return o
}

type serverActor struct {
	s *ServerConn
	l Loop
	h wire.Head
}

func newServer(c *scriptConn, l Loop) actor {
	return &serverActor{s: NewServerConn(c, l, ServerOptions{IdleTimeout: time.Minute, HeadTimeout: 10 * time.Second}, nil), l: l}
}

func (a *serverActor) do(verb string, args []string) string {
	switch verb {
	case "request":
		if err := a.s.ReadRequest(&a.h); err != nil {
			return tellErr(err)
		}
		return fmt.Sprintf("%s %s %s%s", a.h.Method, a.h.Authority, a.h.Path, tellHead(&a.h))
	case "inform":
		h, _ := makeHead(args)
		return tellErr(a.s.Inform(h))
	case "answer":
		return tellErr(a.s.Answer(makeHead(args)))
	case "closeafter":
		a.s.CloseAfter()
		return ""
	case "idle":
		return fmt.Sprint(a.s.Idle())
	case "finish":
		return fmt.Sprint(a.s.Finish())
	case "hijack":
		read, err := a.s.Hijack()
		return fmt.Sprintf("%q %s", read, tellErr(err))
	case "close":
		a.s.Close()
		return ""
	}
	return doHalves(a.s, verb, args)
}

type clientActor struct {
	c *ClientConn
	h wire.Head
}

func newClient(c *scriptConn, l Loop) actor {
	return &clientActor{c: NewClientConn(c, l, wire.Limits{})}
}

func (a *clientActor) do(verb string, args []string) string {
	switch verb {
	case "send":
		h, end := makeHead(args[2:])
		h.Method, h.Path, h.Authority = args[0], args[1], "callee"
		return tellErr(a.c.Send(h, end))
	case "answer":
		if err := a.c.Answer(&a.h); err != nil {
			return tellErr(err)
		}
		return fmt.Sprintf("%d%s", a.h.Status, tellHead(&a.h))
	case "sent":
		return fmt.Sprint(a.c.Sent())
	case "reusable":
		return fmt.Sprint(a.c.Reusable())
	case "finish":
		return fmt.Sprint(a.c.Finish())
	case "hijack":
		read, err := a.c.Hijack()
		return fmt.Sprintf("%q %s", read, tellErr(err))
	case "close":
		a.c.Close()
		return ""
	}
	return doHalves(a.c, verb, args)
}

// doHalves does what both kinds of connection can do.
func doHalves(c interface {
	Next() ([]byte, error)
	Trailers() []wire.Field
	Write([]byte) error
	Flush() error
	End([]wire.Field) error
}, verb string, args []string) string {
	switch verb {
	case "body":
		var body []byte
		for {
			piece, err := c.Next()
			body = append(body, piece...)
			if err == io.EOF {
				break
			}
			if err != nil {
				return short(string(body)) + ", then " + tellErr(err)
			}
		}
		return short(string(body)) + tellFields(c.Trailers())
	case "write":
		return tellErr(c.Write([]byte(strings.Join(args, " "))))
	case "write-many":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return "?"
		}
		return tellErr(c.Write([]byte(strings.Repeat("x", n))))
	case "flush":
		return tellErr(c.Flush())
	case "end":
		h, _ := makeHead(args)
		return tellErr(c.End(h.Fields))
	}
	return "?"
}

// makeHead understands "200", "sized=5", "chunked", "until-close", "close",
// "expect", "upgrade=…", fields "name:value", and "end".
func makeHead(args []string) (h *wire.Head, end bool) {
	h = &wire.Head{}
	for _, arg := range args {
		if status, err := strconv.Atoi(arg); err == nil {
			h.Status = status
		} else if name, value, ok := strings.Cut(arg, ":"); ok {
			h.Add(name, value)
		} else if size, ok := strings.CutPrefix(arg, "sized="); ok {
			h.Body = wire.Sized
			h.Length, err = strconv.ParseInt(size, 10, 64)
			if err != nil {
				panic(err)
			}
		} else if upgrade, ok := strings.CutPrefix(arg, "upgrade="); ok {
			h.Upgrade = upgrade
		}
		switch arg {
		case "chunked":
			h.Body = wire.Chunked
		case "until-close":
			h.Body = wire.UntilClose
		case "end":
			end = true
		case "close":
			h.Close = true
		case "expect":
			h.Expect100 = true
		}
	}
	return h, end
}

func tellHead(h *wire.Head) string {
	text := tellFields(h.Fields)
	switch h.Body {
	case wire.Sized:
		text += fmt.Sprintf(" sized=%d", h.Length)
	case wire.Chunked:
		text += " chunked"
	case wire.UntilClose:
		text += " until-close"
	case wire.NoBody:
	}
	if h.Upgrade != "" {
		text += " upgrade=" + h.Upgrade
	}
	return text
}

func tellFields(fields []wire.Field) string {
	text := ""
	for _, f := range fields {
		value := f.Value
		if len(value) > 100 {
			value = short(value)
		}
		text += " " + f.Name + ":" + value
	}
	return text
}

func tellErr(err error) string {
	if err == nil {
		return ""
	}
	var malformed *wire.ParseError
	if errors.As(err, &malformed) {
		return fmt.Sprintf("%d %v", malformed.Status, err)
	}
	return err.Error()
}
