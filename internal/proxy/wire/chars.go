package wire

import (
	"encoding/binary"
	"math/bits"
)

// lower maps the bytes of a token (RFC 9110, section 5.6.2) to their lower
// case, and all others to 0.
var lower = func() (t [256]byte) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		t[c] = c
	}
	for c := byte('A'); c <= 'Z'; c++ {
		t[c] = c + 'a' - 'A'
	}
	return t
}()

// hostByte tells the bytes of a host (RFC 3986, section 3.2.2) outside of an
// IP literal: no user information, no port.
var hostByte = func() (t [256]bool) {
	for _, c := range []byte("-._~!$&'()*+,;=%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}()

// Eight bytes are looked at in one word. For a byte constant c < 0x80,
// (w - c*ones) &^ w has the top bit of each lane whose byte is below c. Lanes
// above a found one may be marked wrongly by its borrow; the lowest mark is exact.
const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080
)

func below(w, c uint64) uint64  { return (w - c*ones) &^ w }
func equals(w, c uint64) uint64 { return below(w^c*ones, 1) }

// textEnd returns where, from i on, the first byte is that no field value holds
// (RFC 9110, section 5.5): a control character other than tab. len(b) if none.
func textEnd(b []byte, i int) int {
	for {
		i = controlAt(b, i)
		if i == len(b) || b[i] != '\t' {
			return i
		}
		i++
	}
}

func controlAt(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if m := (below(w, 0x20) | equals(w, 0x7f)) & tops; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for i < len(b) && b[i] >= 0x20 && b[i] != 0x7f {
		i++
	}
	return i
}

// targetEnd returns where, from i on, the first byte is that no request target
// holds: a control character, a space, a byte beyond ASCII, or the "#" that
// begins a fragment, which never leaves a browser. len(b) if none.
func targetEnd(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if m := (below(w, 0x21) | equals(w, 0x7f) | equals(w, '#') | w) & tops; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for i < len(b) && b[i] > 0x20 && b[i] < 0x7f && b[i] != '#' {
		i++
	}
	return i
}

// nameEnd returns where the first byte is that the name of a field does not
// hold (RFC 9110, section 5.1). len(name) if none.
func nameEnd(name string) int {
	for i := range len(name) {
		if lower[name[i]] == 0 {
			return i
		}
	}
	return len(name)
}

// ValidAuthority reports whether s is a host with or without a port (RFC 9110,
// section 4.2). User information, with which one host is dressed up as
// another, is refused.
func ValidAuthority(s string) bool {
	host, port := s, ""
	if s != "" && s[0] == '[' {
		end := indexByte(s, ']')
		if end < 0 || !validIPLiteral(s[1:end]) {
			return false
		}
		host, port = "", s[end+1:]
		if port != "" && port[0] != ':' {
			return false
		}
	} else if colon := indexByte(s, ':'); colon >= 0 {
		host, port = s[:colon], s[colon:]
		if host == "" {
			return false
		}
	}
	for i := range len(host) {
		if !hostByte[host[i]] {
			return false
		}
	}
	return port == "" || validPort(port[1:])
}

func indexByte(s string, c byte) int {
	for i := range len(s) {
		if s[i] == c {
			return i
		}
	}
	return -1
}

// validIPLiteral checks the alphabet alone: what an address means is decided
// where one is called.
func validIPLiteral(s string) bool {
	for i := range len(s) {
		if c := s[i]; !hostByte[c] && c != ':' {
			return false
		}
	}
	return s != ""
}

// validPort allows the empty port of RFC 3986, section 3.2.3.
func validPort(s string) bool {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		if n = n*10 + int(s[i]-'0'); n > 65535 {
			return false
		}
	}
	return true
}

// tokens goes through the elements of a comma-separated list (RFC 9110, section
// 5.6.1), without white space and empty elements.
func tokens(list string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for list != "" {
			element := list
			if comma := indexByte(list, ','); comma >= 0 {
				element, list = list[:comma], list[comma+1:]
			} else {
				list = ""
			}
			if element = trim(element); element != "" && !yield(element) {
				return
			}
		}
	}
}

func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// equalFold compares with an ASCII token in lower case. strings.EqualFold would
// also take the Kelvin sign for a k.
func equalFold(s, token string) bool {
	if len(s) != len(token) {
		return false
	}
	for i := range len(s) {
		if lower[s[i]] != token[i] {
			return false
		}
	}
	return true
}
