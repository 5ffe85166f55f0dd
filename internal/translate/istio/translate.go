package istio

import (
	"cmp"
	"slices"
	"strings"

	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/internal/mesh"
)

// Input is what a snapshot is made from, in any order. Nothing in it is
// changed or kept but what Output.Good names.
type Input struct {
	Version mesh.SnapshotVersion // of the snapshot to make

	Services         []*corev1.Service
	Endpoints        map[mesh.ServiceName][]mesh.Endpoint // ready ones of the Services
	VirtualServices  []*istiov1.VirtualService
	DestinationRules []*istiov1.DestinationRule
	Gateways         []*istiov1.Gateway
	ServiceEntries   []*istiov1.ServiceEntry
	WorkloadEntries  []*istiov1.WorkloadEntry
	Secrets          []*corev1.Secret // those that Gateways and DestinationRules name, at least

	AuthorizationPolicies []*securityv1.AuthorizationPolicy

	// Previous is Output.Good of the translation before, nil for the first.
	// An object with an Error is replaced by its version in here: a mistake in
	// one object leaves what runs as it is, and holds up nothing else. Without
	// one, as after a restart, the object is translated as far as it makes
	// sense: what is broken in it answers 404 or 503.
	Previous Good
	// Refused is Output.Refused of the translation before. What was refused is
	// left out as if it had an Error, or looked at again by TranslateFor.
	Refused Refused
}

// Good holds the last version without an Error of each object.
type Good map[mesh.Origin]metav1.Object

// Output is a snapshot that Validate accepts, and what there is to say.
type Output struct {
	Snapshot *mesh.Snapshot
	Findings []Finding // sorted by object
	Good     Good      // for the next Input.Previous
	Refused  Refused   // for the next Input.Refused
	// Failed are the objects that are not in effect as they are: each has an
	// Error among the Findings.
	Failed map[mesh.Origin]Failure
}

// Failure says which version of an object is not in effect.
type Failure struct {
	Generation int64 // of the object with the Error
	InForce    int64 // the generation that is in effect in its place; 0 = none
}

// Translate makes the snapshot. Its Origins are the Istio objects that are in
// effect as a whole, with the generation that is: for an object with an Error
// that of its last good version, and without one it is not among them.
func Translate(in Input) Output {
	t := &translator{in: in, cluster: map[mesh.ServiceName]bool{}, alternatives: map[mesh.ServiceName][]string{}, out: Output{
		Snapshot: &mesh.Snapshot{
			Version:  in.Version,
			Services: map[mesh.ServiceName]*mesh.Service{},
			Origins:  map[mesh.Origin]int64{},
		},
		Good: Good{}, Refused: in.Refused, Failed: map[mesh.Origin]Failure{},
	}}
	t.secrets = map[string]*corev1.Secret{}
	for _, s := range in.Secrets {
		if s != nil {
			t.secrets[s.Namespace+"/"+s.Name] = s
		}
	}
	t.addServices()
	entries := translateAll(t, in.WorkloadEntries, workloadEntryOf)
	t.addWorkloadsToServices(entries)
	for _, se := range translateAll(t, in.ServiceEntries, t.serviceEntry) {
		t.addServiceEntry(se, entries)
	}
	t.addAuthorizations(translateAll(t, in.AuthorizationPolicies, t.authorizationPolicy))
	t.addDestinationRules(translateAll(t, in.DestinationRules, t.destinationRule))
	gateways := translateAll(t, in.Gateways, t.gateway)
	known := make([]string, len(gateways))
	for i, g := range gateways {
		known[i] = g.name
	}
	t.surroundings = &surroundings{services: t.out.Snapshot.Services, gateways: known}
	routes := translateAll(t, in.VirtualServices, t.virtualService)
	t.delegate(routes)
	t.addRoutesBetweenServices(routes)
	t.addGateways(gateways, routes)
	sortFindings(t.out.Findings)
	return t.out
}

type translator struct {
	in           Input
	out          Output
	surroundings *surroundings

	secrets      map[string]*corev1.Secret     // by "namespace/name"
	cluster      map[mesh.ServiceName]bool     // core Services
	alternatives map[mesh.ServiceName][]string // names that a ServiceEntry wants in certificates
}

