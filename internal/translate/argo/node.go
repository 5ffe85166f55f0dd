package argo

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Note is something of an object that could not be kept as it was.
type Note struct {
	Object string // such as "Rollout guestbook"
	Path   string // such as spec.strategy.canary.steps[2].experiment
	Reason string // why, and what to do
}

// String is the note in one line.
func (n Note) String() string { return n.Object + ": " + n.Path + ": " + n.Reason }

// node is a part of an object that remembers which of its fields were read.
type node struct {
	object string
	path   string
	value  any
	read   map[string]bool
	below  map[string]*node
	notes  *[]Note
}

// note says what of this part is not kept.
func (n *node) note(format string, args ...any) {
	said := Note{n.object, n.path, fmt.Sprintf(format, args...)}
	if !slices.Contains(*n.notes, said) {
		*n.notes = append(*n.notes, said)
	}
}

// at is a field, which counts as read; one that is not there has no value.
func (n *node) at(name string) *node {
	if child := n.below[name]; child != nil {
		return child
	}
	fields, _ := n.value.(map[string]any)
	path := strings.TrimPrefix(n.path+"."+name, ".")
	child := &node{object: n.object, path: path, value: fields[name], read: map[string]bool{}, below: map[string]*node{}, notes: n.notes}
	n.read[name], n.below[name] = true, child
	return child
}

// in is at for several names, one within the other.
func (n *node) in(names ...string) *node {
	for _, name := range names {
		n = n.at(name)
	}
	return n
}

func (n *node) has(name string) bool {
	fields, _ := n.value.(map[string]any)
	_, ok := fields[name]
	return ok
}

// set reports whether the part is there.
func (n *node) set() bool { return n.value != nil }

// list are the elements of a list.
func (n *node) list() []*node {
	values, _ := n.value.([]any)
	var out []*node
	for i, v := range values {
		name := fmt.Sprintf("[%d]", i)
		child := n.below[name]
		if child == nil {
			child = &node{object: n.object, path: n.path + name, value: v, read: map[string]bool{}, below: map[string]*node{}, notes: n.notes}
			n.below[name] = child
		}
		out = append(out, child)
	}
	return out
}

// text is a text, or a number or truth value as it was written; "" = none.
func (n *node) text() string {
	switch v := n.value.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any, []any:
		n.note("is not one value: correct it")
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// word is a field that is a text; "" = it is none, which is not told.
func (n *node) word(name string) string {
	s, _ := n.at(name).value.(string)
	return s
}

// number is a whole number; ok is false without one.
func (n *node) number() (v int, ok bool) {
	if !n.set() {
		return 0, false
	}
	v, err := strconv.Atoi(n.text())
	if err != nil {
		n.note("%q is no number that is known here: write it out", n.text())
		return 0, false
	}
	return v, true
}

func (n *node) yes() bool { return n.text() == "true" }

// all is the part as it is.
func (n *node) all() any { return n.value }

// decode reads the part into a value of a type.
func (n *node) decode(into any) {
	data, err := json.Marshal(n.value)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		n.note("cannot be read: %v", err)
	}
}

// drop says of fields that are set that they are not kept.
func (n *node) drop(reason string, names ...string) {
	for _, name := range names {
		if child := n.at(name); child.set() {
			child.note("%s", reason)
		}
	}
}

// metadata counts as read what objects have of the API, or keep.
func (n *node) metadata() {
	for _, field := range []string{"name", "namespace", "labels", "annotations", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"} {
		n.in("metadata", field)
	}
}

// rest notes what nobody has read below the fields that somebody has looked
// into.
func (n *node) rest() {
	fields, _ := n.value.(map[string]any)
	looked := len(n.read) > 0
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if looked && !n.read[name] {
			n.at(name).note("is not known here")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.below)) {
		n.below[name].rest()
	}
}

// orNone is the part itself, or one without a value where there is none.
func (n *node) orNone() *node {
	if n != nil {
		return n
	}
	return &node{read: map[string]bool{}, below: map[string]*node{}, notes: new([]Note)}
}

// notifications tells of annotations that subscribe to Argo's notifications.
func (n *node) notifications() {
	annotations, _ := n.in("metadata", "annotations").value.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if strings.HasPrefix(name, "notifications.argoproj.io/") {
			n.in("metadata", "annotations").note("%s has no effect: name an AlertProvider in spec.alerts", name)
		}
	}
}
