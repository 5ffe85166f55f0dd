package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/internal/controller"
	"serin.dev/serin/internal/metric"
	"serin.dev/serin/internal/translate/istio"
)

// admission judges objects when they are applied.
type admission struct {
	// among judges Releases beside what there is already; nil until the loop
	// is up.
	among atomic.Pointer[controller.Deliver]
}

// admit refuses objects that no schema can catch and that could not work: what
// is refused changes nothing, and the user reads why where the mistake was
// made. References to objects that are not there are not refused, because
// manifests are applied in any order.
func (a *admission) admit(ctx context.Context, req apiserver.Request) (warnings []string, err error) {
	if req.Subresource != "" {
		return nil, nil
	}
	switch req.Resource.Group {
	case "networking.istio.io", "security.istio.io":
		return admitIstio(req)
	case v1alpha1.GroupVersion.Group:
		if req.Resource.Resource == "experiments" {
			return nil, admitExperiment(req)
		}
		return a.admitRelease(ctx, req)
	case "flagger.app":
		return admitTemplate(req)
	}
	return nil, nil
}

// admitRelease refuses what an update brings, and never what is stored: an older
// Serin may have taken what this one refuses, and it still has to be deleted,
// which takes a finalizer off.
func (a *admission) admitRelease(ctx context.Context, req apiserver.Request) (warnings []string, err error) {
	r := &v1alpha1.Release{}
	if err := decode(req.Object, r); err != nil {
		return nil, tooLong(req.Object, err)
	}
	var old *v1alpha1.Release
	if req.Old != nil {
		old = &v1alpha1.Release{}
		if err := decode(req.Old, old); err != nil {
			return nil, err
		}
	}
	if old == nil || !reflect.DeepEqual(r.Spec, old.Spec) {
		if err := controller.Check(r); err != nil {
			return nil, err
		}
	}
	if among := a.among.Load(); among != nil {
		warnings, err = among.CheckAmong(ctx, r, old)
	}
	return append(warnings, controller.Warnings(r)...), err
}

// tooLong says which field has the time that err, from decode, is about: the
// schema takes for a time what no time.Duration can hold.
func tooLong(object any, err error) error {
	var tree map[string]any
	if decode(object, &tree) != nil {
		return err
	}
	var find func(path string, v any) string
	find = func(path string, v any) string {
		switch v := v.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				if at := find(path+"."+key, v[key]); at != "" {
					return at
				}
			}
		case []any:
			for i := range v {
				if at := find(fmt.Sprintf("%s[%d]", path, i), v[i]); at != "" {
					return at
				}
			}
		case string:
			if strings.HasSuffix(err.Error(), fmt.Sprintf("time: invalid duration %q", v)) {
				return fmt.Sprintf("%s: %q is longer than any time can be: write at most %v", path, v, time.Duration(math.MaxInt64).Truncate(time.Hour))
			}
		}
		return ""
	}
	if line := find("spec", tree["spec"]); line != "" {
		return errors.New(line)
	}
	return err
}

