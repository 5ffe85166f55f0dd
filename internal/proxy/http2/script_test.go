package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"serin.dev/serin/test/story"
)

// TestScripts plays what a hostile or clumsy peer sends, frame by frame, and
// compares what comes back. A script is lines of commands; what came back is
// written below "----".
//
//	headers STREAM [end] [open] NAME=VALUE ...   HEADERS; open: without END_HEADERS
//	continuation STREAM [open] NAME=VALUE ...
//	data STREAM [end] BYTES [padded]             DATA of so many bytes
//	reset STREAM CODE · ping · settings NAME=VALUE ... · window STREAM CREDIT
//	priority STREAM · frame TYPE FLAGS STREAM LENGTH · raw-preface LINE
//	times N COMMAND
//	streams N COMMAND; COMMAND ...               ID in them is 1, 3, 5 ...
//
// Reading goes on until the server has closed, or answers to final pings show
// that it is well. Lines that come again are written once: how many of them
// arrive before a connection ends is chance.
func TestScripts(t *testing.T) {
	story.Each(t, "testdata/*.txt", func(t *testing.T, told string) string {
		script, _, _ := strings.Cut(told, story.Rule)
		return script + story.Rule + play(t, script)
	})
}

// TestStreamsResetForTheirFaultsAreCounted: some break the protocol, and many are
// a flood (CVE-2025-8671).
func TestStreamsResetForTheirFaultsAreCounted(t *testing.T) {
	const open = "headers ID :method=GET :scheme=http :authority=music :path=/"
	for _, fault := range []string{open + "; window ID 0", open + " X-Upper=1", open + " content-length=3; data ID end 1"} {
		some := play(t, "streams 150 "+fault+"\nheaders 601 end :method=GET :scheme=http :authority=music :path=/\n")
		if !strings.Contains(some, "headers of 601 :status=200") {
			t.Errorf("after 150 times %q:\n%s", fault, some)
		}
		many := play(t, "streams 210 "+fault+"\n")
		if !strings.Contains(many, "go away: ENHANCE_YOUR_CALM: too many streams are reset") {
			t.Errorf("after 210 times %q:\n%s", fault, many)
		}
	}
}

// peer writes frames without any checks of its own.
type peer struct {
	conn   net.Conn
	framer *xhttp2.Framer
	out    bytes.Buffer
	enc    *hpack.Encoder
	block  bytes.Buffer
}

func play(t *testing.T, script string) string {
	address := serve(t, Limits{Streams: 5, Window: 1000}, echo)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := &peer{conn: conn}
	p.framer = xhttp2.NewFramer(&p.out, conn)
	p.framer.AllowIllegalWrites = true
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.block)
	if !strings.Contains(script, "\nraw-preface") {
		p.out.WriteString(xhttp2.ClientPreface)
		p.must(t, p.framer.WriteSettings())
	}
	for line := range strings.Lines(script) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			p.do(t, strings.Fields(line))
		}
	}
	p.ping(t)
	return p.read(t)
}

// ping asks whether the server is well, behind all that was written.
func (p *peer) ping(t *testing.T) {
	p.must(t, p.framer.WritePing(false, [8]byte{'l', 'a', 's', 't'}))
	out := bytes.Clone(p.out.Bytes())
	p.out.Reset()
	go func() {
		// The server may have closed before it has read everything.
		_, _ = p.conn.Write(out)
	}()
}

