package istio

import (
	"cmp"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/internal/mesh"
)

// Refused are versions of objects that no proxy could run, and why: a key is an
// object of an Input itself, so an edit of it is looked at anew.
type Refused map[metav1.Object]string

// TranslateFor is Translate for proxies that can run a snapshot when accept
// returns nil. Translate makes none that is not valid, as far as we know; but
// where that is a mistake, one object must not hold up the whole mesh. So the
// objects whose versions are to blame are found and refused: each is replaced by
// its last good version, or left out, and has an Error that says why. An
// AuthorizationPolicy that is left out lets nobody in.
//
// It returns an error when no object is to blame. Then the Output is that of
// Hold, without a snapshot.
func TranslateFor(in Input, accept func(*mesh.Snapshot) error) (Output, error) {
	before := in.Refused
	s := &search{in: in, accept: accept, reasons: Refused{}}
	first := s.try(nil)
	// What was to blame the last time mostly still is: to ask for that first
	// spares the search. To ask without it at all lets it back when the other
	// half of a quarrel is gone.
	if first == nil || s.try(s.present(before)) == nil {
		return s.out, nil
	}
	for _, suspects := range [][]metav1.Object{s.changed(), s.all()} {
		none := Refused{}
		for _, o := range suspects {
			none[o] = first.Error()
		}
		if s.try(none) == nil {
			s.admit(suspects)
			_ = s.try(s.reasons) // the same once more, but each with its own reason
			return s.out, nil
		}
	}
	return Hold(in, first), first
}

// Hold says of each object that changed that it is not applied, for a reason
// that none of them is to blame for.
func Hold(in Input, reason error) Output {
	out := Output{Good: in.Previous, Refused: in.Refused, Failed: map[mesh.Origin]Failure{}}
	for _, o := range (&search{in: in}).changed() {
		r := report{origin: originOf(o)}
		r.errorf("", "is not applied, and nothing else is: %v", reason)
		failure := Failure{Generation: o.GetGeneration()}
		if last := in.Previous[r.origin]; last != nil {
			failure.InForce = last.GetGeneration()
		}
		out.Failed[r.origin] = failure
		out.Findings = append(out.Findings, r.findings...)
	}
	sortFindings(out.Findings)
	return out
}

// search looks for as few objects as possible without which a snapshot is
// accepted.
type search struct {
	in     Input
	accept func(*mesh.Snapshot) error
	out    Output // the best that was accepted
	// reasons are those of the objects that were found to blame.
	reasons Refused
}

// try translates without some versions, and keeps what is accepted.
func (s *search) try(refused Refused) error {
	in := s.in
	in.Refused = refused
	out := Translate(in)
	err := s.accept(out.Snapshot)
	if err == nil {
		s.out = out
	}
	return err
}

// admit takes in what can be of a group, all of which is refused in s.out. With
// one object to blame among n that takes about 2·log n translations.
func (s *search) admit(group []metav1.Object) {
	with := maps.Clone(s.out.Refused)
	for _, o := range group {
		delete(with, o)
	}
	err := s.try(with)
	switch half := len(group) / 2; {
	case err == nil:
	case half == 0:
		s.reasons[group[0]] = err.Error()
	default:
		s.admit(group[:half])
		s.admit(group[half:])
	}
}

// present are those of the refused that are among the objects still.
func (s *search) present(refused Refused) Refused {
	out := Refused{}
	for _, o := range s.all() {
		if reason, ok := refused[o]; ok {
			out[o] = reason
		}
	}
	return out
}

// changed are the objects that are not as they were when they were last good,
// the oldest first: of two that quarrel, the older one stays.
func (s *search) changed() []metav1.Object {
	return slices.DeleteFunc(s.istio(), func(o metav1.Object) bool { return s.in.Previous[originOf(o)] == o })
}

// all are also the Services.
func (s *search) all() []metav1.Object { return append(objects(s.in.Services), s.istio()...) }

func (s *search) istio() []metav1.Object {
	out := slices.Concat(
		objects(s.in.VirtualServices), objects(s.in.DestinationRules), objects(s.in.Gateways),
		objects(s.in.ServiceEntries), objects(s.in.WorkloadEntries), objects(s.in.AuthorizationPolicies),
	)
	slices.SortFunc(out, func(a, b metav1.Object) int {
		x, y := a.GetCreationTimestamp(), b.GetCreationTimestamp()
		return cmp.Or(x.Compare(y.Time), originOf(a).Compare(originOf(b)))
	})
	return out
}

// objects lists those of one kind.
func objects[O object](list []O) []metav1.Object {
	var none O
	var out []metav1.Object
	for _, o := range list {
		if o != none {
			out = append(out, o)
		}
	}
	return out
}
