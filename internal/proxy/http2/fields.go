package http2

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"

	"serin.dev/serin/internal/proxy/wire"
)

// errMalformed ends a stream, not the connection (RFC 9113, section 8.1.1).
var errMalformed = errors.New("malformed message")

// block decodes one block of fields. It lives with the connection, since every
// block must be decoded to the end for the tables to stay equal.
type block struct {
	decoder *hpack.Decoder
	limits  wire.Limits

	head    *wire.Head // being filled; nil = the fields are thrown away
	trailer bool
	answer  bool
	regular bool // a field that is no pseudo field was seen
	seen    uint8
	status  string
	cookie  int // index of the cookie field plus one
	bytes   int // of the decoded fields, as RFC 9113 counts
	length  int64
	err     error // why the message is malformed
	large   bool  // over the limits

	// A block that comes in several frames:
	pieces []byte // so far; nil = none is open
	stream uint32
	end    bool // the message ends with it
}

// begin opens a block that CONTINUATION frames go on with.
func (b *block) begin(f *frame) {
	b.pieces = append([]byte{}, f.payload...)
	b.stream, b.end = f.stream, f.has(flagEndStream)
}

const (
	seenMethod = 1 << iota
	seenScheme
	seenAuthority
	seenPath
	seenStatus
	seenHost
	seenProtocol
)

func newBlock(l wire.Limits) *block {
	b := &block{limits: l}
	b.decoder = hpack.NewDecoder(defaultTable, b.field)
	b.decoder.SetMaxStringLength(l.HeadBytes)
	return b
}

// decode reads a whole block into h. An error of the first kind ends the
// connection; what is wrong with the message is in b.err and b.large.
func (b *block) decode(fragment []byte, h *wire.Head, answer, trailer bool) error {
	h.Reset()
	h.Major = 2
	b.head, b.answer, b.trailer = h, answer, trailer
	b.regular, b.seen, b.status, b.cookie, b.bytes, b.length = false, 0, "", 0, 0, -1
	b.err, b.large = nil, false
	b.decoder.SetEmitEnabled(true)
	_, err := b.decoder.Write(fragment)
	if errors.Is(err, hpack.ErrStringLength) {
		return err // the rest was not decoded: the tables differ from now on
	}
	if err == nil {
		err = b.decoder.Close()
	}
	if err != nil {
		return err
	}
	if b.err == nil {
		b.err = b.complete()
	}
	b.head = nil
	return nil
}

func (b *block) field(f hpack.HeaderField) {
	b.bytes += len(f.Name) + len(f.Value) + 32
	if b.bytes > b.limits.HeadBytes || len(b.head.Fields) >= b.limits.Fields {
		b.large = true
		b.decoder.SetEmitEnabled(false)
		return
	}
	if b.err == nil {
		b.err = b.take(f.Name, f.Value)
	}
}

func (b *block) take(name, value string) error {
	if !httpguts.ValidHeaderFieldValue(value) || value != strings.Trim(value, " \t") {
		return errMalformed
	}
	if strings.HasPrefix(name, ":") {
		return b.pseudo(name, value)
	}
	if !validName(name) {
		return errMalformed
	}
	b.regular = true
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return errMalformed // RFC 9113, section 8.2.2
	case "te":
		if value != "trailers" {
			return errMalformed
		}
		b.head.TrailersOK = true
		return nil
	case "content-length":
		return b.takeLength(value)
	case "host":
		return b.takeHost(value)
	case "expect":
		b.head.Expect100 = strings.EqualFold(value, "100-continue")
		return nil
	case "cookie":
		// RFC 9113, section 8.2.3: pieces of one field.
		if b.cookie > 0 {
			field := &b.head.Fields[b.cookie-1]
			field.Value += "; " + value
			return nil
		}
		b.cookie = len(b.head.Fields) + 1
	}
	b.head.Fields = append(b.head.Fields, wire.Field{Name: name, Value: value})
	return nil
}

// validName wants a token in lower case (RFC 9113, section 8.2.1).
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return httpguts.ValidHeaderFieldName(name)
}

func (b *block) takeLength(value string) error {
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil || b.length >= 0 || value[0] == '+' || b.trailer {
		return errMalformed
	}
	b.length = int64(n)
	return nil
}

// takeHost lets host stand in for a missing :authority and refuses two
// different words on who is called.
func (b *block) takeHost(value string) error {
	if b.answer || b.trailer || b.seen&seenHost != 0 ||
		b.seen&seenAuthority != 0 && b.head.Authority != value {
		return errMalformed
	}
	b.seen |= seenHost
	b.head.Authority = value
	return nil
}

func (b *block) pseudo(name, value string) error {
	var bit uint8
	switch name {
	case ":method":
		bit, b.head.Method = seenMethod, value
	case ":scheme":
		bit, b.head.Scheme = seenScheme, value
	case ":authority":
		bit, b.head.Authority = seenAuthority, value
	case ":path":
		bit, b.head.Path = seenPath, value
	case ":status":
		bit, b.status = seenStatus, value
	case ":protocol":
		bit, b.head.Upgrade = seenProtocol, value
	}
	if bit == 0 || b.regular || b.trailer || b.seen&bit != 0 || b.answer != (bit == seenStatus) {
		return errMalformed
	}
	b.seen |= bit
	return nil
}

// complete judges the head as a whole.
func (b *block) complete() error {
	h := b.head
	if b.trailer || b.large {
		return nil
	}
	if b.answer {
		status, err := strconv.Atoi(b.status)
		if err != nil || len(b.status) != 3 || status < 100 || status == 101 {
			return errMalformed
		}
		h.Status = status
		return nil
	}
	if !httpguts.ValidHeaderFieldName(h.Method) {
		return errMalformed
	}
	if h.Authority == "" || h.Authority[0] == ':' || !wire.ValidAuthority(h.Authority) {
		return errMalformed
	}
	switch extended := b.seen&seenProtocol != 0; {
	case extended && (h.Method != "CONNECT" || !validProtocol(h.Upgrade)):
		return errMalformed
	case h.Method == "CONNECT" && !extended:
		if b.seen&(seenPath|seenScheme) != 0 {
			return errMalformed
		}
		return nil
	}
	if h.Scheme != "http" && h.Scheme != "https" {
		return errMalformed
	}
	if !validPath(h.Path) && !(h.Path == "*" && h.Method == "OPTIONS") {
		return errMalformed
	}
	return nil
}

// validProtocol wants one that HTTP/1.1 could be asked to upgrade to. h2c is none:
// nobody may speak it behind a proxy.
func validProtocol(name string) bool {
	return httpguts.ValidHeaderFieldName(name) && !strings.EqualFold(name, "h2c")
}

// validPath wants what HTTP/1.1 could carry as a target in origin form.
func validPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}
