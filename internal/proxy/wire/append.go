package wire

import "strconv"

// AppendRequest appends the head of a request as HTTP/1.1, in origin form.
//
// Whatever a policy put into h, one head comes out, with the framing that h
// states: fields that are not names and values, or that speak of connection and
// framing, are left out; bytes that no target or method holds are written
// as %XX.
func (h *Head) AppendRequest(dst []byte) []byte {
	dst = appendEscaped(dst, h.Method)
	dst = append(dst, ' ')
	target := h.Path
	switch {
	case h.Method == "CONNECT":
		target = h.Authority
	case target == "":
		target = "/"
	}
	dst = appendEscaped(dst, target)
	dst = append(dst, " HTTP/1.1\r\nhost: "...)
	if authority := bytesOf(h.Authority); textEnd(authority, 0) == len(authority) {
		dst = append(dst, authority...)
	}
	dst = append(dst, "\r\n"...)
	dst = appendFields(dst, h.Fields)
	switch {
	case h.Body == Sized:
		dst = appendLength(dst, h.Length)
	case h.Body != NoBody: // a request ends by its framing alone
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	case h.Method == "POST" || h.Method == "PUT" || h.Method == "PATCH":
		dst = append(dst, "content-length: 0\r\n"...) // RFC 9110, section 8.6
	}
	if h.Expect100 {
		dst = append(dst, "expect: 100-continue\r\n"...)
	}
	if h.TrailersOK {
		dst = append(dst, "te: trailers\r\n"...)
	}
	dst = h.appendConnection(dst)
	return append(dst, "\r\n"...)
}

// AppendAnswer appends the head of an answer as HTTP/1.1, under the same
// guarantees as AppendRequest. A body UntilClose states connection: close.
//
// Body must fit what the caller of HTTP/1.x expects after this status: a 1xx,
// 204 or 304 has NoBody, as has the answer to a HEAD.
func (h *Head) AppendAnswer(dst []byte) []byte {
	status := h.Status
	if status < 100 || status > 999 {
		status = 500 // no status is our own mistake
	}
	dst = appendStatusLine(dst, status)
	dst = appendFields(dst, h.Fields)
	switch h.Body {
	case Sized:
		dst = appendLength(dst, h.Length)
	case Chunked:
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	case NoBody:
		silent := status < 200 || status == 204 || status == 304 && h.Length == 0
		if h.Length >= 0 && !silent {
			dst = appendLength(dst, h.Length)
		}
	case UntilClose:
	}
	dst = h.appendConnection(dst)
	return append(dst, "\r\n"...)
}

// appendConnection writes what is asked of the connection, each option with
// the field it names.
func (h *Head) appendConnection(dst []byte) []byte {
	closes := h.Close || h.Body == UntilClose
	upgrade := bytesOf(h.Upgrade)
	upgrades := len(upgrade) > 0 && textEnd(upgrade, 0) == len(upgrade)
	if upgrades {
		dst = append(dst, "upgrade: "...)
		dst = append(dst, upgrade...)
		dst = append(dst, "\r\n"...)
	}
	var options string
	switch te := h.TrailersOK && h.Status == 0; {
	case closes && upgrades && te:
		options = "close, upgrade, te"
	case closes && upgrades:
		options = "close, upgrade"
	case closes && te:
		options = "close, te"
	case closes:
		options = "close"
	case upgrades && te:
		options = "upgrade, te"
	case upgrades:
		options = "upgrade"
	case te:
		options = "te"
	default:
		return dst
	}
	dst = append(dst, "connection: "...)
	dst = append(dst, options...)
	return append(dst, "\r\n"...)
}

func appendFields(dst []byte, fields []Field) []byte {
	for i := range fields {
		dst = appendField(dst, fields[i].Name, fields[i].Value)
	}
	return dst
}

// appendField writes a line, or nothing when it would not be this field alone.
func appendField(dst []byte, name, value string) []byte {
	v := bytesOf(value)
	if special(name) || nameEnd(name) != len(name) || name == "" || textEnd(v, 0) != len(v) {
		return dst
	}
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "content-length: "...)
	dst = strconv.AppendInt(dst, max(n, 0), 10)
	return append(dst, "\r\n"...)
}

// appendEscaped writes a target or a method with every byte escaped that would
// end it. "%" is a character of both.
func appendEscaped(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for b := bytesOf(s); ; {
		end := targetEnd(b, 0)
		dst = append(dst, b[:end]...)
		if end == len(b) {
			return dst
		}
		dst = append(dst, '%', hex[b[end]>>4], hex[b[end]&15])
		b = b[end+1:]
	}
}
