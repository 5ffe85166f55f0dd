package istio

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Ambiguities reports where a spec, as decoded from JSON, sets several fields of
// which there can be one, such as exact and prefix of a match: such a spec is
// none that could be decoded into the kind of o, of which nothing else is used.
func Ambiguities(o metav1.Object, spec map[string]any) []Finding {
	r := &report{origin: originOf(o)}
	if d := specOf(o); d != nil {
		r.ambiguous("spec", d, spec)
	}
	return r.findings
}

func specOf(o metav1.Object) protoreflect.MessageDescriptor {
	switch o := o.(type) {
	case *istiov1.VirtualService:
		return o.Spec.ProtoReflect().Descriptor()
	case *istiov1.DestinationRule:
		return o.Spec.ProtoReflect().Descriptor()
	case *istiov1.Gateway:
		return o.Spec.ProtoReflect().Descriptor()
	case *istiov1.ServiceEntry:
		return o.Spec.ProtoReflect().Descriptor()
	case *istiov1.WorkloadEntry:
		return o.Spec.ProtoReflect().Descriptor()
	case *securityv1.AuthorizationPolicy:
		return o.Spec.ProtoReflect().Descriptor()
	}
	return nil
}

func (r *report) ambiguous(path string, d protoreflect.MessageDescriptor, message map[string]any) {
	chosen := map[protoreflect.FullName][]string{} // by oneof
	for _, name := range slices.Sorted(maps.Keys(message)) {
		fd := d.Fields().ByJSONName(name)
		if fd == nil || message[name] == nil {
			continue // the schema says whether there is such a field
		}
		if one := fd.ContainingOneof(); one != nil && !one.IsSynthetic() {
			chosen[one.FullName()] = append(chosen[one.FullName()], name)
		}
		here := path + "." + name
		switch value := message[name].(type) {
		case map[string]any:
			switch {
			case !fd.IsMap() && fd.Message() != nil:
				r.ambiguous(here, fd.Message(), value)
			case fd.IsMap() && fd.MapValue().Message() != nil:
				for _, key := range slices.Sorted(maps.Keys(value)) {
					r.ambiguousItem(fmt.Sprintf("%s[%s]", here, key), fd.MapValue().Message(), value[key])
				}
			}
		case []any:
			if fd.IsList() && fd.Message() != nil {
				for i, item := range value {
					r.ambiguousItem(fmt.Sprintf("%s[%d]", here, i), fd.Message(), item)
				}
			}
		}
	}
	for _, one := range slices.Sorted(maps.Keys(chosen)) {
		if names := chosen[one]; len(names) > 1 {
			r.errorf(path, "has %s: keep one", strings.Join(names, " and "))
		}
	}
}

func (r *report) ambiguousItem(path string, d protoreflect.MessageDescriptor, item any) {
	if message, ok := item.(map[string]any); ok {
		r.ambiguous(path, d, message)
	}
}
