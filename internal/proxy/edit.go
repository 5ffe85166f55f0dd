package proxy

import (
	"regexp"
	"strings"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// edit is one mesh.HeaderEdit.
type edit struct {
	remove   []string
	set, add []wire.Field
}

// apply removes first, then sets, then adds, as Envoy does.
func (e *edit) apply(h *wire.Head) {
	for _, name := range e.remove {
		h.Del(name)
	}
	for i := range e.set {
		h.Set(e.set[i].Name, e.set[i].Value)
	}
	h.Fields = append(h.Fields, e.add...)
}

// compileEdit takes "host" out of what is set: it is the authority.
func compileEdit(of mesh.HeaderEdit) (e edit, authority string) {
	e.remove = of.Remove
	for _, f := range of.Set {
		if f.Name == "host" {
			authority = f.Value
			continue
		}
		e.set = append(e.set, wire.Field(f))
	}
	for _, f := range of.Add {
		e.add = append(e.add, wire.Field(f))
	}
	return e, authority
}

// pathRewrite changes the path that a destination sees.
type pathRewrite struct {
	path         string
	regex        *regexp.Regexp // nil: path
	substitution string
}

func compileRewrite(of *mesh.Rewrite) (*pathRewrite, error) {
	switch {
	case of == nil || of.Path == nil && of.Regex == nil:
		return nil, nil
	case of.Regex == nil:
		return &pathRewrite{path: *of.Path}, nil
	}
	regex, substitution, err := of.Regex.Compile()
	return &pathRewrite{regex: regex, substitution: substitution}, err
}

// target returns the request target with another path.
func (r *pathRewrite) target(c *call, m *match) string {
	if !strings.HasPrefix(c.path, "/") {
		return c.head.Path // OPTIONS * and CONNECT have no path
	}
	var path string
	n := len(c.path)
	if m != nil {
		if found, ok := m.uri.found(c.path); ok {
			n = found
		}
	}
	switch {
	case r.regex != nil:
		path = r.regex.ReplaceAllString(c.path, r.substitution)
	case strings.HasSuffix(c.path[:n], r.path):
		// "/api/" becomes "/": what is wanted stands there already.
		return c.head.Path[n-len(r.path):]
	default:
		return r.path + c.head.Path[n:]
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return path + c.head.Path[len(c.path):]
}

// editRequest makes the request what the destination sees: path, authority and
// headers. It is done once, before the first try.
func (out *decision) editRequest(c *call) {
	r := out.route
	if r == nil {
		return
	}
	h := c.head
	if r.rewrite != nil {
		h.Path = r.rewrite.target(c, out.match)
	}
	r.request.apply(h)
	authority := r.authority
	if out.share != nil {
		out.share.request.apply(h)
		if out.share.authority != "" {
			authority = out.share.authority
		}
	}
	if authority != "" {
		h.Authority = authority
	}
}

// editAnswer makes an answer, of the destination or a reply, what the caller
// sees.
func (out *decision) editAnswer(answer *wire.Head) {
	r := out.route
	if r != nil && !out.unedited {
		r.answer.apply(answer)
		if out.share != nil {
			out.share.answer.apply(answer)
		}
	}
	if out.reply == nil {
		for _, value := range out.cookies {
			answer.Add("set-cookie", value)
		}
	}
	if out.corsFor != "" {
		r.cors.mark(out.corsFor, answer)
	}
}
