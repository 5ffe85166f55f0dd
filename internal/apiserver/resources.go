package apiserver

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// resource describes one built-in kind. The zero value of every optional field
// means the plain behaviour.
type resource struct {
	version       schema.GroupVersion
	name          string // plural, as in URLs: "pods"
	singular      string
	kind          string
	shortNames    []string
	categories    []string // "all" is what `kubectl get all` lists
	clusterScoped bool

	newObject func() runtime.Object
	newList   func() runtime.Object

	// status: the object has a status, written through its subresource only.
	status bool
	// createOnUpdate: a PUT of an absent object creates it.
	createOnUpdate bool
	// ttl in seconds after which the object goes by itself; 0: never.
	ttl uint64

	// prepare normalizes an object before it is validated and stored; old is
	// nil on creation.
	prepare func(obj, old runtime.Object)
	// validate returns what is wrong; old is nil on creation.
	validate func(obj, old runtime.Object) field.ErrorList
	// fields are the values of fieldLabels.
	fields func(obj runtime.Object) fields.Set
	// columns and row are what kubectl prints, after the name.
	columns []metav1.TableColumnDefinition
	row     func(obj runtime.Object) []any
}

// eventTTL: an hour, Kubernetes' own; an event explains what just happened.
const eventTTL = 3600

// resources is the table of built-in kinds.
//
//archtest:long a table, a row for each kind
func resources() []resource {
	core, apps := corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion
	coordination, discovery := coordinationv1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion
	return []resource{
		{
			version: core, name: "namespaces", singular: "namespace", kind: "Namespace",
			shortNames: []string{"ns"}, clusterScoped: true, status: true,
			newObject: func() runtime.Object { return &corev1.Namespace{} },
			newList:   func() runtime.Object { return &corev1.NamespaceList{} },
			prepare:   prepareNamespace, validate: validateNamespace,
			fields:  namespaceFields,
			columns: namespaceColumns, row: namespaceRow,
		},
		{
			version: core, name: "pods", singular: "pod", kind: "Pod",
			shortNames: []string{"po"}, categories: []string{"all"}, status: true,
			newObject: func() runtime.Object { return &corev1.Pod{} },
			newList:   func() runtime.Object { return &corev1.PodList{} },
			prepare:   preparePod, validate: validatePod,
			fields:  podFields,
			columns: podColumns, row: podRow,
		},
		{
			version: core, name: "services", singular: "service", kind: "Service",
			shortNames: []string{"svc"}, categories: []string{"all"}, status: true,
			newObject: func() runtime.Object { return &corev1.Service{} },
			newList:   func() runtime.Object { return &corev1.ServiceList{} },
			validate:  validateService,
			fields:    serviceFields,
			columns:   serviceColumns, row: serviceRow,
		},
		{
			version: core, name: "configmaps", singular: "configmap", kind: "ConfigMap",
			shortNames: []string{"cm"},
			newObject:  func() runtime.Object { return &corev1.ConfigMap{} },
			newList:    func() runtime.Object { return &corev1.ConfigMapList{} },
			validate:   validateConfigMap,
			columns:    configMapColumns, row: configMapRow,
		},
		{
			version: core, name: "secrets", singular: "secret", kind: "Secret",
			newObject: func() runtime.Object { return &corev1.Secret{} },
			newList:   func() runtime.Object { return &corev1.SecretList{} },
			prepare:   prepareSecret, validate: validateSecret,
			fields:  secretFields,
			columns: secretColumns, row: secretRow,
		},
		{
			// Manifests written for clusters have one for each application.
			// Here all pods are the same user's, so it names an identity and
			// grants nothing.
			version: core, name: "serviceaccounts", singular: "serviceaccount", kind: "ServiceAccount",
			shortNames: []string{"sa"},
			newObject:  func() runtime.Object { return &corev1.ServiceAccount{} },
			newList:    func() runtime.Object { return &corev1.ServiceAccountList{} },
			validate:   validateServiceAccount,
			columns:    serviceAccountColumns, row: serviceAccountRow,
		},
		{
			version: core, name: "events", singular: "event", kind: "Event",
			shortNames: []string{"ev"}, ttl: eventTTL, createOnUpdate: true,
			newObject: func() runtime.Object { return &corev1.Event{} },
			newList:   func() runtime.Object { return &corev1.EventList{} },
			validate:  validateEvent,
			fields:    eventFields,
			columns:   eventColumns, row: eventRow,
		},
		{
			version: apps, name: "deployments", singular: "deployment", kind: "Deployment",
			shortNames: []string{"deploy"}, categories: []string{"all"}, status: true,
			newObject: func() runtime.Object { return &appsv1.Deployment{} },
			newList:   func() runtime.Object { return &appsv1.DeploymentList{} },
			validate:  validateDeployment,
			columns:   deploymentColumns, row: deploymentRow,
		},
		{
			version: apps, name: "controllerrevisions", singular: "controllerrevision", kind: "ControllerRevision",
			newObject: func() runtime.Object { return &appsv1.ControllerRevision{} },
			newList:   func() runtime.Object { return &appsv1.ControllerRevisionList{} },
			validate:  validateControllerRevision,
			columns:   controllerRevisionColumns, row: controllerRevisionRow,
		},
		{
			// Nothing here measures pods, so nobody acts on these; but the
			// manifests that come with applications have them, and what is made
			// of them can be seen.
			version: autoscalingv2.SchemeGroupVersion, name: "horizontalpodautoscalers", singular: "horizontalpodautoscaler", kind: "HorizontalPodAutoscaler",
			shortNames: []string{"hpa"}, categories: []string{"all"}, status: true,
			newObject: func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
			newList:   func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} },
			validate:  validateAutoscaler,
			columns:   autoscalerColumns, row: autoscalerRow,
		},
		{
			version: coordination, name: "leases", singular: "lease", kind: "Lease",
			createOnUpdate: true,
			newObject:      func() runtime.Object { return &coordinationv1.Lease{} },
			newList:        func() runtime.Object { return &coordinationv1.LeaseList{} },
			validate:       validateLease,
			columns:        leaseColumns, row: leaseRow,
		},
		{
			version: discovery, name: "endpointslices", singular: "endpointslice", kind: "EndpointSlice",
			shortNames: []string{"eps"},
			newObject:  func() runtime.Object { return &discoveryv1.EndpointSlice{} },
			newList:    func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
			validate:   validateEndpointSlice,
			columns:    endpointSliceColumns, row: endpointSliceRow,
		},
	}
}

func (r resource) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.version.Group, Resource: r.name}
}

func (r resource) groupVersionResource() schema.GroupVersionResource {
	return r.version.WithResource(r.name)
}
