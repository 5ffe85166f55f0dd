package proxy

import (
	"strconv"
	"strings"
)

// httpPort is the port of an authority without one (RFC 9110, section 4.2.1).
const httpPort = 80

// parseAuthority splits "host:port" of a Host header or request target into a
// host in lower case, without the final dot of a full name and the brackets of
// an IPv6 address, and the port. It reports false for what is no authority:
// user information, an empty host, a port outside of 1..65535.
//
// It does not allocate where the host is in lower case already.
func parseAuthority(authority string) (host string, port uint16, ok bool) {
	host, port = authority, httpPort
	if literal, found := strings.CutPrefix(authority, "["); found {
		end := strings.IndexByte(literal, ']')
		if end < 0 {
			return "", 0, false
		}
		host = literal[:end]
		if !strings.Contains(host, ":") {
			return "", 0, false
		}
		switch rest := literal[end+1:]; {
		case rest == "":
			return checkedHost(host, httpPort, true)
		case rest[0] != ':':
			return "", 0, false
		default:
			port, ok = parsePort(rest[1:])
			return checkedHost(host, port, ok)
		}
	}
	if colon := strings.IndexByte(authority, ':'); colon >= 0 {
		host = authority[:colon]
		if port, ok = parsePort(authority[colon+1:]); !ok {
			return "", 0, false
		}
	}
	return checkedHost(strings.TrimSuffix(host, "."), port, true)
}

// parsePort reads digits alone: no sign, no space, no name. An empty port is
// the default one, which RFC 3986 section 3.2.3 allows.
func parsePort(s string) (uint16, bool) {
	if s == "" {
		return httpPort, true
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0
}

// checkedHost refuses characters that no host name or address has, so that
// nothing later sees a delimiter inside of a host.
func checkedHost(host string, port uint16, ok bool) (string, uint16, bool) {
	if !ok || host == "" {
		return "", 0, false
	}
	for i := range len(host) {
		switch c := host[i]; {
		case c <= ' ', c >= 0x7f:
			return "", 0, false
		case strings.IndexByte(`/?#@[]\"<>^{}|`+"`", c) >= 0:
			return "", 0, false
		}
	}
	return strings.ToLower(host), port, true
}

// requestPath returns the path of a request target as it was sent, without
// the query: the part of "/a%2Fb?x", "http://host/a%2Fb?x" or "*" that routes
// match and records show.
func requestPath(target string) string {
	if scheme := strings.Index(target, "://"); scheme >= 0 && !strings.HasPrefix(target, "/") {
		rest := target[scheme+len("://"):]
		slash := strings.IndexAny(rest, "/?")
		if slash < 0 || rest[slash] == '?' {
			return "/"
		}
		target = rest[slash:]
	}
	path, _, _ := strings.Cut(target, "?")
	if path == "" {
		return "/"
	}
	return path
}
