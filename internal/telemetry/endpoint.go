package telemetry

import "strings"

// EndpointName reduces a request to the endpoint it called: the method and the
// path, in which parts that look like identifiers are replaced by "{id}".
// Requests of one endpoint are comparable; their paths need not be equal.
func EndpointName(method, path string) string {
	return string(appendEndpointName(nil, method, path))
}

func appendEndpointName(dst []byte, method, path string) []byte {
	dst = append(dst, method...)
	dst = append(dst, ' ')
	for {
		part, rest, more := strings.Cut(path, "/")
		if isIdentifier(part) {
			part = "{id}"
		}
		dst = append(dst, part...)
		if !more {
			return dst
		}
		dst = append(dst, '/')
		path = rest
	}
}

// isIdentifier: a number, a UUID, or a long word of hexadecimal digits; also
// any word with a digit of 16 characters or more, as keys of stores are.
func isIdentifier(part string) bool {
	if part == "" {
		return false
	}
	digits, hex := 0, 0
	for i := range len(part) {
		switch c := part[i]; {
		case c >= '0' && c <= '9':
			digits++
			hex++
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '-':
			hex++
		}
	}
	switch {
	case digits == len(part):
		return true
	case hex == len(part) && len(part) >= 8 && digits > 0:
		return true
	default:
		return len(part) >= 16 && digits > 0
	}
}
