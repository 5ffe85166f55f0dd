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

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
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

// SetDefaults fills in what an object of the kind that the definition is named
// for leaves out, as the API does when it stores one.
func SetDefaults(name string, object map[string]any) error {
	all, err := All()
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.Name != name {
			continue
		}
		crd, err := d.Parse()
		if err != nil {
			return err
		}
		var internal apiextensions.JSONSchemaProps
		written := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(written, &internal, nil); err != nil {
			return err
		}
		structural, err := schema.NewStructural(&internal)
		if err != nil {
			return err
		}
		defaulting.Default(object, structural)
		return nil
	}
	return fmt.Errorf("there is no definition %s", name)
}
