package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	goyaml "sigs.k8s.io/yaml/goyaml.v3"
)

// places finds lines of manifests: a refusal names an object and a field, and
// whoever applied a folder of files wants to know where that is.
type places struct{ objects []placedObject }

type placedObject struct {
	file, kind, name string
	root             *goyaml.Node
}

// placesOf reads the files that apply was given: files, and folders as kubectl
// reads them. What cannot be read has no places.
func placesOf(names []string) *places {
	p := &places{}
	for _, name := range names {
		files := []string{name}
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			files = nil
			for _, pattern := range []string{"*.yaml", "*.yml", "*.json"} {
				found, err := filepath.Glob(filepath.Join(name, pattern))
				if err == nil {
					files = append(files, found...)
				}
			}
			slices.Sort(files)
		}
		for _, file := range files {
			if data, err := os.ReadFile(file); err == nil {
				p.add(file, data)
			}
		}
	}
	return p
}

func (p *places) add(file string, data []byte) {
	decoder := goyaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc goyaml.Node
		if err := decoder.Decode(&doc); err != nil {
			return // the end, or what apply itself complains of
		}
		if len(doc.Content) == 0 {
			continue
		}
		root := doc.Content[0]
		o := placedObject{file: file, root: root}
		if _, kind := fieldOf(root, "kind"); kind != nil {
			o.kind = kind.Value
		}
		_, metadata := fieldOf(root, "metadata")
		if _, name := fieldOf(metadata, "name"); name != nil {
			o.name = name.Value
		}
		p.objects = append(p.objects, o)
	}
}

// fieldOf is a field of a mapping; nil for none.
func fieldOf(n *goyaml.Node, name string) (key, value *goyaml.Node) {
	if n == nil || n.Kind != goyaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

var (
	// invalid is how kubectl, or the API server, begins to say what is wrong.
	invalid = regexp.MustCompile(`(\w+)(?:\.[\w.]+)? "([^"]+)" is invalid: *`)
	// field is a path such as "spec.http[0].match[1].headers[agent]".
	field = regexp.MustCompile(`^(?:\* )?([a-z]\w*(?:\.[\w-]+|\[[^\]]*\])*): `)
	step  = regexp.MustCompile(`[\w-]+|\[[^\]]*\]`)
)

// mark puts "FILE:LINE: " before what a message says of an object or field.
func (p *places) mark(message string) string {
	lines := strings.Split(message, "\n")
	var object *placedObject
	for i, line := range lines {
		rest := line
		if m := invalid.FindStringSubmatchIndex(line); m != nil {
			object = p.find(line[m[2]:m[3]], line[m[4]:m[5]])
			rest = line[m[1]:]
		}
		if object == nil || rest == "" {
			continue
		}
		path := ""
		if m := field.FindStringSubmatch(rest); m != nil {
			path = m[1]
		} else if rest == line {
			continue // of something else
		}
		lines[i] = fmt.Sprintf("%s:%d: %s", object.file, object.line(path), line)
	}
	return strings.Join(lines, "\n")
}

// find returns the only object of a kind and name; nil if there are none or
// several, in different namespaces.
func (p *places) find(kind, name string) *placedObject {
	var found *placedObject
	for i := range p.objects {
		if o := &p.objects[i]; o.kind == kind && o.name == name {
			if found != nil {
				return nil
			}
			found = o
		}
	}
	return found
}

// line is that of a field, or of what is nearest above it.
func (o *placedObject) line(path string) int {
	node, line := o.root, o.root.Line
	for _, s := range step.FindAllString(path, -1) {
		inner, bracketed := strings.CutPrefix(s, "[")
		inner = strings.TrimSuffix(inner, "]")
		var at, next *goyaml.Node
		if n, err := strconv.Atoi(inner); bracketed && err == nil && node.Kind == goyaml.SequenceNode && n < len(node.Content) {
			next = node.Content[n]
			at = next
		} else {
			at, next = fieldOf(node, inner)
		}
		if next == nil {
			return line
		}
		node, line = next, at.Line
	}
	return line
}
