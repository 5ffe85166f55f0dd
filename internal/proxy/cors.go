package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// cors is one mesh.CORS, which works as Envoy's filter does.
type cors struct {
	origins   []condition
	preflight []wire.Field // of the answer to a preflight request, beyond marks
	marks     []wire.Field // of every answer, beyond the origin
}

const allowOrigin = "access-control-allow-origin"

func compileCORS(of *mesh.CORS) (*cors, error) {
	if of == nil {
		return nil, nil
	}
	c := &cors{origins: make([]condition, len(of.Origins))}
	for i := range of.Origins {
		if err := c.origins[i].compile(&of.Origins[i]); err != nil {
			return nil, err
		}
	}
	add := func(to *[]wire.Field, name, value string) {
		if value != "" {
			*to = append(*to, wire.Field{Name: name, Value: value})
		}
	}
	if of.Credentials {
		add(&c.marks, "access-control-allow-credentials", "true")
	}
	add(&c.marks, "access-control-expose-headers", strings.Join(of.Expose, ","))
	add(&c.preflight, "access-control-allow-methods", strings.Join(of.Methods, ","))
	add(&c.preflight, "access-control-allow-headers", strings.Join(of.Headers, ","))
	if of.MaxAge > 0 {
		add(&c.preflight, "access-control-max-age", strconv.FormatInt(int64(of.MaxAge/time.Second), 10))
	}
	return c, nil
}

// covers returns the origin from which the request comes; "" for none of ours.
// An exact "*" is any origin.
func (c *cors) covers(request *wire.Head) string {
	origin, _ := request.Get("origin")
	for i := range c.origins {
		if c.origins[i].holds(origin, true) || c.origins[i].holds("*", true) {
			return origin
		}
	}
	return ""
}

// isPreflight reports whether a browser asks for permission (Fetch standard,
// "CORS-preflight request").
func isPreflight(request *wire.Head) bool {
	wanted, _ := request.Get("access-control-request-method")
	return request.Method == http.MethodOptions && wanted != ""
}

// permission is the answer to a preflight request; it is marked as all are.
func (c *cors) permission() *reply {
	return &reply{status: http.StatusOK, grpc: noGRPC, fields: c.preflight}
}

// mark tells the browser that the answer may be read by the origin that asked.
func (c *cors) mark(origin string, answer *wire.Head) {
	answer.Set(allowOrigin, origin)
	for _, f := range c.marks {
		answer.Set(f.Name, f.Value)
	}
}