// object is an Istio object of one kind.
type object interface {
	metav1.Object
	comparable
}

// translateAll translates the objects of one kind, oldest first, each in its
// last good version if the present one has an Error.
func translateAll[O object, T any](t *translator, objects []O, translate func(O, *report) T) []T {
	var none O
	sorted := slices.DeleteFunc(slices.Clone(objects), func(o O) bool { return o == none })
	slices.SortFunc(sorted, older)
	var out []T
	for _, o := range sorted {
		r := &report{origin: originOf(o)}
		result, effective, left := translateBest(t, o, translate, r)
		t.out.Findings = append(t.out.Findings, r.findings...)
		if effective != none {
			t.out.Good[r.origin] = effective
			t.out.Snapshot.Origins[r.origin] = effective.GetGeneration()
		}
		if r.failed() {
			failure := Failure{Generation: o.GetGeneration()}
			if effective != none {
				failure.InForce = effective.GetGeneration()
			}
			t.out.Failed[r.origin] = failure
		}
		if !left {
			out = append(out, result)
		}
	}
	return out
}

// translateBest translates an object, or its last good version in place of one
// with an Error. effective is the version that is in effect as a whole, if there
// is one. left says that the object is left out: no proxy can run any of it.
func translateBest[O object, T any](t *translator, o O, translate func(O, *report) T, r *report) (result T, effective O, left bool) {
	result = translate(o, r)
	reason, refused := t.in.Refused[o]
	if refused {
		r.errorf("", "no proxy could run it: %s", reason)
	}
	if !r.failed() {
		return result, o, false
	}
	last, ok := t.in.Previous[r.origin].(O)
	if _, bad := t.in.Refused[last]; !ok || bad {
		_, guards := any(result).(authorization) // left out, it would let everybody in
		return result, effective, refused && !guards
	}
	if last.GetGeneration() != o.GetGeneration() {
		r.warnf("", "generation %d is not applied: generation %d stays in force until the errors are mended",
			o.GetGeneration(), last.GetGeneration())
	}
	// Its findings, if any, were reported when it was new.
	return translate(last, &report{origin: r.origin}), last, false
}

// older orders by creation, then by name.
func older[O object](a, b O) int {
	ta, tb := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return cmp.Or(ta.Compare(tb.Time), strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
}

// originOf names the object by its Go type: typed clients leave Kind empty.
func originOf(o metav1.Object) mesh.Origin {
	kind := ""
	switch o.(type) {
	case *istiov1.VirtualService:
		kind = "VirtualService"
	case *istiov1.DestinationRule:
		kind = "DestinationRule"
	case *istiov1.Gateway:
		kind = "Gateway"
	case *istiov1.ServiceEntry:
		kind = "ServiceEntry"
	case *istiov1.WorkloadEntry:
		kind = "WorkloadEntry"
	case *securityv1.AuthorizationPolicy:
		kind = "AuthorizationPolicy"
	case *corev1.Service:
		kind = "Service"
	case *corev1.Secret:
		kind = "Secret"
	}
	return mesh.Origin{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// Validate reports what can be said about an object by itself, for the moment
// at which it is applied: Errors are reasons to refuse it. References to other
// objects are not looked at, since those may be applied later. An object of
// another type has no findings.
func Validate(o metav1.Object) []Finding {
	t := &translator{}
	r := &report{origin: originOf(o)}
	switch o := o.(type) {
	case *istiov1.VirtualService:
		t.virtualService(o, r)
	case *istiov1.DestinationRule:
		t.destinationRule(o, r)
	case *istiov1.Gateway:
		t.gateway(o, r)
	case *istiov1.ServiceEntry:
		t.serviceEntry(o, r)
	case *istiov1.WorkloadEntry:
		workloadEntryOf(o, r)
	case *securityv1.AuthorizationPolicy:
		t.authorizationPolicy(o, r)
	}
	sortFindings(r.findings)
	return r.findings
}
