package kube

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

// Experiment is what the API says about one Experiment at one moment.
type Experiment struct {
	Experiment *v1alpha1.Experiment // a copy; the caller may change it
	// Delivery is that of the Release that has the target, or stands for one:
	// its Stable is the running version, and its Route that of the requests.
	Delivery *Delivery
	// Released: a Release has the target.
	Released bool
	// Candidates in the order of the spec.
	Candidates []Candidate
	// Problem says why the experiment cannot begin, and what to change; nil = none.
	Problem error
}

// Candidate is one candidate as the API has it.
type Candidate struct {
	Name string
	// Object is the name of its Deployment and of its Service.
	Object string
	Workload
	// Left: one of its objects exists.
	Left bool
}

// Experiments lists all of them, ordered by namespace and name, with the given
// Releases.
func (c *Client) Experiments(releases []*Delivery) ([]*Experiment, error) {
	var out []*Experiment
	for _, obj := range c.experiments.GetStore().List() {
		e, err := c.experiment(obj.(*v1alpha1.Experiment).DeepCopy(), releases)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *Experiment) int {
		return cmp.Or(strings.Compare(a.Experiment.Namespace, b.Experiment.Namespace), strings.Compare(a.Experiment.Name, b.Experiment.Name))
	})
	return out, nil
}

func (c *Client) experiment(x *v1alpha1.Experiment, releases []*Delivery) (*Experiment, error) {
	e := &Experiment{Experiment: x}
	i := slices.IndexFunc(releases, func(d *Delivery) bool {
		return d.Names.Namespace == x.Namespace && d.Names.Target == x.Spec.Target.Name && d.Holder == ""
	})
	if e.Released = i >= 0; e.Released {
		d := *releases[i]
		e.Delivery = &d
	} else {
		var err error
		if e.Delivery, err = c.standIn(x); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, spec := range x.Spec.Candidates {
		names = append(names, spec.Name)
	}
	var err error
	if e.Candidates, err = c.CandidatesNamed(x, names); err != nil {
		return nil, err
	}
	e.Problem = c.experimentProblem(e)
	return e, nil
}

// CandidatesNamed are those of an experiment with these names, which need not be
// in its spec any more.
func (c *Client) CandidatesNamed(x *v1alpha1.Experiment, names []string) ([]Candidate, error) {
	var out []Candidate
	for _, name := range names {
		cd := Candidate{Name: name, Object: x.Spec.Target.Name + "-" + x.Name + "-" + name}
		var err error
		if cd.Workload, err = c.workload(x.Namespace, cd.Object, 100); err != nil {
			return nil, err
		}
		cd.Left = c.candidateLeft(x, cd.Object)
		out = append(out, cd)
	}
	return out, nil
}

// standIn is a Delivery for a target that no Release has: users' own Service
// selects the running version.
func (c *Client) standIn(x *v1alpha1.Experiment) (*Delivery, error) {
	r := &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: x.Name, Namespace: x.Namespace, UID: x.UID},
		Spec:       v1alpha1.ReleaseSpec{Target: x.Spec.Target},
	}
	if x.Spec.Service != nil {
		r.Spec.Service = *x.Spec.Service
	}
	d := &Delivery{Release: r, Names: NamesOf(r), experiment: x}
	d.Names.Stable, d.Names.StableService = d.Names.Target, d.Names.Service
	var err error
	if d.Target, err = c.workload(x.Namespace, d.Names.Target, 100); err != nil {
		return nil, err
	}
	if err := c.configure(d); err != nil {
		return nil, err
	}
	d.Stable = d.Target
	d.Route = c.route(d)
	return d, nil
}

