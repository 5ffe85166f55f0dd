package kube

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"

	"serin.dev/serin/api/v1alpha1"
)

// longest is how many characters a name may have that is one of a Service or the
// value of a label, as all names of Names are (RFC 1123).
const longest = validation.DNS1123LabelMaxLength

// CheckNames says which names of a Release are too long for the objects that are
// called after them: with the path of the field and what to change.
func CheckNames(r *v1alpha1.Release) error {
	n := NamesOf(r)
	ends := []string{n.suffix()}
	if r.Spec.KeepWarm.Duration > 0 {
		ends = append(ends, n.Warm[len(n.Target):])
	}
	errs := []error{
		checkName("metadata.name", r.Name),
		checkName("spec.target.name", n.Target, ends...),
	}
	if n.Service != n.Target {
		errs = append(errs, checkName("spec.service.name", n.Service, append(ends, n.CanaryService[len(n.Service):])...))
	}
	return errors.Join(errs...)
}

// CheckCandidates is CheckNames for an experiment.
func CheckCandidates(x *v1alpha1.Experiment) error {
	room := longest - len(x.Spec.Target.Name) - len("--")
	most := 0
	for i := range x.Spec.Candidates {
		most = max(most, len(x.Spec.Candidates[i].Name))
	}
	if n := len(x.Name) + most; n > room {
		return fmt.Errorf("metadata.name: the names of target, experiment and candidate make that of a Deployment, which may have %d characters: "+
			"shorten the experiment's name or the candidates' by %d", longest, n-room)
	}
	return nil
}

// checkName checks a name, with each of the ends behind it.
func checkName(field, name string, ends ...string) error {
	end := ""
	for _, e := range ends {
		if len(e) > len(end) {
			end = e
		}
	}
	most := longest - len(end)
	switch {
	case len(name) <= most:
		return nil
	case end == "":
		return fmt.Errorf("%s: %d characters are too many for a label: shorten the name to at most %d", field, len(name), most)
	}
	return fmt.Errorf("%s: %d characters are too many, because there will be an object NAME%s: shorten the name to at most %d",
		field, len(name), end, most)
}
