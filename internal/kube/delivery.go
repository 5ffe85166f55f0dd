package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/rollout"
)

// Delivery is what the API says about one Release at one moment.
type Delivery struct {
	Release *v1alpha1.Release // a copy; the caller may change it
	Names   Names
	Target  Workload
	Stable  Workload
	Warm    Workload // the version before, kept warm; mostly there is none
	Route   Route
	Scaler  Scaler
	// Holder is the Release that has this one's objects; "" = none.
	Holder string
	// Problem says why no run can begin or advance, and what to change; it
	// wraps ErrTaken where an object belongs to someone else, which no write
	// touches. nil = none.
	Problem error

	// experiment owns the routes where there is no Release: then Release is one
	// that the API does not have, made from the experiment's spec.
	experiment *v1alpha1.Experiment
	// subsets share the requests with stable while an experiment is on.
	subsets []subset
}

// owns reports whether an object belongs to the Release, or to the experiment in
// its place. Its label says so, or its owner: somebody may have taken the one away.
func (d *Delivery) owns(o metav1.Object) bool {
	if d.experiment != nil {
		return o.GetLabels()[LabelExperiment] == d.experiment.Name || metav1.IsControlledBy(o, d.experiment)
	}
	return o.GetLabels()[LabelRelease] == d.Release.Name || metav1.IsControlledBy(o, d.Release)
}

// Names are those of the objects that carry a Release.
type Names struct {
	Namespace     string
	Target        string // Deployment of the user: the canary
	Stable        string // Deployment of Serin: serves users
	Service       string // called by users; selects the stable pods
	StableService string
	CanaryService string
	Warm          string // Deployment of Serin: the version before, kept warm
	WarmService   string
}

// NamesOf says how the objects of a Release are called. A Release that a
// Flagger Canary owns uses Flagger's names, which users' manifests refer to
// (its load test calls "<target>-canary").
func NamesOf(r *v1alpha1.Release) Names {
	n := Names{
		Namespace: r.Namespace,
		Target:    r.Spec.Target.Name,
		Service:   r.Spec.Service.Name,
	}
	if n.Service == "" {
		n.Service = n.Target
	}
	suffix := "-stable"
	if OwnedByCanary(r) {
		suffix = "-primary"
	}
	n.Stable = n.Target + suffix
	n.StableService = n.Service + suffix
	n.CanaryService = n.Service + "-canary"
	n.Warm = n.Target + "-previous"
	n.WarmService = n.Service + "-previous"
	return n
}

// suffix is what the names of the stable side have after the target's.
func (n *Names) suffix() string { return n.Stable[len(n.Target):] }

// OwnedByCanary reports whether a Release does the work of a Flagger Canary.
func OwnedByCanary(r *v1alpha1.Release) bool {
	o := metav1.GetControllerOf(r)
	return o != nil && o.Kind == "Canary"
}

// Workload is a Deployment as a release sees it. The zero value does not exist.
type Workload struct {
	Exists   bool
	Replicas int32 // asked for
	// Declarer is who says how many, as a part of all that the Deployment is to
	// be, such as a GitOps tool; "" = nobody does.
	Declarer string
	Claimed  bool   // Serin is named among those who manage it
	Paused   bool   // it rolls no new template out
	Revision string // of its template and what that uses
	// Config is the sum of what the template uses of ConfigMaps and Secrets;
	// "" = nothing.
	Config string
	// Template is the revision of the template alone, which its pods say.
	Template string
	Version  v1alpha1.Version
	// Enough is how many pods suffice: of Replicas the part that the Release
	// asks for.
	Enough int32
	// Ready: enough of the replicas asked for run Revision and are available,
	// and none of another revision is left; at least one is asked for.
	Ready bool
	// Running counts pods of any revision that exist, Available those of them
	// that can serve.
	Running, Available int32
	// Message says in one line why it is not ready, with what a failing pod says.
	Message string
}

// Route is what splits a Release's traffic: one VirtualService for calls
// between services and, where the Release names gateways, one for these. They
// are two because a host such as "*" is meant for gateways alone.
type Route struct {
	Parts  []RoutePart // those that exist
	Exists bool        // all of them do
	// Traffic that they give to the canary. Where they differ, as while they
	// are written or after a foreign hand, it is none that a plan asks for.
	Traffic rollout.Traffic
}

// RoutePart is one VirtualService.
type RoutePart struct {
	Origin     mesh.Origin
	Generation int64
}

// Releases lists all of them as Deliveries, ordered by namespace and name.
func (c *Client) Releases() ([]*Delivery, error) {
	var out []*Delivery
	for _, obj := range c.releases.GetStore().List() {
		d, err := c.Delivery(obj.(*v1alpha1.Release).DeepCopy())
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *Delivery) int {
		return strings.Compare(a.Release.Namespace+"/"+a.Release.Name, b.Release.Namespace+"/"+b.Release.Name)
	})
	return out, nil
}

// ReleaseObjects lists all of them as they are in the API. They are shared, and
// must not be changed.
func (c *Client) ReleaseObjects() []*v1alpha1.Release {
	var out []*v1alpha1.Release
	for _, obj := range c.releases.GetStore().List() {
		out = append(out, obj.(*v1alpha1.Release))
	}
	return out
}

