package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
)

// Admit judges one request to store an object. Warnings are shown to the user
// either way; an error refuses the request and is shown as the object being
// invalid, unless it is a Kubernetes API error, which is passed on. Several
// errors are joined; each should begin with the path of its field and a colon,
// as in "spec.http[0].route: weights sum to 90". Admit is asked after the object
// passed its schema, and must not change it.
type Admit func(ctx context.Context, req Request) (warnings []string, err error)

// Precheck is asked before an object is held against its schema, of which several
// lines may say one thing and none what to change. What it refuses is shown as
// by Admit, in the schema's place. It must not change the object.
type Precheck func(req Request) error

// Request is what Admit and Precheck judge: a creation or an update.
type Request struct {
	Resource    schema.GroupVersionResource
	Subresource string // "" or "status", "scale"
	Namespace   string
	Name        string // "" when the server is going to generate it
	// Object is the object as it would be stored: *unstructured.Unstructured
	// for kinds defined by CRDs, in the version of Resource, else the Go type.
	Object runtime.Object
	// Old is the object as it is stored; nil for a creation.
	Old    runtime.Object
	DryRun bool
}

// admissionChain decides what may be written beyond an object's own validity.
type admissionChain struct {
	cfg        Config
	namespaces rest.Getter
}

var (
	_ admission.MutationInterface   = (*admissionChain)(nil)
	_ admission.ValidationInterface = (*admissionChain)(nil)
)

// permanentNamespaces cannot be deleted; clients take them for granted.
var permanentNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem}

func (c *admissionChain) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update || op == admission.Delete
}

// Admit runs before the schema, and changes nothing.
func (c *admissionChain) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetOperation() == admission.Delete || c.cfg.Precheck == nil {
		return nil
	}
	return asInvalid(a, c.cfg.Precheck(requestOf(a)))
}

func requestOf(a admission.Attributes) Request {
	return Request{
		Resource: a.GetResource(), Subresource: a.GetSubresource(),
		Namespace: a.GetNamespace(), Name: a.GetName(),
		Object: a.GetObject(), Old: a.GetOldObject(), DryRun: a.IsDryRun(),
	}
}

func (c *admissionChain) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetOperation() == admission.Delete {
		if a.GetResource().GroupResource() == (schema.GroupResource{Resource: "namespaces"}) && slices.Contains(permanentNamespaces, a.GetName()) {
			return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), errors.New("this namespace may not be deleted"))
		}
		return nil
	}
	if err := checkSpace(c.cfg); err != nil {
		return outOfSpace(err)
	}
	if a.GetOperation() == admission.Create {
		if err := c.checkNamespace(ctx, a); err != nil {
			return err
		}
	}
	if c.cfg.Admit == nil {
		return nil
	}
	warnings, err := c.cfg.Admit(ctx, requestOf(a))
	for _, w := range warnings {
		warning.AddWarning(ctx, "", w)
	}
	return asInvalid(a, err)
}

// checkNamespace refuses new objects in a namespace that is absent or going.
// It reads the store, not a cache: a namespace made a moment ago is there.
func (c *admissionChain) checkNamespace(ctx context.Context, a admission.Attributes) error {
	isNamespace := a.GetResource().GroupResource() == (schema.GroupResource{Resource: "namespaces"})
	if a.GetNamespace() == "" || isNamespace || a.GetSubresource() != "" {
		return nil
	}
	obj, err := c.namespaces.Get(ctx, a.GetNamespace(), &metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		// The store would name the kind that the request is about.
		return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, a.GetNamespace())
	}
	if err != nil {
		return err
	}
	if obj.(*corev1.Namespace).DeletionTimestamp == nil {
		return nil
	}
	refusal := apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(),
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.GetNamespace()))
	refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", a.GetNamespace()),
		Field:   "metadata.namespace",
	})
	return refusal
}

// asInvalid presents a refusal the way a failed validation is presented.
func asInvalid(a admission.Attributes, err error) error {
	var status apierrors.APIStatus
	if err == nil || errors.As(err, &status) {
		return err
	}
	kind := a.GetKind()
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Details: &metav1.StatusDetails{Group: kind.Group, Kind: kind.Kind, Name: a.GetName(), Causes: causes(err)},
		Message: fmt.Sprintf("%s %q is invalid: %v", kind.GroupKind(), a.GetName(), err),
	}}
}

// causes lists joined errors one by one. kubectl prints the field of each first,
// so the path that an error begins with is told apart from its text.
func causes(err error) []metav1.StatusCause {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []metav1.StatusCause
		for _, e := range joined.Unwrap() {
			all = append(all, causes(e)...)
		}
		return all
	}
	path, text, found := strings.Cut(err.Error(), ": ")
	if !found || strings.Contains(path, " ") {
		path, text = "spec", err.Error()
	}
	return []metav1.StatusCause{{Type: metav1.CauseTypeFieldValueInvalid, Field: path, Message: text}}
}

// outOfSpace is the answer when the disk is full: 507, nothing was written.
func outOfSpace(err error) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusInsufficientStorage,
		Reason:  metav1.StatusReason("InsufficientStorage"),
		Message: err.Error(),
	}}
}
