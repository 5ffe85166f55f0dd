package wire

import (
	"bytes"
	"encoding/binary"
)

// maxBlankLines is how many empty lines may come before a request: RFC 9112,
// section 2.2 wants one to be taken, after a body of a client that ends it so.
const maxBlankLines = 2

// ParseRequest reads the head of a request from the beginning of buf into h,
// whatever h held. n is the size of the head; 0 without an error means that buf
// does not hold all of it: call again with the same h once there is more. What
// was looked through for the end is not looked through again; Reset h when an
// incomplete head is given up.
//
// Names of fields are lower-cased in buf. The error is a *ParseError; h then
// holds what was read before it (Method and Path, for a record).
func (h *Head) ParseRequest(buf []byte, l Limits) (n int, err error) {
	return h.parse(buf, l, (*Head).parseRequest)
}

// ParseAnswer reads the head of an answer to a request of that method; else as
// ParseRequest. A 1xx answer is one of its own: the final one follows.
func (h *Head) ParseAnswer(buf []byte, method string, l Limits) (n int, err error) {
	h.Method = method
	return h.parse(buf, l, (*Head).parseAnswer)
}

// parse guards a parser against reading an incomplete head over and over, and
// one without an end.
func (h *Head) parse(buf []byte, l Limits, parser func(*Head, []byte, Limits) (int, error)) (n int, err error) {
	l = l.orDefault()
	if len(buf) > l.HeadBytes {
		buf = buf[:l.HeadBytes]
	}
	if len(buf) < l.HeadBytes && !worthParsing(buf, h.scanned) {
		h.scanned = len(buf)
		return 0, nil
	}
	*h = Head{Method: h.Method, Fields: h.Fields[:0]}
	n, err = parser(h, buf, l)
	if n == 0 && err == nil {
		if len(buf) == l.HeadBytes {
			return 0, tooLarge(buf)
		}
		h.scanned = len(buf)
	}
	return n, err
}

// worthParsing reports whether buf may be a whole or a broken section of lines,
// given that its first scanned bytes were the beginning of one. So few bytes
// that parsing them costs nothing are worth it: what is not HTTP shows early.
func worthParsing(buf []byte, scanned int) bool {
	if scanned < 64 {
		return true
	}
	for i := min(scanned, len(buf)); ; i++ {
		k := bytes.IndexByte(buf[i:], '\n')
		if k < 0 {
			return false
		}
		i += k
		if i < 3 || buf[i-1] != '\r' || buf[i-2] == '\n' {
			return true
		}
	}
}

// tooLarge says which part of a request took up all the space. For an answer
// the status does not matter.
func tooLarge(buf []byte) error {
	if bytes.IndexByte(buf, '\n') < 0 {
		return refuse(414, "request target is too long")
	}
	return refuse(431, "fields are too large")
}

func (h *Head) parseRequest(buf []byte, l Limits) (int, error) {
	h.Method = ""
	pos, err := skipBlankLines(buf)
	if err != nil || pos == len(buf) {
		return 0, err
	}
	target, pos, err := h.parseRequestLine(buf, pos)
	if pos == 0 {
		return 0, err
	}
	if err := h.parseTarget(target); err != nil {
		return 0, err
	}
	var s summary
	n, err := h.parseFields(buf, pos, l, &s)
	if n == 0 {
		return 0, err
	}
	if err := h.frameRequest(&s); err != nil {
		return 0, err
	}
	return n, nil
}

func skipBlankLines(buf []byte) (pos int, err error) {
	for range maxBlankLines {
		if pos == len(buf) || buf[pos] != '\r' && buf[pos] != '\n' {
			break
		}
		next, err := lineEnd(buf, pos)
		if next == 0 {
			return len(buf), err
		}
		pos = next
	}
	return pos, nil
}

// parseRequestLine reads method and version into h and returns the target. next
// is where the fields begin; 0 when the line is incomplete.
func (h *Head) parseRequestLine(buf []byte, pos int) (target []byte, next int, err error) {
	i := pos
	for i < len(buf) && lower[buf[i]] != 0 && i-pos <= maxMethod {
		i++
	}
	if i == len(buf) {
		return nil, 0, nil
	}
	if buf[i] != ' ' {
		return nil, 0, refuse(400, "malformed method")
	}
	if h.Method = knownMethod(buf[pos:i]); h.Method == "" {
		return nil, 0, refuse(400, "unknown method")
	}
	start := i + 1
	i = targetEnd(buf, start)
	if i == len(buf) {
		return nil, 0, nil
	}
	if buf[i] != ' ' || i == start {
		return nil, 0, refuse(400, "malformed request line")
	}
	target = buf[start:i]
	i++
	next, err = h.parseVersion(buf, i)
	if next == 0 {
		return nil, 0, err
	}
	if next == len(buf) {
		return nil, 0, nil
	}
	next, err = lineEnd(buf, next)
	return target, next, err
}