// experimentProblem finds what keeps an experiment from its beginning.
func (c *Client) experimentProblem(e *Experiment) error {
	x, d := e.Experiment, e.Delivery
	switch {
	case e.Released && d.Problem != nil:
		return fmt.Errorf("release %s: %w", d.Release.Name, d.Problem)
	case e.Released && x.Spec.Service != nil:
		return fmt.Errorf("spec.service: release %s says how users reach %s: make the experiment without it", d.Release.Name, d.Names.Target)
	case e.Released && d.Release.Spec.Strategy == string(rollout.Replicas):
		return fmt.Errorf("release %s has no routes to share requests by (strategy: %s)", d.Release.Name, rollout.Replicas)
	case !e.Released && x.Spec.Service == nil:
		return fmt.Errorf("spec.service is missing, and no Release has deployment %s: make the experiment with it", d.Names.Target)
	case !d.Target.Exists:
		return fmt.Errorf("%s: create it", d.Target.Message)
	}
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return err
	}
	if !identified(target) {
		return fmt.Errorf("deployment %s must select its pods by one of the labels app, name or app.kubernetes.io/name, so that the candidates' can be told apart", target.Name)
	}
	if !e.Released {
		if err := c.serviceProblem(e, target); err != nil {
			return err
		}
	}
	for i := range e.Candidates {
		if err := c.candidateProblem(e, i, target); err != nil {
			return err
		}
	}
	return nil
}

// serviceProblem finds what is wrong with a user's Service and its routes.
func (c *Client) serviceProblem(e *Experiment, target *appsv1.Deployment) error {
	d := e.Delivery
	svc, err := c.coreInformers.Core().V1().Services().Lister().Services(d.Names.Namespace).Get(d.Names.Service)
	if err != nil { // the lister's only error is "not found"
		return fmt.Errorf("service %s not found in namespace %s: create it, or a Release for %s", d.Names.Service, d.Names.Namespace, d.Names.Target)
	}
	selects := labels.SelectorFromSet(svc.Spec.Selector)
	if len(svc.Spec.Selector) == 0 || !selects.Matches(labels.Set(target.Spec.Template.Labels)) {
		return fmt.Errorf("service %s does not select the pods of deployment %s", svc.Name, target.Name)
	}
	for _, name := range routeNames(d.Release) {
		vs, err := c.istioInformers.Networking().V1().VirtualServices().Lister().VirtualServices(d.Names.Namespace).Get(name)
		if err == nil && !d.owns(vs) {
			return fmt.Errorf("virtualservice %s %w, and the split needs its name: delete it, or make a Release for %s", name, ErrTaken, d.Names.Target)
		}
	}
	return nil
}

func (c *Client) candidateProblem(e *Experiment, i int, target *appsv1.Deployment) error {
	d, cd := e.Delivery, &e.Candidates[i]
	at := fmt.Sprintf("spec.candidates[%d]", i)
	own := copyLabels(target, cd.Object)
	for k, v := range own {
		if len(v) > 63 {
			return fmt.Errorf("%s.name: the label %s of its pods, %q, is longer than 63 characters: choose shorter names", at, k, v)
		}
	}
	if cd.Exists && !c.isCandidate(e.Experiment, cd.Object) {
		return fmt.Errorf("%s.name: deployment %s %w: choose another name", at, cd.Object, ErrTaken)
	}
	template, err := c.candidateTemplate(e, i)
	if err != nil {
		return err
	}
	if svc, err := c.coreInformers.Core().V1().Services().Lister().Services(d.Names.Namespace).Get(d.Names.StableService); err == nil {
		all := maps.Clone(template.Labels)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, own)
		if labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(all)) {
			return fmt.Errorf("%s: service %s would select its pods, too: let it select by %s", at, svc.Name, strings.Join(slices.Sorted(maps.Keys(own)), ", "))
		}
	}
	return nil
}