func (p *peer) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *peer) do(t *testing.T, words []string) {
	t.Helper()
	number := func(i int) uint32 {
		n, err := strconv.ParseUint(words[i], 10, 32)
		if err != nil {
			t.Fatalf("%v: %v", words, err)
		}
		return uint32(n)
	}
	has := func(word string) bool {
		for _, w := range words {
			if w == word {
				return true
			}
		}
		return false
	}
	switch words[0] {
	case "headers", "continuation":
		p.block.Reset()
		for _, w := range words[2:] {
			if name, value, ok := cutField(w); ok {
				p.must(t, p.enc.WriteField(hpack.HeaderField{Name: name, Value: value}))
			}
		}
		if words[0] == "headers" {
			p.must(t, p.framer.WriteHeaders(xhttp2.HeadersFrameParam{
				StreamID: number(1), BlockFragment: p.block.Bytes(), EndStream: has("end"), EndHeaders: !has("open"),
			}))
		} else {
			p.must(t, p.framer.WriteContinuation(number(1), !has("open"), p.block.Bytes()))
		}
	case "data":
		body := make([]byte, number(len(words)-1))
		p.must(t, p.framer.WriteData(number(1), has("end"), body))
	case "reset":
		p.must(t, p.framer.WriteRSTStream(number(1), xhttp2.ErrCode(number(2))))
	case "ping":
		p.must(t, p.framer.WritePing(false, [8]byte{}))
	case "settings":
		p.must(t, p.framer.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingID(number(1)), Val: number(2)}))
	case "window":
		p.must(t, p.framer.WriteWindowUpdate(number(1), number(2)))
	case "priority":
		p.must(t, p.framer.WritePriority(number(1), xhttp2.PriorityParam{}))
	case "frame": // TYPE FLAGS STREAM LENGTH
		p.must(t, p.framer.WriteRawFrame(xhttp2.FrameType(number(1)), xhttp2.Flags(number(2)), number(3), make([]byte, number(4))))
	case "raw-preface":
		p.out.WriteString(strings.Join(words[1:], " ") + "\r\n\r\n")
	case "times":
		for range number(1) {
			p.do(t, words[2:])
		}
	case "streams":
		for i := range number(1) {
			commands := strings.ReplaceAll(strings.Join(words[2:], " "), "ID", fmt.Sprint(2*i+1))
			for command := range strings.SplitSeq(commands, ";") {
				p.do(t, strings.Fields(command))
			}
		}
	default:
		t.Fatalf("unknown command %v", words)
	}
}

// cutField splits NAME=VALUE; a name may begin with ":". VALUE may be N*x.
func cutField(w string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(w, "=")
	if n, rest, many := strings.Cut(value, "*"); many && len(rest) == 1 {
		if count, err := strconv.Atoi(n); err == nil {
			value = strings.Repeat(rest, count)
		}
	}
	value = strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\0`, "\x00", `\s`, " ").Replace(value)
	return name, value, ok
}

// read writes down what comes, without what every connection has.
func (p *peer) read(t *testing.T) string {
	var b strings.Builder
	if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	last := ""
	write := func(line string) {
		if line != last {
			fmt.Fprintln(&b, line)
			last = line
		}
	}
	pings := 0
	for {
		f, err := p.framer.ReadFrame()
		if err != nil {
			var reset *net.OpError
			if err == io.EOF || errors.As(err, &reset) && !reset.Timeout() {
				write("closed")
			} else {
				write("error " + err.Error())
			}
			return b.String()
		}
		switch f := f.(type) {
		case *xhttp2.SettingsFrame:
		case *xhttp2.WindowUpdateFrame:
			if f.StreamID != 0 {
				write(fmt.Sprintf("window of %d +%d", f.StreamID, f.Increment))
			}
		case *xhttp2.PingFrame:
			if f.Data != [8]byte{'l', 'a', 's', 't'} {
				write("pong")
				continue
			}
			// Streams have their turn after the frames that were read with a
			// ping, so what they say to them is there before the next answer.
			if pings++; pings == 3 {
				write("well")
				return b.String()
			}
			p.ping(t)
		case *xhttp2.MetaHeadersFrame:
			line := fmt.Sprintf("headers of %d", f.StreamID)
			for _, h := range f.Fields {
				value := strings.ReplaceAll(h.Value, " ", "·")
				if h.Name == "date" {
					value = "(now)"
				}
				line += " " + h.Name + "=" + value
			}
			if f.StreamEnded() {
				line += " end"
			}
			write(line)
		case *xhttp2.DataFrame:
			write(fmt.Sprintf("data of %d, %d bytes, end %t", f.StreamID, len(f.Data()), f.StreamEnded()))
		case *xhttp2.RSTStreamFrame:
			write(fmt.Sprintf("reset of %d: %s", f.StreamID, f.ErrCode))
		case *xhttp2.GoAwayFrame:
			write(fmt.Sprintf("go away: %s: %s", f.ErrCode, f.DebugData()))
		default:
			write(f.Header().String())
		}
	}
}
