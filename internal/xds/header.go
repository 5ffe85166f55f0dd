package xds

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"serin.dev/serin/internal/mesh"
)

// encodeEdit makes Envoy's form: it removes first, too, and then sets and adds
// in the order of the list.
func encodeEdit(e *mesh.HeaderEdit) (add []*corev3.HeaderValueOption, remove []string) {
	option := func(h mesh.Header, action corev3.HeaderValueOption_HeaderAppendAction) {
		add = append(add, &corev3.HeaderValueOption{
			Header:         &corev3.HeaderValue{Key: h.Name, Value: escape(h.Value)},
			AppendAction:   action,
			KeepEmptyValue: true,
		})
	}
	for _, h := range e.Set {
		option(h, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	}
	for _, h := range e.Add {
		option(h, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
	}
	return add, e.Remove
}

func decodeEdit(add []*corev3.HeaderValueOption, remove []string) (mesh.HeaderEdit, error) {
	e := mesh.HeaderEdit{Remove: full(remove)}
	for _, option := range add {
		h := mesh.Header{Name: option.GetHeader().GetKey(), Value: unescape(option.GetHeader().GetValue())}
		switch a := option.GetAppendAction(); a {
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			e.Set = append(e.Set, h)
		case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
			e.Add = append(e.Add, h)
		default:
			return e, fmt.Errorf("header %s: action %v is none of ours", h.Name, a)
		}
	}
	return e, nil
}

// decodeEdits is nil where nothing is edited.
func decodeEdits(m interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}) (*mesh.HeaderEdits, error) {
	var out mesh.HeaderEdits
	var err error
	if out.Request, err = decodeEdit(m.GetRequestHeadersToAdd(), m.GetRequestHeadersToRemove()); err != nil {
		return nil, err
	}
	if out.Answer, err = decodeEdit(m.GetResponseHeadersToAdd(), m.GetResponseHeadersToRemove()); err != nil {
		return nil, err
	}
	return canonicalEdits(&out), nil
}

// escape keeps a value from being read as one of Envoy's format strings.
func escape(value string) string { return strings.ReplaceAll(value, "%", "%%") }

func unescape(value string) string { return strings.ReplaceAll(value, "%%", "%") }

// joinEdits makes one edit of two that come after each other. Names that the
// second removes or sets are all its own; of the others, each does its part.
func joinEdits(first, second *mesh.HeaderEdit) mesh.HeaderEdit {
	own := map[string]bool{}
	for _, name := range second.Remove {
		own[name] = true
	}
	for _, h := range second.Set {
		own[h.Name] = true
	}
	out := mesh.HeaderEdit{}
	for _, name := range first.Remove {
		if !own[name] {
			out.Remove = append(out.Remove, name)
		}
	}
	keep := func(list []mesh.Header) (kept []mesh.Header) {
		for _, h := range list {
			if !own[h.Name] {
				kept = append(kept, h)
			}
		}
		return kept
	}
	out.Remove = append(out.Remove, second.Remove...)
	out.Set = append(keep(first.Set), second.Set...)
	out.Add = append(keep(first.Add), second.Add...)
	return out
}

// atShares moves the edits of a route and its authority to the shares of its
// split where one of them has edits: Envoy edits for the share first, and for
// the route after it.
func atShares(r *mesh.Route) *mesh.Route {
	if !slices.ContainsFunc(r.Split, func(d mesh.Destination) bool { return d.Headers != nil }) {
		return r
	}
	out := *r
	var first mesh.HeaderEdits
	if r.Headers != nil {
		first = *r.Headers
	}
	if r.Rewrite != nil && r.Rewrite.Authority != "" {
		rewrite := *r.Rewrite
		first.Request.Set = append([]mesh.Header{{Name: "host", Value: rewrite.Authority}}, first.Request.Set...)
		rewrite.Authority = ""
		out.Rewrite = &rewrite
	}
	out.Headers, out.Split = nil, slices.Clone(r.Split)
	for i := range out.Split {
		d := &out.Split[i]
		var second mesh.HeaderEdits
		if d.Headers != nil {
			second = *d.Headers
		}
		d.Headers = canonicalEdits(&mesh.HeaderEdits{
			Request: joinEdits(&first.Request, &second.Request), Answer: joinEdits(&first.Answer, &second.Answer),
		})
	}
	return &out
}