// CandidateTemplate reads what a candidate says of its own pods; nil where it
// leaves that to other objects. Errors name the field below the candidate.
func CandidateTemplate(cd *v1alpha1.Candidate) (*corev1.PodTemplateSpec, error) {
	if cd.Template == nil {
		return nil, nil
	}
	t := &corev1.PodTemplateSpec{}
	dec := json.NewDecoder(bytes.NewReader(cd.Template.Raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(t); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	if len(t.Spec.Containers) == 0 {
		return nil, errors.New("template.spec.containers: at least one is needed")
	}
	return t, nil
}

// candidateTemplate is what a candidate's pods are made from.
func (c *Client) candidateTemplate(e *Experiment, i int) (*corev1.PodTemplateSpec, error) {
	d, spec := e.Delivery, &e.Experiment.Spec.Candidates[i]
	at := fmt.Sprintf("spec.candidates[%d]", i)
	template, err := CandidateTemplate(spec)
	if err != nil {
		return nil, fmt.Errorf("%s.%w", at, err)
	}
	switch {
	case template != nil:
		return template, nil
	case spec.Deployment != "":
		dep, err := c.deployment(d, spec.Deployment)
		if err != nil {
			return nil, fmt.Errorf("%s.deployment: %s not found in namespace %s: create it, or name another one", at, spec.Deployment, d.Names.Namespace)
		}
		return dep.Spec.Template.DeepCopy(), nil
	}
	running, err := c.deployment(d, d.Names.Stable)
	if err != nil {
		return nil, fmt.Errorf("deployment %s is not there yet", d.Names.Stable)
	}
	template = offCopies(&running.Spec.Template, d.Names.Stable[len(d.Names.Target):])
	for k, change := range spec.Containers {
		if err := changeContainer(template, &change); err != nil {
			return nil, fmt.Errorf("%s.containers[%d].name: %w", at, k, err)
		}
	}
	return template, nil
}

func changeContainer(t *corev1.PodTemplateSpec, change *v1alpha1.ContainerChange) error {
	var have []string
	for i := range t.Spec.Containers {
		c := &t.Spec.Containers[i]
		if c.Name != change.Name {
			have = append(have, c.Name)
			continue
		}
		c.Image = cmp.Or(change.Image, c.Image)
		for _, v := range change.Env {
			c.Env = slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == v.Name })
			c.Env = append(c.Env, corev1.EnvVar{Name: v.Name, Value: v.Value})
		}
		return nil
	}
	return fmt.Errorf("the running version has no container %q: it has %s", change.Name, strings.Join(have, ", "))
}

// MakeCandidate makes the pods and the Service of a candidate. One that is
// there already stays as it is: what it runs is what the experiment began with.
func (c *Client) MakeCandidate(ctx context.Context, e *Experiment, i int) error {
	d, cd := e.Delivery, &e.Candidates[i]
	if !cd.Exists {
		target, err := c.deployment(d, d.Names.Target)
		if err != nil {
			return err
		}
		template, err := c.candidateTemplate(e, i)
		if err != nil {
			return fmt.Errorf("%s: %w", experimentName(e.Experiment), err)
		}
		delete(template.Labels, LabelRelease)
		dep := copyOf(d, target, cd.Object, template, copyLabels(target, cd.Object))
		dep.ObjectMeta = experimentMeta(e.Experiment, cd.Object)
		dep.Spec.Template.Labels[LabelExperiment] = e.Experiment.Name
		replicas := candidatePods(&e.Experiment.Spec.Candidates[i], e.share(i), d.Stable.Replicas)
		dep.Spec.Replicas = &replicas
		_, err = c.apply(ctx, deploymentsResource, dep)
		return err
	}
	if !c.isCandidate(e.Experiment, cd.Object) {
		return fmt.Errorf("%s: deployment %s %w: rename or delete it", experimentName(e.Experiment), cd.Object, ErrTaken)
	}
	have, err := c.deployment(d, cd.Object)
	if err != nil {
		return err
	}
	services := c.coreInformers.Core().V1().Services().Lister().Services(d.Names.Namespace)
	if svc, err := services.Get(cd.Object); err == nil {
		if svc.Labels[LabelExperiment] != e.Experiment.Name {
			return fmt.Errorf("%s: service %s %w: rename or delete it", experimentName(e.Experiment), cd.Object, ErrTaken)
		}
		return c.makeCandidateRule(ctx, e, cd.Object)
	}
	svc := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: experimentMeta(e.Experiment, cd.Object),
		Spec:       corev1.ServiceSpec{Selector: have.Spec.Selector.MatchLabels},
	}
	if svc.Spec.Ports, err = c.servicePorts(d); err != nil {
		return err
	}
	_, err = c.apply(ctx, servicesResource, svc)
	return err
}

