package xds

import (
	"fmt"
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
