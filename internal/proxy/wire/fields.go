package wire

// nextField reads one line of fields at buf[pos:] and lower-cases its name in
// place. next is where the following line begins: 0 when the line is
// incomplete. An empty name is the empty line that ends the section.
func nextField(buf []byte, pos int) (name, value string, next int, err error) {
	i := pos
	for i < len(buf) {
		c := lower[buf[i]]
		if c == 0 {
			break
		}
		buf[i] = c
		i++
	}
	if i == len(buf) {
		return "", "", 0, nil
	}
	if buf[i] != ':' || i == pos {
		next, err = sectionEnd(buf, pos, i)
		return "", "", next, err
	}
	name = view(buf[pos:i])
	i++
	for i < len(buf) && (buf[i] == ' ' || buf[i] == '\t') {
		i++
	}
	start := i
	i = textEnd(buf, i)
	if i == len(buf) {
		return "", "", 0, nil
	}
	if next, err = lineEnd(buf, i); next == 0 {
		return "", "", 0, err
	}
	for i > start && (buf[i-1] == ' ' || buf[i-1] == '\t') {
		i--
	}
	return name, view(buf[start:i]), next, nil
}

// lineEnd wants CR LF at i < len(buf). A lone LF would be a line's end for some
// and a part of it for others, a lone CR likewise (RFC 9112, section 2.2).
func lineEnd(buf []byte, i int) (next int, err error) {
	switch {
	case buf[i] == '\n':
		return 0, refuse(400, "line ends in a bare LF")
	case buf[i] >= ' ' && buf[i] != 0x7f:
		return 0, refuse(400, "line goes on behind its end")
	case buf[i] != '\r':
		return 0, refuse(400, "control character in a line")
	case i+1 == len(buf):
		return 0, nil
	case buf[i+1] != '\n':
		return 0, refuse(400, "bare CR in a line")
	}
	return i + 2, nil
}

// sectionEnd judges a line at pos that does not begin as a field: no token
// ends in a colon at i.
func sectionEnd(buf []byte, pos, i int) (next int, err error) {
	switch c := buf[i]; {
	case i == pos && (c == '\r' || c == '\n'):
		return lineEnd(buf, i)
	case i == pos && (c == ' ' || c == '\t'):
		return 0, refuse(400, "folded line of a field")
	case c == ' ' || c == '\t':
		return 0, refuse(400, "white space in or after the name of a field")
	case i == pos && c == ':':
		return 0, refuse(400, "field without a name")
	}
	return 0, refuse(400, "invalid character in the name of a field")
}

// What connection may ask for besides naming fields.
const (
	askClose = 1 << iota
	askKeepAlive
	askUpgrade
)

// maxOptions bounds the work of taking out what connection names: each of its
// options is compared with each field. Browsers send two.
const maxOptions = 16

// summary gathers what fields say of connection and framing.
type summary struct {
	hosts     int
	host      string
	length    int64 // -1: none told
	coded     bool  // transfer-encoding: chunked
	asks      uint8
	options   [maxOptions]string // other fields named by connection
	named     int
	upgrade   string
	expect    bool
	trailers  bool
	upgradeNo bool // an upgrade we never pass
}

// parseFields reads the section at buf[pos:] into h.Fields and s. n is where
// the body begins; 0 when the section is incomplete.
func (h *Head) parseFields(buf []byte, pos int, l Limits, s *summary) (n int, err error) {
	s.length = -1
	for lines := 0; ; lines++ {
		name, value, next, err := nextField(buf, pos)
		if next == 0 {
			return 0, err
		}
		if name == "" {
			h.dropNamed(s)
			return next, nil
		}
		if lines == l.Fields {
			return 0, refuse(431, "too many fields")
		}
		ordinary, err := s.take(name, value)
		if err != nil {
			return 0, err
		}
		if ordinary {
			h.Fields = append(h.Fields, Field{name, value})
		}
		pos = next
	}
}

