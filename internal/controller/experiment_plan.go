package controller

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/kube"
)

// CheckExperiment reports what makes an Experiment impossible to work with, for
// the moment at which it is applied: each line names a field and what to
// change. before is the stored object, whose spec is not judged again, so that
// it can be deleted whatever it says; nil for a new one. Other objects are not
// looked at, because they may be applied later.
func CheckExperiment(x, before *v1alpha1.Experiment) error {
	if before != nil {
		if sameSpec(&x.Spec, &before.Spec) {
			return nil
		}
		return errors.New("spec: an experiment cannot be changed: delete it, which gives all traffic back, and make another one")
	}
	plan, err := experimentPlan(&x.Spec)
	if err == nil {
		err = plan.CheckWarmup()
	}
	err = errors.Join(err, kube.CheckCandidates(x))
	if x.Spec.Service == nil {
		return err
	}
	return errors.Join(err, checkRoutes(&v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Target: x.Spec.Target, Service: *x.Spec.Service}}))
}

func sameSpec(a, b *v1alpha1.ExperimentSpec) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// experimentPlan reads the plan of an Experiment. Errors name the field and
// what to change, one line each.
func experimentPlan(spec *v1alpha1.ExperimentSpec) (experiment.Plan, error) {
	r := &specReader{spec: &v1alpha1.ReleaseSpec{Judge: spec.Judge}}
	p := experiment.Plan{
		Duration: spec.Duration.Duration,
		Deadline: spec.ProgressDeadline.Duration,
		Policy:   r.policy(),
	}
	for i := range spec.Candidates {
		c := &spec.Candidates[i]
		at := fmt.Sprintf("spec.candidates[%d]", i)
		p.Candidates = append(p.Candidates, experiment.Planned{Name: c.Name, Share: r.share(at+".share", c.Share.String())})
		if (len(c.Containers) > 0 && c.Template != nil) || (c.Deployment != "" && (c.Template != nil || len(c.Containers) > 0)) {
			r.wrong(at, "set one of containers, template and deployment")
		}
		if _, err := kube.CandidateTemplate(c); err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s.%w", at, err))
		}
	}
	if c := spec.Choose; c != nil {
		p.Metric, p.Promote = analysis.Metric(c.Metric), c.Promote
	}
	if spec.Judge.Skip {
		r.wrong("spec.judge.skip", "an experiment is there to judge: remove it")
	}
	if spec.Judge.Load != nil {
		r.wrong("spec.judge.load", "own load is for Releases, and an experiment sends none: remove it")
	}
	for i, c := range p.Policy.Checks {
		if c.External {
			r.wrong(fmt.Sprintf("spec.judge.checks[%d]", i), "%s is not measured from requests, which are all that an experiment looks at: remove the check", c.Metric)
		}
	}
	if s := spec.Service; s != nil && (s.TrafficPolicy != nil || s.PortDiscovery || s.Metadata != nil) {
		r.wrong("spec.service", "trafficPolicy, portDiscovery and metadata are for the Services of a Release: remove them")
	}
	if err := errors.Join(append(r.errs, p.Validate())...); err != nil {
		return experiment.Plan{}, err
	}
	return p, nil
}