// candidatePods is how many pods a candidate has: for its share of the requests
// as many as stable has for all of them, which it carries when the experiment
// begins. So no share, however large, asks for more than stable has.
func candidatePods(spec *v1alpha1.Candidate, share rollout.Share, stable int32) int32 {
	if spec.Replicas > 0 {
		return spec.Replicas
	}
	return max(1, int32((int64(stable)*int64(share)+int64(rollout.All)-1)/int64(rollout.All)))
}

// share of a candidate in the spec; 0 where that cannot be read.
func (e *Experiment) share(i int) rollout.Share {
	s, err := rollout.ParseShare(e.Experiment.Spec.Candidates[i].Share.String())
	if err != nil {
		return 0
	}
	return s
}

// makeCandidateRule gives a candidate the DestinationRule that its Release's
// sides have, so that its pods are called as theirs are.
func (c *Client) makeCandidateRule(ctx context.Context, e *Experiment, name string) error {
	if !e.Released {
		return nil
	}
	rules, err := rulesFor(e.Delivery)
	if err != nil || len(rules) == 0 {
		return err
	}
	want := rules[0]
	want.ObjectMeta = experimentMeta(e.Experiment, name)
	want.Spec.Host = name
	have, err := c.istioInformers.Networking().V1().DestinationRules().Lister().DestinationRules(want.Namespace).Get(name)
	if err == nil && proto.Equal(&have.Spec, &want.Spec) {
		return nil
	}
	_, err = c.apply(ctx, rulesResource, want)
	return err
}

