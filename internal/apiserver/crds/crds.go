// Package crds holds the CustomResourceDefinitions that Serin serves beside the
// built-in kinds: Istio's networking kinds, Flagger's, and Serin's own.
//
// The files are generated (make generate) from the pinned modules and from
// package api, and must not be edited. Third-party schemas come without their
// descriptions, which are most of the memory a schema takes; ours keep them,
// because `kubectl explain` shows them.
//
// Read next: gen/main.go, which writes the files.
package crds

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

//go:generate go run ./gen

//go:embed *.yaml
var files embed.FS

// Definition is one CustomResourceDefinition, parsed on demand: a server that
// has it already compares hashes only.
type Definition struct {
	Name string // such as "releases.serin.dev"
	Hash string // of the YAML
	yaml []byte
}

// All lists the definitions by name.
func All() ([]Definition, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var all []Definition
	for _, e := range entries {
		data, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		all = append(all, Definition{
			Name: strings.TrimSuffix(e.Name(), ".yaml"),
			Hash: hex.EncodeToString(sum[:8]),
			yaml: data,
		})
	}
	return all, nil
}

// Parse gives the object.
func (d Definition) Parse() (*apiextensionsv1.CustomResourceDefinition, error) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(d.yaml, crd); err != nil {
		return nil, fmt.Errorf("definition %s: %w", d.Name, err)
	}
	return crd, nil
}