// Delivery reads what the API says about a Release, by the spec that it is given
// with.
func (c *Client) Delivery(r *v1alpha1.Release) (*Delivery, error) {
	d := &Delivery{Release: r, Names: NamesOf(r)}
	var err error
	suffices := func(percent func(*v1alpha1.Readiness) int32) int32 {
		if r.Spec.Ready == nil {
			return 100
		}
		return cmp.Or(percent(r.Spec.Ready), 100)
	}
	stable := suffices(func(e *v1alpha1.Readiness) int32 { return e.Stable })
	if d.Target, err = c.workload(r.Namespace, d.Names.Target, suffices(func(e *v1alpha1.Readiness) int32 { return e.Canary })); err != nil {
		return nil, err
	}
	if err := c.configure(d); err != nil {
		return nil, err
	}
	if d.Stable, err = c.workload(r.Namespace, d.Names.Stable, stable); err != nil {
		return nil, err
	}
	if d.Warm, err = c.workload(r.Namespace, d.Names.Warm, stable); err != nil {
		return nil, err
	}
	d.Route = c.route(d)
	d.Scaler = c.scaler(d)
	c.claim(d)
	return d, nil
}

// TargetExists looks again whether a Release has a target.
func (c *Client) TargetExists(d *Delivery) bool {
	dep, err := c.deployment(d, d.Names.Target)
	return err == nil && dep.DeletionTimestamp == nil
}

// workload reads a Deployment of whose pods so many percent suffice.
func (c *Client) workload(namespace, name string, suffices int32) (Workload, error) {
	dep, err := c.coreInformers.Apps().V1().Deployments().Lister().Deployments(namespace).Get(name)
	if err != nil {
		// The lister's only error is "not found".
		return Workload{Message: fmt.Sprintf("deployment %s not found in namespace %s", name, namespace)}, nil
	}
	pods, err := c.coreInformers.Core().V1().Pods().Lister().Pods(namespace).List(selectorOf(dep))
	if err != nil {
		return Workload{}, fmt.Errorf("pods of %s/%s: %w", namespace, name, err)
	}
	return workloadOf(dep, pods, suffices), nil
}

func selectorOf(dep *appsv1.Deployment) labels.Selector {
	s, err := metav1.LabelSelectorAsSelector(dep.Spec.Selector)
	if err != nil {
		return labels.Nothing() // the API refuses such a Deployment
	}
	return s
}

func workloadOf(dep *appsv1.Deployment, pods []*corev1.Pod, suffices int32) Workload {
	t := &dep.Spec.Template
	w := Workload{
		Exists:   dep.DeletionTimestamp == nil,
		Replicas: 1,
		Revision: Revision(t),
		Template: Revision(t),
		Declarer: declarer(dep),
		Claimed:  claimed(dep),
		Paused:   dep.Spec.Paused,
		Running:  dep.Status.Replicas,
		Version:  versionOf(t, Revision(t)),

		Available: dep.Status.AvailableReplicas,
	}
	if dep.Spec.Replicas != nil {
		w.Replicas = *dep.Spec.Replicas
	}
	w.Enough = int32((int64(w.Replicas)*int64(suffices) + 99) / 100)
	s := dep.Status
	switch {
	case w.Replicas == 0:
		w.Message = fmt.Sprintf("deployment %s is scaled to 0", dep.Name)
	case s.ObservedGeneration < dep.Generation:
		w.Message = fmt.Sprintf("deployment %s was not looked at yet", dep.Name)
	case s.UpdatedReplicas < w.Enough || s.Replicas > s.UpdatedReplicas || s.AvailableReplicas < w.Enough:
		w.Message = fmt.Sprintf("%d of %d pods of %s are ready%s",
			min(s.UpdatedReplicas, s.AvailableReplicas), w.Replicas, dep.Name, trouble(pods))
		if w.Enough < w.Replicas {
			w.Message += fmt.Sprintf("; %d suffice", w.Enough)
		}
	default:
		w.Ready = true
	}
	return w
}

// versionOf names a template with that revision.
func versionOf(t *corev1.PodTemplateSpec, revision string) v1alpha1.Version {
	v := v1alpha1.Version{Label: Version(t), Revision: revision}
	if len(t.Spec.Containers) > 0 {
		v.Image = t.Spec.Containers[0].Image
	}
	return v
}

// trouble quotes the first pod that says why it does not run.
func trouble(pods []*corev1.Pod) string {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range pods {
		for _, cs := range p.Status.ContainerStatuses {
			w := cs.State.Waiting
			if w == nil || w.Reason == "ContainerCreating" || w.Reason == "PodInitializing" {
				continue
			}
			msg := fmt.Sprintf("; %s: %s", p.Name, w.Reason)
			if w.Message != "" {
				msg += ": " + firstLine(w.Message)
			}
			return msg
		}
	}
	return ""
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

func (c *Client) route(d *Delivery) Route {
	n, r := d.Names, Route{Exists: !d.Release.Spec.Worker()}
	for _, name := range routeNames(d.Release) {
		vs, err := c.istioInformers.Networking().V1().VirtualServices().Lister().VirtualServices(n.Namespace).Get(name)
		if err != nil || vs.DeletionTimestamp != nil {
			r.Exists = false
			continue
		}
		r.Parts = append(r.Parts, RoutePart{
			Origin:     routeOrigin(n, name),
			Generation: vs.Generation,
		})
		traffic := trafficOf(&vs.Spec, n)
		if len(r.Parts) > 1 && traffic != r.Traffic {
			traffic.Share = max(traffic.Share, r.Traffic.Share, 1)
			traffic.Match = !traffic.Match
		}
		r.Traffic = traffic
	}
	return r
}

// RouteOrigins are the VirtualServices that the split needs, whether they exist
// or not.
func (d *Delivery) RouteOrigins() []mesh.Origin {
	var out []mesh.Origin
	for _, name := range routeNames(d.Release) {
		out = append(out, routeOrigin(d.Names, name))
	}
	return out
}

func routeOrigin(n Names, name string) mesh.Origin {
	return mesh.Origin{Kind: "VirtualService", Namespace: n.Namespace, Name: name}
}