// take summarizes a field, or reports that it is an ordinary one.
func (s *summary) take(name, value string) (ordinary bool, err error) {
	if !special(name) {
		return true, nil
	}
	switch name {
	case "host":
		s.hosts++
		s.host = value
	case "content-length":
		return false, s.takeLength(value)
	case "transfer-encoding":
		return false, s.takeCoding(value)
	case "connection":
		return false, s.takeConnection(value)
	case "upgrade":
		s.takeUpgrade(value)
	case "expect":
		if !equalFold(value, "100-continue") {
			return false, refuse(417, "unknown expectation")
		}
		s.expect = true
	case "te":
		for coding := range tokens(value) {
			s.trailers = s.trailers || equalFold(coding, "trailers")
		}
	}
	return false, nil
}

// special reports whether a name speaks of connection or framing. The length
// alone sorts out most others.
func special(name string) bool {
	switch len(name) {
	case 2:
		return name == "te"
	case 4:
		return name == "host"
	case 6:
		return name == "expect"
	case 7:
		return name == "upgrade"
	case 10:
		return name == "connection" || name == "keep-alive"
	case 14:
		return name == "content-length"
	case 16:
		return name == "proxy-connection"
	case 17:
		return name == "transfer-encoding"
	}
	return false
}

// takeLength wants digits, once. A second content-length is refused even if it
// is equal: whoever wrote it twice was two programs.
func (s *summary) takeLength(value string) error {
	if s.length >= 0 {
		return refuse(400, "more than one content-length")
	}
	n, ok := parseLength(value)
	if !ok {
		return refuse(400, "malformed content-length")
	}
	s.length = n
	return nil
}

func parseLength(value string) (n int64, ok bool) {
	// 18 digits are less than 2^63 and more than any body.
	if value == "" || len(value) > 18 {
		return 0, false
	}
	for i := range len(value) {
		d := value[i] - '0'
		if d > 9 {
			return 0, false
		}
		n = n*10 + int64(d)
	}
	return n, true
}

// takeCoding wants the one coding that delimits a body, once. The status is
// that of RFC 9112, section 6.1, for a coding that we cannot pass on.
func (s *summary) takeCoding(value string) error {
	if s.coded || !equalFold(value, "chunked") {
		return refuse(501, "transfer-encoding is not chunked alone")
	}
	s.coded = true
	return nil
}

func (s *summary) takeConnection(value string) error {
	for option := range tokens(value) {
		switch {
		case equalFold(option, "close"):
			s.asks |= askClose
		case equalFold(option, "keep-alive"):
			s.asks |= askKeepAlive
		case equalFold(option, "upgrade"):
			s.asks |= askUpgrade
		case !mayName(option):
			return refuse(400, "connection names what is not of the connection")
		case s.named == maxOptions:
			return refuse(400, "too many connection options")
		default:
			s.options[s.named] = option
			s.named++
		}
	}
	return nil
}

// mayName reports whether connection may take out a field of that name. Where a
// request goes and where it came from is not the caller's to take out again, as
// it could do behind a proxy that wrote it.
func mayName(option string) bool {
	if nameEnd(option) != len(option) {
		return false
	}
	for _, kept := range [...]string{"host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"} {
		if equalFold(option, kept) {
			return false
		}
	}
	return true
}

// takeUpgrade keeps the protocols offered, unless h2c is one: requests in an
// h2c connection that we pass unread would come by every policy.
func (s *summary) takeUpgrade(value string) {
	for protocol := range tokens(value) {
		s.upgradeNo = s.upgradeNo || equalFold(protocol, "h2c")
	}
	if s.upgrade != "" {
		s.upgradeNo = true // two fields: no client does that
	}
	s.upgrade = value
}

// asked returns the upgrade that both fields agree upon.
func (s *summary) asked() string {
	if s.asks&askUpgrade == 0 || s.upgradeNo {
		return ""
	}
	return s.upgrade
}

// closes says whether the connection ends after a message of HTTP/1.minor
// (RFC 9112, section 9.3).
func (s *summary) closes(minor uint8) bool {
	return s.asks&askClose != 0 || minor == 0 && s.asks&askKeepAlive == 0
}

// dropNamed takes out the fields that connection names (RFC 9110, section 7.6.1).
func (h *Head) dropNamed(s *summary) {
	if s.named == 0 {
		return
	}
	kept := h.Fields[:0]
	for _, f := range h.Fields {
		if !s.names(f.Name) {
			kept = append(kept, f)
		}
	}
	h.Fields = kept
}

func (s *summary) names(name string) bool {
	for _, option := range s.options[:s.named] {
		if equalFold(option, name) {
			return true
		}
	}
	return false
}