// parseVersion reads "HTTP/1.1" or "HTTP/1.0" at i. next is 0 when it is
// incomplete.
func (h *Head) parseVersion(buf []byte, i int) (next int, err error) {
	const http1 = "HTTP/1."
	if len(buf)-i < len(http1)+1 {
		for k := i; k < len(buf); k++ {
			if buf[k] != http1[k-i] {
				return 0, refuse(400, "malformed version")
			}
		}
		return 0, nil
	}
	switch binary.LittleEndian.Uint64(buf[i:]) {
	case 0x312e312f50545448: // "HTTP/1.1"
		h.Major, h.Minor = 1, 1
	case 0x302e312f50545448: // "HTTP/1.0"
		h.Major, h.Minor = 1, 0
	default:
		v := buf[i : i+8]
		if string(v[:5]) == "HTTP/" && v[5]-'0' <= 9 && v[6] == '.' && v[7]-'0' <= 9 {
			return 0, refuse(505, "version of HTTP is not 1.0 or 1.1")
		}
		return 0, refuse(400, "malformed version")
	}
	return i + 8, nil
}

// parseTarget sorts a target by its form (RFC 9112, section 3.2).
func (h *Head) parseTarget(target []byte) error {
	switch {
	case h.Method == "CONNECT":
		h.Authority = view(target)
		colon := bytes.LastIndexByte(target, ':')
		if !ValidAuthority(h.Authority) || colon < 0 || target[len(target)-1] == ':' || target[len(target)-1] == ']' {
			return refuse(400, "target of CONNECT is not host:port")
		}
		return nil
	case target[0] == '/':
		h.Path = view(target)
		return nil
	case len(target) == 1 && target[0] == '*' && h.Method == "OPTIONS":
		h.Path = "*"
		return nil
	}
	return h.parseAbsolute(target)
}

func (h *Head) parseAbsolute(target []byte) error {
	var rest []byte
	switch {
	case len(target) > 7 && equalFold(view(target[:4]), "http") && string(target[4:7]) == "://":
		h.Scheme, rest = "http", target[7:]
	case len(target) > 8 && equalFold(view(target[:5]), "https") && string(target[5:8]) == "://":
		h.Scheme, rest = "https", target[8:]
	default:
		return refuse(400, "target is neither a path nor an http URI")
	}
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	h.Authority = view(rest[:end])
	if h.Authority == "" || h.Authority[0] == ':' || !ValidAuthority(h.Authority) {
		return refuse(400, "malformed host in the target")
	}
	switch path := rest[end:]; {
	case len(path) > 0 && path[0] == '/':
		h.Path = view(path)
	case len(path) > 0:
		h.Path = "/" + string(path) // the one rare form that cannot be a view
	case h.Method == "OPTIONS":
		h.Path = "*"
	default:
		h.Path = "/"
	}
	return nil
}

// frameRequest decides what follows the head (RFC 9112, section 6.3).
func (h *Head) frameRequest(s *summary) error {
	if err := h.checkHost(s); err != nil {
		return err
	}
	switch {
	case s.coded && s.length >= 0:
		return refuse(400, "both content-length and transfer-encoding")
	case s.coded && h.Minor == 0:
		return refuse(400, "transfer-encoding in HTTP/1.0")
	case h.Method == "CONNECT" && (s.coded || s.length > 0):
		return refuse(400, "CONNECT with a body")
	case s.coded:
		h.Body = Chunked
	case s.length > 0:
		h.Body, h.Length = Sized, s.length
	}
	h.Close = s.closes(h.Minor)
	h.TrailersOK = s.trailers
	if h.Minor >= 1 {
		// Who sends a body first can do without the upgrade.
		if h.Body == NoBody {
			h.Upgrade = s.asked()
		}
		h.Expect100 = s.expect && h.Body != NoBody
	}
	return nil
}

func (h *Head) checkHost(s *summary) error {
	switch {
	case s.hosts > 1:
		return refuse(400, "more than one host")
	case s.hosts == 0 && (h.Minor >= 1 || h.Authority == ""):
		return refuse(400, "no host") // HTTP/1.0 may lack it, but nobody knows where to
	case s.hosts == 1 && (s.host == "" || !ValidAuthority(s.host)):
		return refuse(400, "malformed host")
	}
	if h.Authority == "" {
		h.Authority = s.host
	}
	return nil
}

// maxMethod is the length of the longest method known.
const maxMethod = len("UNSUBSCRIBE")

// knownMethod returns the method that b spells, or "". The methods are those
// that Envoy takes: a "get" that one server refuses and another obeys would
// come by rules for GET.
func knownMethod(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "PUT":
		return "PUT"
	case "HEAD":
		return "HEAD"
	case "DELETE":
		return "DELETE"
	case "PATCH":
		return "PATCH"
	case "OPTIONS":
		return "OPTIONS"
	case "CONNECT":
		return "CONNECT"
	}
	for _, m := range &rareMethods {
		if string(b) == m {
			return m
		}
	}
	return ""
}

var rareMethods = [...]string{
	"ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "MSEARCH",
	"NOTIFY", "PROPFIND", "PROPPATCH", "PURGE", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "TRACE", "UNBIND",
	"UNLINK", "UNLOCK", "UNSUBSCRIBE",
}