// precheck refuses shares that the schema has four lines for, and times of 0
// that mean as much as none, which can only be seen in what was written.
func precheck(req apiserver.Request) error {
	if req.Resource.Group != v1alpha1.GroupVersion.Group || req.Subresource != "" {
		return nil
	}
	var o struct {
		Spec struct {
			Steps, PromotionSteps, AbortSteps []any
			Mirror                            struct{ Share any }
			Candidates                        []struct{ Share any }
			Gates                             []struct{ Manual struct{ Expires any } }
			Judge                             struct{ Interval any }
		}
	}
	if err := decode(req.Object, &o); err != nil {
		return nil // what should be a list is none: the schema says so
	}
	var errs []error
	look := func(field string, share any) {
		switch v := share.(type) {
		case nil, string:
		case float64:
			if v != math.Trunc(v) {
				errs = append(errs, fmt.Errorf("%s: %v is no whole number of percent: write it as text, \"%v%%\"", field, v, v))
			}
		default:
			errs = append(errs, fmt.Errorf("%s: %v is no share: write percent, such as 25 or \"0.1%%\"", field, v))
		}
	}
	s := &o.Spec
	for field, list := range map[string][]any{"spec.steps": s.Steps, "spec.promotionSteps": s.PromotionSteps, "spec.abortSteps": s.AbortSteps} {
		for i, share := range list {
			look(fmt.Sprintf("%s[%d]", field, i), share)
		}
	}
	look("spec.mirror.share", s.Mirror.Share)
	none := func(field string, v any, instead string) {
		text, ok := v.(string)
		if d, err := time.ParseDuration(text); ok && err == nil && d == 0 {
			errs = append(errs, fmt.Errorf("%s: %s is no time: %s", field, text, instead))
		}
	}
	none("spec.judge.interval", s.Judge.Interval, "leave it out for 10s")
	for i, g := range s.Gates {
		none(fmt.Sprintf("spec.gates[%d].manual.expires", i), g.Manual.Expires, "leave it out to wait for ever")
	}
	for i, c := range s.Candidates {
		look(fmt.Sprintf("spec.candidates[%d].share", i), c.Share)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func admitExperiment(req apiserver.Request) error {
	x := &v1alpha1.Experiment{}
	if err := decode(req.Object, x); err != nil {
		return tooLong(req.Object, err)
	}
	if req.Old == nil {
		return controller.CheckExperiment(x, nil)
	}
	before := &v1alpha1.Experiment{}
	if err := decode(req.Old, before); err != nil {
		return err
	}
	return controller.CheckExperiment(x, before)
}

// admitTemplate warns of a metric provider that Serin does not have: Flagger
// has it, so what was made for Flagger is not refused.
func admitTemplate(req apiserver.Request) (warnings []string, err error) {
	if req.Resource.Resource != "metrictemplates" {
		return nil, nil
	}
	var o struct {
		Spec struct{ Provider struct{ Type string } }
	}
	if err := decode(req.Object, &o); err != nil {
		return nil, err
	}
	if t := o.Spec.Provider.Type; !slices.Contains(metric.Types(), t) {
		warnings = append(warnings, fmt.Sprintf("spec.provider.type: no release can ask %q: use %s", t, strings.Join(metric.Types(), ", ")))
	}
	return warnings, nil
}

func admitIstio(req apiserver.Request) (warnings []string, err error) {
	o := istioKind(req.Resource)
	if o == nil {
		return nil, nil
	}
	var raw struct{ Spec map[string]any }
	if err := decode(req.Object, &raw); err != nil {
		return nil, err
	}
	findings := istio.Ambiguities(o, raw.Spec)
	if len(findings) == 0 {
		if err := decode(req.Object, o); err != nil {
			return nil, err
		}
		findings = istio.Validate(o)
	}
	var errs []error
	for _, f := range findings {
		line := f.Message
		if f.Path != "" {
			line = f.Path + ": " + line
		}
		if f.Severity == istio.Error {
			errs = append(errs, errors.New(line))
		} else {
			warnings = append(warnings, line)
		}
	}
	return warnings, errors.Join(errs...)
}

// istioKind makes an empty object; the three API versions have one shape.
func istioKind(r schema.GroupVersionResource) metav1.Object {
	switch r.Resource {
	case "virtualservices":
		return &istiov1.VirtualService{}
	case "destinationrules":
		return &istiov1.DestinationRule{}
	case "gateways":
		return &istiov1.Gateway{}
	case "serviceentries":
		return &istiov1.ServiceEntry{}
	case "workloadentries":
		return &istiov1.WorkloadEntry{}
	case "authorizationpolicies":
		return &securityv1.AuthorizationPolicy{}
	default:
		return nil
	}
}

// decode goes through JSON, which both sides define themselves by.
func decode(from, to any) error {
	data, err := json.Marshal(from)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}
