package telemetry

import "strings"

// EndpointName reduces a request to the endpoint it called: the method and the
// path, in which parts that look like identifiers are replaced by "{id}".
// Requests of one endpoint are comparable; their paths need not be equal.
func EndpointName(method, path string) string {
	var b strings.Builder
	b.WriteString(method)
	b.WriteByte(' ')
	for i, part := range strings.Split(path, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		if isIdentifier(part) {
			part = "{id}"
		}
		b.WriteString(part)
	}
	return b.String()
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
