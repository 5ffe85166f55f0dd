package proxy

import (
	"net/http"
	"strconv"
	"strings"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// redirect is one mesh.Redirect. It makes the location that Envoy makes.
type redirect struct {
	code              int
	scheme, authority string
	port              string // ":8443"; "" = as the location needs
	path              string
	prefix            *string
}

func compileRedirect(of *mesh.Redirect) *redirect {
	if of == nil {
		return nil
	}
	r := &redirect{code: of.Code, scheme: of.Scheme, authority: of.Authority, path: of.Path, prefix: of.Prefix}
	if of.Port != 0 {
		r.port = ":" + strconv.Itoa(int(of.Port))
	}
	return r
}

func (r *redirect) reply(c *call, m *match) *reply {
	return redirection(r.code, r.location(c, m))
}

func (r *redirect) location(c *call, m *match) string {
	scheme := r.scheme
	if scheme == "" {
		scheme = c.scheme
	}
	authority := r.authority
	if authority == "" {
		authority = r.called(c, scheme)
	}
	path, query := c.path, c.query
	switch {
	case r.path != "":
		path = r.path
		if strings.Contains(path, "?") {
			query = ""
		}
	case r.prefix != nil && m != nil:
		if n, ok := m.uri.found(c.path); ok {
			path = *r.prefix + c.path[n:]
		}
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if query != "" {
		path += "?" + query
	}
	return scheme + "://" + authority + r.port + path
}

// called is the authority that was called. Its port goes where another one is
// told, and where it is the default one of a scheme that is left.
func (r *redirect) called(c *call, scheme string) string {
	host, port := c.head.Authority, ""
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
		host, port = host[:colon], host[colon:]
	}
	if r.port != "" || scheme != c.scheme && (c.scheme == "http" && port == ":80" || c.scheme == "https" && port == ":443") {
		return host
	}
	return c.head.Authority
}

// httpsReply sends the caller of a host that requires TLS there.
func httpsReply(c *call) *reply {
	location := "https://" + c.head.Authority + c.path
	if c.query != "" {
		location += "?" + c.query
	}
	return redirection(http.StatusMovedPermanently, location)
}

func redirection(code int, location string) *reply {
	return &reply{status: code, grpc: noGRPC, fields: []wire.Field{{Name: "location", Value: location}}}
}
