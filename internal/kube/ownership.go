package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// borrow writes to an object of the user's and leaves no claim on it: who
// applies the object from a repository (server-side apply) has no conflict
// with Serin, at whatever moment. What they then say is seen, as any change is.
func (c *Client) borrow(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, doc any) error {
	if err := c.patch(ctx, gvr, namespace, name, doc); err != nil {
		return err
	}
	return c.disown(ctx, gvr, namespace, name)
}

// disown takes Serin out of the managers of an object of the user's. The fields
// keep their values and have the owners that are left.
func (c *Client) disown(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error {
	resource := c.dynamic.Resource(gvr).Namespace(namespace)
	for {
		o, err := resource.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s %s/%s: %w", gvr.Resource, namespace, name, err)
		}
		managers := o.GetManagedFields()
		left := slices.DeleteFunc(slices.Clone(managers), isOurs)
		if len(left) == len(managers) {
			return nil
		}
		if len(left) == 0 {
			left = []metav1.ManagedFieldsEntry{{}} // an empty list would change nothing
		}
		data, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"resourceVersion": o.GetResourceVersion(), "managedFields": left,
		}})
		if err != nil {
			return fmt.Errorf("disown %s %s/%s: %w", gvr.Resource, namespace, name, err)
		}
		_, err = resource.Patch(ctx, name, mergePatch, data, metav1.PatchOptions{FieldManager: fieldManager})
		switch {
		case apierrors.IsConflict(err):
			continue // somebody wrote meanwhile; what they own stays theirs
		case err == nil || apierrors.IsNotFound(err):
			return nil
		default:
			return fmt.Errorf("disown %s %s/%s: %w", gvr.Resource, namespace, name, err)
		}
	}
}

func isOurs(m metav1.ManagedFieldsEntry) bool {
	return m.Manager == fieldManager && m.Subresource == ""
}

// claimed reports whether Serin is named as a manager of an object of the
// user's: it was stopped between a write and its release.
func claimed(o metav1.Object) bool { return slices.ContainsFunc(o.GetManagedFields(), isOurs) }

// declarer is who says how many replicas an object has as a part of all that it
// is to be, and will say it again: not who only scaled it. "" = nobody.
func declarer(o metav1.Object) string {
	for _, m := range o.GetManagedFields() {
		if m.Subresource != "" || isOurs(m) || m.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if err := json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields); err != nil {
			continue // the API makes them; what it does not is nobody's
		}
		if _, ok := fields.Spec["f:replicas"]; ok {
			return m.Manager
		}
	}
	return ""
}
