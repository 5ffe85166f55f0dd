package apiserver

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"serin.dev/serin/internal/apiserver/crds"
)

// Complete does to an object of a file what a server does to one that is
// applied, as far as its schema goes: fields that are unknown or do not fit are
// errors, and those that are left out get their defaults. The definition is the
// one of that name that Serin serves, such as "releases.serin.dev".
func Complete(definition string, obj *unstructured.Unstructured) error {
	all, err := crds.All()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(d crds.Definition) bool { return d.Name == definition })
	if i < 0 {
		return fmt.Errorf("there is no definition %s", definition)
	}
	crd, err := all[i].Parse()
	if err != nil {
		return err
	}
	kind := obj.GroupVersionKind()
	for _, v := range crd.Spec.Versions {
		if v.Name == kind.Version && crd.Spec.Group == kind.Group && crd.Spec.Names.Kind == kind.Kind {
			return completeBy(v.Schema, obj)
		}
	}
	return fmt.Errorf("%s %s is not of the definition %s", kind, obj.GetName(), definition)
}

func completeBy(v *apiextensionsv1.CustomResourceValidation, obj *unstructured.Unstructured) error {
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.OpenAPIV3Schema, &props, nil); err != nil {
		return err
	}
	structural, err := schema.NewStructural(&props)
	if err != nil {
		return err
	}
	unknown := pruning.PruneWithOptions(obj.Object, structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return fmt.Errorf("unknown field %q", strings.Join(unknown, `", "`))
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(obj.Object, structural)
	defaulting.Default(obj.Object, structural)
	validator, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		return err
	}
	return validation.ValidateCustomResource(nil, obj.Object, validator).ToAggregate()
}