// DropCandidate deletes what MakeCandidate made.
func (c *Client) DropCandidate(ctx context.Context, e *Experiment, i int) error {
	name, namespace := e.Candidates[i].Object, e.Delivery.Names.Namespace
	if !e.Candidates[i].Left {
		return nil
	}
	own := func(labels map[string]string) bool { return labels[LabelExperiment] == e.Experiment.Name }
	var errs []error
	gone := func(what string, err error) {
		if err = kindOf(err); err != nil && !isNotFound(err) {
			errs = append(errs, fmt.Errorf("%s: delete %s %s: %w", experimentName(e.Experiment), what, name, err))
		}
	}
	if rule, err := c.istioInformers.Networking().V1().DestinationRules().Lister().DestinationRules(namespace).Get(name); err == nil && own(rule.Labels) {
		gone("DestinationRule", c.dynamic.Resource(rulesResource).Namespace(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	}
	if svc, err := c.coreInformers.Core().V1().Services().Lister().Services(namespace).Get(name); err == nil && own(svc.Labels) {
		gone("service", c.core.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	}
	if c.isCandidate(e.Experiment, name) {
		gone("deployment", c.core.AppsV1().Deployments(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	}
	return errors.Join(errs...)
}

// isCandidate reports whether there is a Deployment of that name which the
// experiment made.
func (c *Client) isCandidate(x *v1alpha1.Experiment, name string) bool {
	dep, err := c.coreInformers.Apps().V1().Deployments().Lister().Deployments(x.Namespace).Get(name)
	return err == nil && dep.Labels[LabelExperiment] == x.Name
}

// candidateLeft reports whether anything that MakeCandidate made exists.
func (c *Client) candidateLeft(x *v1alpha1.Experiment, name string) bool {
	svc, err := c.coreInformers.Core().V1().Services().Lister().Services(x.Namespace).Get(name)
	if err == nil && svc.Labels[LabelExperiment] == x.Name {
		return true
	}
	rule, err := c.istioInformers.Networking().V1().DestinationRules().Lister().DestinationRules(x.Namespace).Get(name)
	return err == nil && rule.Labels[LabelExperiment] == x.Name || c.isCandidate(x, name)
}

// MakeShares makes the routes give each candidate its share; nil gives
// everything back to stable, and removes the routes where no Release has them.
// It writes nothing where that is so already.
func (c *Client) MakeShares(ctx context.Context, e *Experiment, shares []rollout.Share) error {
	d := e.Delivery
	if shares == nil {
		if e.Released {
			return c.MakeTraffic(ctx, d, rollout.Traffic{}, false)
		}
		_, err := c.dropRoutes(ctx, d)
		return err
	}
	want, err := routesFor(e.split(shares), rollout.Traffic{}, false)
	if err != nil {
		return err
	}
	for _, vs := range want {
		if err := c.makeRoute(ctx, d, vs); err != nil {
			return err
		}
	}
	return nil
}

// split is the Delivery with the shares of the candidates that have one.
func (e *Experiment) split(shares []rollout.Share) *Delivery {
	d := *e.Delivery
	d.subsets = []subset{}
	for i, s := range shares {
		if s > 0 {
			d.subsets = append(d.subsets, subset{e.Candidates[i].Object, s})
		}
	}
	return &d
}

// SharesWritten reports whether the API has the routes that MakeShares makes.
func (c *Client) SharesWritten(e *Experiment, shares []rollout.Share) bool {
	if shares == nil && !e.Released {
		return len(e.Delivery.Route.Parts) == 0
	}
	d := e.Delivery
	if shares != nil {
		d = e.split(shares)
	}
	want, err := routesFor(d, rollout.Traffic{}, false)
	if err != nil {
		return false
	}
	for _, vs := range want {
		have, err := c.istioInformers.Networking().V1().VirtualServices().Lister().VirtualServices(vs.Namespace).Get(vs.Name)
		if err != nil || !proto.Equal(&have.Spec, &vs.Spec) {
			return false
		}
	}
	return true
}

// GiveTarget gives the target the pod template of a candidate, and reports
// whether it has it.
func (c *Client) GiveTarget(ctx context.Context, e *Experiment, candidate string) (done bool, err error) {
	d := e.Delivery
	i := slices.IndexFunc(e.Candidates, func(cd Candidate) bool { return cd.Name == candidate })
	if i < 0 {
		return false, fmt.Errorf("%s: there is no candidate %s", experimentName(e.Experiment), candidate)
	}
	winner, err := c.deployment(d, e.Candidates[i].Object)
	if err != nil {
		return false, err
	}
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return false, err
	}
	if Revision(&target.Spec.Template) == Revision(&winner.Spec.Template) {
		return true, nil
	}
	want := target.DeepCopy()
	want.Spec.Template = *winner.Spec.Template.DeepCopy()
	delete(want.Spec.Template.Labels, LabelExperiment)
	maps.Copy(want.Spec.Template.Labels, target.Spec.Selector.MatchLabels)
	return false, c.replaceTemplate(ctx, want)
}

// WriteExperimentStatus replaces the status of an Experiment. When it returns
// nil the status is durable.
func (c *Client) WriteExperimentStatus(ctx context.Context, x *v1alpha1.Experiment) error {
	obj := &v1alpha1.Experiment{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Experiment"},
		ObjectMeta: metav1.ObjectMeta{Name: x.Name, Namespace: x.Namespace, UID: x.UID},
		Status:     x.Status,
	}
	if err := c.applyStatus(ctx, experimentsResource, obj); err != nil {
		return fmt.Errorf("%s: write status: %w", experimentName(x), err)
	}
	return nil
}

// SetExperimentFinalizer adds or removes Serin's finalizer.
func (c *Client) SetExperimentFinalizer(ctx context.Context, x *v1alpha1.Experiment, on bool) error {
	return c.setFinalizer(ctx, experimentsResource, x, on)
}

// ExperimentEvent tells people about an Experiment.
func (c *Client) ExperimentEvent(x *v1alpha1.Experiment, warning bool, reason, message string) {
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	c.events.Event(x, kind, reason, message)
}

// Terminating reports whether everything in a namespace is being deleted.
func (c *Client) Terminating(namespace string) bool { return c.terminating(namespace) }

func experimentName(x *v1alpha1.Experiment) string { return "experiment " + x.Namespace + "/" + x.Name }

func experimentMeta(x *v1alpha1.Experiment, name string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{
		Name: name, Namespace: x.Namespace,
		Labels: map[string]string{LabelExperiment: x.Name},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: "Experiment",
			Name: x.Name, UID: x.UID, Controller: &yes, BlockOwnerDeletion: &yes,
		}},
	}
}
