package apiserver

import (
	"fmt"
	"net/url"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// builtinVersions are the API versions served by Go types, as opposed to CRDs.
var builtinVersions = []schema.GroupVersion{
	corev1.SchemeGroupVersion,
	appsv1.SchemeGroupVersion,
	autoscalingv2.SchemeGroupVersion,
	coordinationv1.SchemeGroupVersion,
	discoveryv1.SchemeGroupVersion,
	authenticationv1.SchemeGroupVersion,
	metricsv1beta1.SchemeGroupVersion,
}

// newScheme knows the built-in kinds.
//
// Kubernetes keeps a second set of types, the internal version, into which its
// handlers decode. Every kind here has one version only, so the same Go type is
// registered a second time as internal, and no conversion is ever needed.
func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme,
		appsv1.AddToScheme,
		autoscalingv2.AddToScheme,
		coordinationv1.AddToScheme,
		discoveryv1.AddToScheme,
		authenticationv1.AddToScheme,
		metricsv1beta1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	// The scale subresource is all that is served of autoscaling/v1.
	s.AddKnownTypes(autoscalingv1.SchemeGroupVersion, &autoscalingv1.Scale{})
	metav1.AddToGroupVersion(s, autoscalingv1.SchemeGroupVersion)
	for _, gv := range append([]schema.GroupVersion{autoscalingv1.SchemeGroupVersion}, builtinVersions...) {
		internal := schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}
		for kind := range s.KnownTypes(gv) {
			if metaKinds[kind] {
				continue
			}
			obj, err := s.New(gv.WithKind(kind))
			if err != nil {
				return nil, err
			}
			s.AddKnownTypeWithName(internal.WithKind(kind), obj)
		}
		if err := s.SetVersionPriority(gv); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	addDefaults(s)
	if err := s.AddConversionFunc((*url.Values)(nil), (*corev1.PodLogOptions)(nil), convertPodLogOptions); err != nil {
		return nil, err
	}
	for kind, fields := range fieldLabels {
		if err := s.AddFieldLabelConversionFunc(kind, labelChecker(fields)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// metaKinds are registered with every version and have no internal form.
var metaKinds = map[string]bool{
	"WatchEvent": true, "ListOptions": true, "GetOptions": true, "DeleteOptions": true,
	"CreateOptions": true, "UpdateOptions": true, "PatchOptions": true,
}

// fieldLabels are the fields by which --field-selector may select, besides the
// name and namespace. Their values come from resource.fields.
var fieldLabels = map[schema.GroupVersionKind][]string{
	corev1.SchemeGroupVersion.WithKind("Pod"): {"spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP"},
	corev1.SchemeGroupVersion.WithKind("Event"): {
		"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
		"involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
		"reason", "reportingComponent", "source", "type",
	},
	corev1.SchemeGroupVersion.WithKind("Namespace"): {"status.phase"},
	corev1.SchemeGroupVersion.WithKind("Secret"):    {"type"},
	corev1.SchemeGroupVersion.WithKind("Service"):   {"spec.clusterIP", "spec.type"},
}

func labelChecker(known []string) runtime.FieldLabelConversionFunc {
	return func(label, value string) (string, string, error) {
		for _, k := range append([]string{"metadata.name", "metadata.namespace"}, known...) {
			if label == k {
				return label, value, nil
			}
		}
		return "", "", fmt.Errorf("%q is not a known field selector: only \"metadata.name\", \"metadata.namespace\" and %q", label, known)
	}
}

// convertPodLogOptions reads the query of pods/log.
func convertPodLogOptions(from, to any, _ conversion.Scope) error {
	query, opts := *from.(*url.Values), to.(*corev1.PodLogOptions)
	opts.Container = query.Get("container")
	for name, field := range map[string]*bool{
		"follow": &opts.Follow, "previous": &opts.Previous, "timestamps": &opts.Timestamps,
	} {
		if text := query.Get(name); text != "" {
			v, err := strconv.ParseBool(text)
			if err != nil {
				return fmt.Errorf("%s=%q: want true or false", name, text)
			}
			*field = v
		}
	}
	for name, field := range map[string]**int64{
		"sinceSeconds": &opts.SinceSeconds, "tailLines": &opts.TailLines, "limitBytes": &opts.LimitBytes,
	} {
		if text := query.Get(name); text != "" {
			v, err := strconv.ParseInt(text, 10, 64)
			if err != nil || v < 0 {
				return fmt.Errorf("%s=%q: want a number of 0 or more", name, text)
			}
			*field = &v
		}
	}
	if text := query.Get("sinceTime"); text != "" {
		opts.SinceTime = &metav1.Time{}
		if err := opts.SinceTime.UnmarshalQueryParameter(text); err != nil {
			return fmt.Errorf("sinceTime=%q: want RFC 3339 such as 2006-01-02T15:04:05Z", text)
		}
	}
	return nil
}

// storageCodec writes built-in objects to etcd in their one version, as JSON.
func storageCodec(codecs serializer.CodecFactory) runtime.Codec {
	return codecs.LegacyCodec(builtinVersions...)
}
