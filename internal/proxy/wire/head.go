package wire

import "iter"

// Field is one header field. Name is in lower case. Both are views of the
// message's buffer: valid until the connection reads its next message.
type Field struct{ Name, Value string }

// BodyKind says how the end of a message's body is found (RFC 9112, section 6).
type BodyKind uint8

// The zero value is NoBody: the message ends with its head.
const (
	NoBody     BodyKind = iota
	Sized               // Length bytes
	Chunked             // chunks, then trailers
	UntilClose          // everything until the connection ends; answers only
)

// Head is the head of a request or of an answer, whatever version of HTTP
// carried it. The zero value is an empty head; it is reused message by message.
//
// Strings of a parsed head are views, as those of Field.
type Head struct {
	Method    string // "GET"
	Scheme    string // "http" or "https" of a target in absolute form, else ""
	Authority string // host[:port] of the target when it has one, else of the host field
	Path      string // target in origin form with its query; "*" for OPTIONS *; "" for CONNECT

	Status int // of an answer, 100 to 999

	// Fields are the fields in order, without those that speak of the connection
	// or the framing and are summarized below: host, content-length,
	// transfer-encoding, te, expect, upgrade, keep-alive, proxy-connection,
	// connection and whatever it names.
	Fields []Field

	Body BodyKind
	// Length is the size of a Sized body. With NoBody in an answer it is what
	// content-length told about a body that is not sent (HEAD, 304), or -1 when
	// nothing was told; 0 otherwise.
	Length int64

	Close      bool   // the connection ends after this message
	Upgrade    string // protocols of an asked (request) or done (101) upgrade; "" = none. Never h2c
	Expect100  bool   // the body waits for "100 Continue"
	TrailersOK bool   // te: trailers

	Major, Minor uint8 // version the message came in

	scanned int // bytes of an incomplete head known not to hold its end
}

// Reset makes h empty. It keeps the memory of Fields.
func (h *Head) Reset() {
	*h = Head{Fields: h.Fields[:0]}
}

// Get returns the value of the first field of that name (in lower case).
func (h *Head) Get(name string) (value string, ok bool) {
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			return h.Fields[i].Value, true
		}
	}
	return "", false
}

// Values goes through the values of all fields of that name (in lower case), in order.
func (h *Head) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range h.Fields {
			if h.Fields[i].Name == name && !yield(h.Fields[i].Value) {
				return
			}
		}
	}
}

// Add appends a field. The name is in lower case; what the value holds is
// checked when the head is written.
func (h *Head) Add(name, value string) {
	h.Fields = append(h.Fields, Field{name, value})
}

// Set gives the field of that name (in lower case) this one value: the first
// such field takes it in place, others go.
func (h *Head) Set(name, value string) {
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			h.Fields[i].Value = value
			h.Fields = append(h.Fields[:i+1], without(h.Fields[i+1:], name)...)
			return
		}
	}
	h.Add(name, value)
}

// Del takes out all fields of that name (in lower case).
func (h *Head) Del(name string) {
	h.Fields = without(h.Fields, name)
}

// without filters fields in place.
func without(fields []Field, name string) []Field {
	kept := fields[:0]
	for _, f := range fields {
		if f.Name != name {
			kept = append(kept, f)
		}
	}
	return kept
}

// Limits bound what a peer can make us hold. Zero means the default.
type Limits struct {
	HeadBytes int // of a head, or of a trailer section; 60 KiB
	Fields    int // lines of fields in it; 100
}

// The defaults are Envoy's (max_request_headers_kb, max_headers_count), so that
// a request passes one data plane if it passes the other.
const (
	DefaultHeadBytes = 60 << 10
	DefaultFields    = 100
)

func (l Limits) orDefault() Limits {
	if l.HeadBytes <= 0 {
		l.HeadBytes = DefaultHeadBytes
	}
	if l.Fields <= 0 {
		l.Fields = DefaultFields
	}
	return l
}

// ParseError says why bytes are no message.
type ParseError struct {
	Status int    // with which a server answers such a request: 400, 414, 417, 431, 501, 505
	Reason string // one line for people, without bytes of the peer
}

func (e *ParseError) Error() string { return e.Reason }

func refuse(status int, reason string) error {
	return &ParseError{Status: status, Reason: reason}
}
