package argo

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// Group is that of Argo's kinds.
const Group = "argoproj.io"

// converter is one conversion.
type converter struct {
	notes     []Note
	templates map[string]*node // analysis templates by "Kind/name"
	services  map[string]*node // by name
	routes    map[string]*node // VirtualServices by name
	workloads map[string]*node // Deployments by name
	replaced  map[*node]bool   // objects that Serin makes itself
	measured  map[string]bool  // MetricTemplates that were made, by name
}

// output is what comes out of one document.
type output struct {
	notes   []Note
	objects []any
}

// Convert converts the Rollouts in a stream of YAML documents, with the
// analysis templates, Services and VirtualServices that they refer to. What is
// no Argo object is passed on, but for Services and VirtualServices whose place
// the Release takes. The notes say what could not be kept; they stand as
// comments before the objects, too. It fails when there is no Rollout.
func Convert(data []byte) (out []byte, notes []Note, err error) {
	c := &converter{
		templates: map[string]*node{}, services: map[string]*node{}, routes: map[string]*node{}, workloads: map[string]*node{},
		replaced: map[*node]bool{}, measured: map[string]bool{},
	}
	objects, err := c.read(data)
	if err != nil {
		return nil, nil, err
	}
	made := map[*node]output{}
	rollouts := 0
	for _, o := range objects {
		if o.word("kind") != "Rollout" || !isArgo(o) {
			continue
		}
		if o.at("metadata").word("name") == "" {
			return nil, nil, errors.New("a Rollout has no metadata.name: give it one")
		}
		if !o.at("spec").set() {
			return nil, nil, fmt.Errorf("%s has no spec: give the whole object", o.object)
		}
		rollouts++
		before := len(c.notes)
		result := c.rollout(o)
		o.rest()
		made[o] = output{c.notes[before:], result}
	}
	if rollouts == 0 {
		return nil, nil, errors.New("there is no Rollout of argoproj.io: give the file that has it")
	}
	var text bytes.Buffer
	for _, o := range objects {
		switch result, ok := made[o]; {
		case ok:
			err = errors.Join(err, write(&text, result))
		case isArgo(o):
			if kind := o.word("kind"); kind != "AnalysisTemplate" && kind != "ClusterAnalysisTemplate" {
				before := len(c.notes)
				o.note("%ss cannot be kept: Serin has none", kind)
				err = errors.Join(err, write(&text, output{notes: c.notes[before:]}))
			}
		case !c.replaced[o]:
			err = errors.Join(err, write(&text, output{objects: []any{o.all()}}))
		}
	}
	return text.Bytes(), c.notes, err
}

func isArgo(o *node) bool {
	return strings.HasPrefix(o.word("apiVersion"), Group+"/")
}

// read parses the documents and files those that Rollouts refer to.
func (c *converter) read(data []byte) ([]*node, error) {
	var out []*node
	for i, doc := range strings.Split("\n"+string(data), "\n---") {
		var value any
		if err := yaml.Unmarshal([]byte(doc), &value); err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		if value == nil {
			continue // comments alone
		}
		fields, ok := value.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("document %d: is no object", i+1)
		}
		if items, ok := fields["items"].([]any); ok && fields["kind"] == "List" {
			for _, item := range items { // of kubectl get -o yaml
				if object, ok := item.(map[string]any); ok {
					out = append(out, c.file(object))
				}
			}
			continue
		}
		out = append(out, c.file(fields))
	}
	return out, nil
}

// file finds out what an object is.
func (c *converter) file(fields map[string]any) *node {
	o := &node{value: fields, read: map[string]bool{}, below: map[string]*node{}, notes: &c.notes}
	name := o.at("metadata").word("name")
	kind := o.word("kind")
	o.object = strings.TrimSpace(kind + " " + name)
	o.below = map[string]*node{} // what is below has the object's name from here on
	switch {
	case isArgo(o) && strings.HasSuffix(kind, "AnalysisTemplate"):
		c.templates[kind+"/"+name] = o
	case kind == "Service" && o.word("apiVersion") == "v1":
		c.services[name] = o
	case kind == "Deployment":
		c.workloads[name] = o
	case kind == "VirtualService":
		c.routes[name] = o
	}
	return o
}

// write adds a document for each object, with the notes as comments before the
// first.
func write(text *bytes.Buffer, o output) error {
	if text.Len() > 0 {
		text.WriteString("---\n")
	}
	if len(o.notes) > 0 {
		fmt.Fprintln(text, "# Not kept as it was:")
	}
	for _, n := range o.notes {
		fmt.Fprintf(text, "# - %s\n", strings.ReplaceAll(n.String(), "\n", " "))
	}
	for i, object := range o.objects {
		if i > 0 {
			text.WriteString("---\n")
		}
		data, err := yaml.Marshal(object)
		if err != nil {
			return fmt.Errorf("write %T: %w", object, err)
		}
		text.Write(data)
	}
	return nil
}

// replace takes objects out of what is passed on.
func (c *converter) replace(o *node) {
	if o != nil {
		c.replaced[o] = true
	}
}

func orDefault(n *node, name, otherwise string) string { return cmp.Or(n.at(name).text(), otherwise) }
