package wire

import "time"

func (h *Head) parseAnswer(buf []byte, l Limits) (int, error) {
	method := h.Method
	h.Method = ""
	pos, err := h.parseStatusLine(buf)
	if pos == 0 {
		return 0, err
	}
	var s summary
	n, err := h.parseFields(buf, pos, l, &s)
	if n == 0 {
		return 0, err
	}
	if err := h.frameAnswer(method, &s); err != nil {
		return 0, err
	}
	return n, nil
}

// parseStatusLine reads version and status. The words after the status mean
// nothing (RFC 9112, section 4) and may lack, with or without their space.
func (h *Head) parseStatusLine(buf []byte) (next int, err error) {
	i, err := h.parseVersion(buf, 0)
	if i == 0 {
		return 0, err
	}
	for k := range 4 {
		if i+k == len(buf) {
			return 0, nil
		}
		c := buf[i+k]
		switch {
		case k == 0 && c != ' ', k > 0 && c-'0' > 9:
			return 0, refuse(400, "malformed status line")
		case k > 0:
			h.Status = h.Status*10 + int(c-'0')
		}
	}
	i += 4
	if h.Status < 100 {
		return 0, refuse(400, "status is not 100 to 999")
	}
	if i == len(buf) {
		return 0, nil
	}
	if buf[i] == ' ' {
		i = textEnd(buf, i)
		if i == len(buf) {
			return 0, nil
		}
	}
	return lineEnd(buf, i)
}

// frameAnswer decides what follows the head (RFC 9112, section 6.3).
func (h *Head) frameAnswer(method string, s *summary) error {
	informs := h.Status < 200
	switch {
	case s.coded && s.length >= 0:
		return refuse(400, "both content-length and transfer-encoding")
	case s.coded && h.Minor == 0:
		return refuse(400, "transfer-encoding in HTTP/1.0")
	case (informs || h.Status == 204) && (s.coded || s.length > 0):
		return refuse(400, "a body in an answer that has none")
	}
	h.Close = s.closes(h.Minor)
	switch {
	case informs || h.Status == 204:
	case method == "CONNECT" && h.Status < 300:
		// A tunnel: what the fields say of a body is void.
	case method == "HEAD" || h.Status == 304:
		h.Length = s.length
	case s.coded:
		h.Body = Chunked
	case s.length > 0:
		h.Body, h.Length = Sized, s.length
	case s.length < 0:
		h.Body, h.Close = UntilClose, true
	}
	if h.Status == 101 || h.Status == 426 {
		h.Upgrade = s.asked()
	}
	if informs && h.Status != 101 {
		h.Close = false // the final answer tells
	}
	return nil
}

// AppendDate writes a time as the date field has it (RFC 9110, section 5.6.7).
func AppendDate(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 GMT")
}
