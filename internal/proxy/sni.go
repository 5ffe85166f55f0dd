package proxy

import (
	"errors"
	"os"
	"time"

	"serin.dev/serin/internal/proxy/loop"
)

// hello is how a caller's bytes begin, as far as routing looks at them.
type hello struct {
	tls        bool   // a ClientHello: the caller speaks TLS
	serverName string // the host that it asks for (SNI, RFC 6066 section 3); "" = none
}

// maxHello bounds the part of a connection that is read to find the name: one
// buffer of a loop. Browsers send some 2 KiB, most of it a post-quantum key.
const maxHello = loop.BufferSize

// Of a TLS record and of a handshake message (RFC 8446, sections 4 and 5.1).
const (
	recordHandshake   = 22
	recordVersion     = 3 // the major number, of SSL 3.0 to TLS 1.3
	recordHead        = 5
	messageHello      = 1
	messageHead       = 4
	extensionName     = 0
	serverNameIsAHost = 0
)

// helloConn is a connection, or a stream of one, as far as its beginning is read.
type helloConn interface {
	Read([]byte) (int, error)
	SetReadDeadline(time.Time) error
}

// readHello reads from a connection until it is known how it begins, within a
// time; read is what was read of it already. All of that is handed back: whoever
// serves the connection begins with it. An error is os.ErrDeadlineExceeded,
// io.EOF before the end of a ClientHello, or the connection's; then too, early is
// what was read.
func readHello(l *loop.Loop, c helloConn, read []byte, within time.Duration) (early []byte, h hello, err error) {
	buf := l.Buffer()
	defer l.Release(buf)
	if err := c.SetReadDeadline(l.Now().Add(within)); err != nil {
		return nil, hello{}, err
	}
	n, known := copy(buf, read), false
	for {
		if h, known = parseHello(buf[:n]); known || err != nil {
			break
		}
		if n == len(buf) {
			known = true // too long for a ClientHello: bytes like others
			break
		}
		var more int
		more, err = c.Read(buf[n:])
		n += more
	}
	if reset := c.SetReadDeadline(time.Time{}); known {
		err = reset
	}
	return append([]byte(nil), buf[:n]...), h, err
}

// isSilent reports whether a caller has sent nothing and neither ended nor
// broke the connection: it waits for the callee to speak first.
func isSilent(early []byte, err error) bool {
	return len(early) == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// parseHello looks at the first bytes of a connection. It is known how they
// begin, or more are needed. What is not plainly a ClientHello is none.
func parseHello(b []byte) (h hello, known bool) {
	message, state := handshake(b)
	if state != whole {
		return hello{}, state == foreign
	}
	in := parser{rest: message}
	in.skip(2 + 32)        // version, random
	in.skip(in.number(1))  // session
	in.skip(in.number(2))  // cipher suites
	in.skip(in.number(1))  // compression methods
	if len(in.rest) == 0 { // there need be no extensions
		return hello{tls: !in.short}, true
	}
	extensions := in.part(in.number(2))
	if in.short || len(in.rest) > 0 {
		return hello{}, true
	}
	h.tls = true
	for len(extensions.rest) > 0 {
		kind := extensions.number(2)
		body := extensions.part(extensions.number(2))
		if extensions.short {
			return hello{}, true
		}
		if kind == extensionName {
			name, ok := serverName(&body)
			if !ok || h.serverName != "" {
				return hello{}, true
			}
			h.serverName = name
		}
	}
	return h, true
}

// serverName reads the extension: a list of names, of which one may be a host.
func serverName(body *parser) (name string, ok bool) {
	list := body.part(body.number(2))
	if body.short || len(body.rest) > 0 {
		return "", false
	}
	for len(list.rest) > 0 {
		kind := list.number(1)
		value := list.part(list.number(2))
		if list.short {
			return "", false
		}
		if kind != serverNameIsAHost {
			continue
		}
		host, _, valid := checkedHost(string(value.rest), 0, true)
		if !valid || name != "" {
			return "", false
		}
		name = host
	}
	return name, true
}

type helloState uint8

const (
	partial helloState = iota // so far it may be one
	whole
	foreign // it is none
)

// handshake finds the body of the first handshake message, which may lie in
// several records.
func handshake(b []byte) (body []byte, state helloState) {
	var joined []byte
	for first := true; ; first = false {
		if len(b) > 0 && b[0] != recordHandshake || len(b) > 1 && b[1] != recordVersion {
			return nil, foreign
		}
		if len(b) < recordHead {
			return nil, partial
		}
		length := int(b[3])<<8 | int(b[4])
		if length == 0 || length > maxHello {
			return nil, foreign
		}
		fragment := b[recordHead:min(recordHead+length, len(b))]
		if joined = append(joined, fragment...); first {
			joined = fragment[:len(fragment):len(fragment)] // one record is the rule: nothing is copied
		}
		if len(joined) > 0 && joined[0] != messageHello {
			return nil, foreign
		}
		if len(joined) >= messageHead {
			size := int(joined[1])<<16 | int(joined[2])<<8 | int(joined[3])
			switch {
			case size > maxHello:
				return nil, foreign
			case len(joined) >= messageHead+size:
				return joined[messageHead : messageHead+size], whole
			}
		}
		if len(fragment) < length {
			return nil, partial
		}
		b = b[recordHead+length:]
	}
}

// parser takes numbers and parts off the front of bytes. When they do not
// suffice, it is short, and stays so.
type parser struct {
	rest  []byte
	short bool
}

func (p *parser) part(n int) parser {
	if p.short || n > len(p.rest) {
		p.rest, p.short = nil, true
		return parser{short: true}
	}
	out := parser{rest: p.rest[:n]}
	p.rest = p.rest[n:]
	return out
}

func (p *parser) skip(n int) { p.part(n) }

// number reads a big-endian number of so many bytes.
func (p *parser) number(bytes int) int {
	n := 0
	for _, b := range p.part(bytes).rest {
		n = n<<8 | int(b)
	}
	return n
}
