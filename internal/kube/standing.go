package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	apimeta "istio.io/api/meta/v1alpha1"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"serin.dev/serin/internal/mesh"
)

// Standing is how far an object has come in the data planes.
type Standing struct {
	Generation int64
	InForce    bool   // every proxy runs this generation
	Reason     string // one word: InForce, Waiting, Refused, Invalid, NotListening
	Message    string // one line for people
}

// conditionReconciled is the condition in which Istio, too, says how many
// proxies are up to date.
const conditionReconciled = "Reconciled"

// WriteStanding writes the condition Reconciled into the status of an object
// that a snapshot was made from, if it says something new. An object that is
// gone, or has another generation by now, is left alone.
func (c *Client) WriteStanding(ctx context.Context, o mesh.Origin, s Standing) error {
	object, status := c.meshObject(o)
	if object == nil || object.GetGeneration() != s.Generation {
		return nil
	}
	want := map[string]any{
		"type": conditionReconciled, "status": "False", "reason": s.Reason, "message": s.Message,
		"observedGeneration": s.Generation, "lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
	}
	if s.InForce {
		want["status"] = "True"
	}
	conditions := []any{want}
	for _, have := range status.GetConditions() {
		if have.Type != conditionReconciled {
			conditions = append(conditions, have)
			continue
		}
		if have.Status == want["status"] && have.Reason == s.Reason && have.Message == s.Message && have.ObservedGeneration == s.Generation {
			return nil
		}
		if have.Status == want["status"] && have.LastTransitionTime != nil {
			want["lastTransitionTime"] = have.LastTransitionTime.AsTime().UTC().Format(time.RFC3339)
		}
	}
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": object.GetUID()}, // a re-created one is another
		"status":   map[string]any{"conditions": conditions},
	})
	if err != nil {
		return fmt.Errorf("%s: write status: %w", o, err)
	}
	_, err = c.dynamic.Resource(meshResource(o.Kind)).Namespace(o.Namespace).Patch(ctx, o.Name, mergePatch, data, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("%s: write status: %w", o, kindOf(err))
	}
	return nil
}

// meshResource is that of a kind: virtualservices, gateways, serviceentries.
func meshResource(kind string) schema.GroupVersionResource {
	group, plural := "networking.istio.io", strings.ToLower(kind)
	if kind == "AuthorizationPolicy" {
		group = "security.istio.io"
	}
	if stem, ok := strings.CutSuffix(plural, "y"); ok && !strings.HasSuffix(plural, "gateway") {
		plural = stem + "ie"
	}
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: plural + "s"}
}

// meshObject reads an object of Istio's from the cache; nil if there is none.
func (c *Client) meshObject(o mesh.Origin) (metav1.Object, *apimeta.IstioStatus) {
	informer := c.meshInformer(o.Kind)
	if informer == nil {
		return nil, nil
	}
	found, exists, err := informer.GetStore().GetByKey(o.Namespace + "/" + o.Name)
	if err != nil || !exists {
		return nil, nil
	}
	switch v := found.(type) {
	case *istiov1.VirtualService:
		return v, &v.Status
	case *istiov1.DestinationRule:
		return v, &v.Status
	case *istiov1.Gateway:
		return v, &v.Status
	case *istiov1.ServiceEntry:
		// Its status has a type of its own, with the same conditions.
		return v, &apimeta.IstioStatus{Conditions: v.Status.GetConditions()}
	case *istiov1.WorkloadEntry:
		return v, &v.Status
	case *securityv1.AuthorizationPolicy:
		return v, &v.Status
	}
	return nil, nil
}

// meshInformer watches a kind that snapshots are made from; nil for others.
func (c *Client) meshInformer(kind string) cache.SharedIndexInformer {
	ni := c.istioInformers.Networking().V1()
	switch kind {
	case "VirtualService":
		return ni.VirtualServices().Informer()
	case "DestinationRule":
		return ni.DestinationRules().Informer()
	case "Gateway":
		return ni.Gateways().Informer()
	case "ServiceEntry":
		return ni.ServiceEntries().Informer()
	case "WorkloadEntry":
		return ni.WorkloadEntries().Informer()
	case "AuthorizationPolicy":
		return c.istioInformers.Security().V1().AuthorizationPolicies().Informer()
	}
	return nil
}
