package wire

import "math/bits"

// Chunks reads the chunked framing of a body (RFC 9112, section 7.1). The zero
// value begins a body, with the default limits.
type Chunks struct {
	// Limits bound the trailer section.
	Limits Limits

	state    chunkState
	left     int64 // bytes of the chunk still to come
	extra    int   // bytes of chunk extensions so far
	scanned  int   // bytes of an incomplete trailer section known not to hold its end
	trailers []Field
}

type chunkState uint8

const (
	atSize chunkState = iota
	inData
	atDataEnd // the line end after a chunk's data
	atTrailers
	atEnd
)

const (
	// maxSizeLine holds 16 digits and any extension that programs send: signed
	// chunks of object stores need 86 bytes.
	maxSizeLine = 256
	// maxExtra ends bodies that consist of extensions.
	maxExtra = 8 << 10
)

// Reset begins another body. Trailers of the last one are gone.
func (c *Chunks) Reset() {
	*c = Chunks{Limits: c.Limits, trailers: c.trailers[:0]}
}

// Next reads on at the beginning of buf. data is a piece of the body, a view of
// buf, and may be empty; n is how many bytes of buf are done with, data
// included. When n is 0 and done false, buf ends within a line (or, after the
// last chunk, within the trailer section): call again with more bytes behind the
// same. done is true when the body is over; what is behind n is not part of it.
//
// A size line is at most 256 bytes, the trailer section Limits.HeadBytes: a
// buffer of that size always brings Next on. The error is a *ParseError.
func (c *Chunks) Next(buf []byte) (data []byte, n int, done bool, err error) {
	if c.state == atDataEnd {
		k, err := dataEnd(buf)
		if k == 0 {
			return nil, 0, false, err
		}
		c.state, n = atSize, k
	}
	if c.state == atSize {
		k, err := c.sizeLine(buf[n:])
		if k == 0 {
			return nil, n, false, err
		}
		n += k
	}
	switch c.state {
	case inData:
		data = buf[n:]
		if int64(len(data)) > c.left {
			data = data[:c.left]
		}
		n += len(data)
		if c.left -= int64(len(data)); c.left > 0 {
			return data, n, false, nil
		}
		c.state = atDataEnd
		if len(buf)-n >= 2 && buf[n] == '\r' && buf[n+1] == '\n' {
			c.state = atSize
			n += 2
		}
		return data, n, false, nil
	case atTrailers:
		k, err := c.readTrailers(buf[n:])
		if k > 0 {
			c.state = atEnd
		}
		return nil, n + k, k > 0, err
	case atSize, atDataEnd, atEnd:
	}
	return nil, n, true, nil
}

// Trailers returns the fields behind the last chunk, views of the buffer in which
// Next found them. Fields that RFC 9110, section 6.5.1 forbids there are not
// among them.
func (c *Chunks) Trailers() []Field { return c.trailers }

// dataEnd wants the CR LF after a chunk's data. n is 0 when it is incomplete.
func dataEnd(buf []byte) (n int, err error) {
	if len(buf) > 0 && buf[0] != '\r' || len(buf) > 1 && buf[1] != '\n' {
		return 0, refuse(400, "chunk is longer than its size")
	}
	if len(buf) < 2 {
		return 0, nil
	}
	return 2, nil
}

// sizeLine reads the line before a chunk's data. n is 0 when it is incomplete.
func (c *Chunks) sizeLine(buf []byte) (n int, err error) {
	var size uint64
	i := 0
	for ; i < len(buf); i++ {
		d := unhex(buf[i])
		if d > 15 {
			break
		}
		if i == 16 || bits.LeadingZeros64(size) < 5 {
			return 0, refuse(400, "chunk size is too large") // at least 2^63 bytes, or padded
		}
		size = size<<4 | uint64(d)
	}
	digits := i
	// Old servers fill the place of a size with spaces; all readers skip them.
	for digits > 0 && i < len(buf) && (buf[i] == ' ' || buf[i] == '\t') {
		i++
	}
	if i < len(buf) {
		if digits == 0 || buf[i] != ';' && buf[i] != '\r' && buf[i] != '\n' {
			return 0, refuse(400, "malformed chunk size")
		}
		i = textEnd(buf, i)
	}
	if i > maxSizeLine {
		return 0, refuse(400, "chunk extension is too long")
	}
	if i == len(buf) {
		return 0, nil
	}
	if n, err = lineEnd(buf, i); n == 0 {
		return 0, err
	}
	if c.extra += i - digits; c.extra > maxExtra {
		return 0, refuse(400, "too many chunk extensions")
	}
	if c.left, c.state = int64(size), inData; size == 0 {
		c.state = atTrailers
	}
	return n, nil
}

func unhex(c byte) byte {
	switch {
	case c-'0' <= 9:
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}

// readTrailers reads the trailer section at the beginning of buf. n is 0 when
// it is incomplete.
func (c *Chunks) readTrailers(buf []byte) (n int, err error) {
	l := c.Limits.orDefault()
	if len(buf) > l.HeadBytes {
		buf = buf[:l.HeadBytes]
	}
	if len(buf) < l.HeadBytes && !worthParsing(buf, c.scanned) {
		c.scanned = len(buf)
		return 0, nil
	}
	c.trailers = c.trailers[:0]
	for lines := 0; ; lines++ {
		name, value, next, err := nextField(buf, n)
		switch {
		case err != nil:
			return 0, err
		case next == 0 && len(buf) == l.HeadBytes:
			return 0, refuse(431, "trailers are too large")
		case next == 0:
			c.scanned = len(buf)
			return 0, nil
		case name == "":
			return next, nil
		case lines == l.Fields:
			return 0, refuse(431, "too many trailers")
		case !special(name) && !leadsOnly(name):
			c.trailers = append(c.trailers, Field{name, value})
		}
		n = next
	}
}

// leadsOnly reports whether a field means something before the body alone: it
// routes, frames, authenticates, or says how to take the content (RFC 9110,
// section 6.5.1).
func leadsOnly(name string) bool {
	switch name {
	case "age", "authorization", "cache-control", "content-encoding", "content-range", "content-type", "cookie", "date",
		"expires", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "location",
		"max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "retry-after", "set-cookie",
		"trailer", "vary", "warning", "www-authenticate":
		return true
	}
	return false
}

// AppendChunkHeader appends the line before a chunk of size bytes, at least 1.
// After the bytes follows CR LF, which is the caller's to write.
func AppendChunkHeader(dst []byte, size int) []byte {
	const hex = "0123456789abcdef"
	shift := (bits.Len(uint(size)) + 3) / 4 * 4
	for shift -= 4; shift >= 0; shift -= 4 {
		dst = append(dst, hex[uint(size)>>shift&15])
	}
	return append(dst, "\r\n"...)
}

// AppendLastChunk appends what ends a chunked body: the chunk of size 0 and the
// trailers. What is no field, or must not be a trailer, is left out.
func AppendLastChunk(dst []byte, trailers []Field) []byte {
	dst = append(dst, "0\r\n"...)
	for i := range trailers {
		if !leadsOnly(trailers[i].Name) {
			dst = appendField(dst, trailers[i].Name, trailers[i].Value)
		}
	}
	return append(dst, "\r\n"...)
}
