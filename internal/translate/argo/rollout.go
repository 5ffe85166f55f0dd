package argo

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"serin.dev/serin/api/v1alpha1"
)

// release is a Release in the form in which people write it.
type release struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        map[string]any       `json:"metadata"`
	Spec            v1alpha1.ReleaseSpec `json:"spec"`
}

// rollout converts one Rollout: to its Deployment, if it has the pods itself,
// to the Release, and to the MetricTemplates.
func (c *converter) rollout(o *node) []any {
	o.at("status")
	o.metadata()
	o.notifications()
	spec := o.at("spec")
	name := o.at("metadata").word("name")
	r := &release{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Release"},
		Metadata: map[string]any{"name": name},
	}
	if ns := o.in("metadata", "namespace").text(); ns != "" {
		r.Metadata["namespace"] = ns
	}
	r.Spec.Target.Name = name
	var out []any
	if ref := spec.at("workloadRef"); ref.set() {
		if kind := orDefault(ref, "kind", "Deployment"); kind != "Deployment" {
			ref.note("a %s cannot be released: make it a Deployment", kind)
		}
		ref.at("apiVersion")
		ref.drop("the target is scaled to 0 between runs, always", "scaleDown")
		r.Spec.Target.Name = ref.at("name").text()
	} else {
		out = append(out, deployment(o))
	}
	r.Spec.ProgressDeadline = duration(600)
	if seconds, ok := spec.at("progressDeadlineSeconds").number(); ok {
		r.Spec.ProgressDeadline = duration(seconds)
	}
	r.Spec.Hold = duration(10)
	r.Spec.Judge.Latency.Tolerance = "0" // of durations the author's own metrics decide
	spec.at("progressDeadlineAbort")     // always here
	r.Spec.Suspend = spec.at("paused").yes()
	spec.drop("the version before alone is kept: see keepWarm", "rollbackWindow")
	spec.drop("has no meaning here: kubectl rollout restart changes the template, and is a release", "restartAt")
	spec.drop("runs are kept in the Release's history, ten of them", "analysis")
	canary, blueGreen := spec.in("strategy", "canary"), spec.in("strategy", "blueGreen")
	if canary.set() && blueGreen.set() {
		canary.note("a Rollout has one strategy: blueGreen is the one that was kept")
		canary.read = map[string]bool{} // as a whole
	}
	port := c.port(spec)
	var checks *analyses
	if blueGreen.set() {
		checks = c.blueGreen(r, blueGreen)
	} else {
		checks = c.canary(r, canary)
	}
	if r.Spec.Service.Name == "" {
		c.called(r, spec)
	}
	r.Spec.Service.Port = cmp.Or(r.Spec.Service.Port, port)
	if r.Spec.Service.Port == 0 {
		r.Spec.Service.Port = 80
		spec.note("no Service and no container says which port users call: 80 is a guess")
	}
	checks.judge(r)
	return append(append(out, r), checks.templates...)
}

// deployment is the workload that the Rollout is itself.
func deployment(o *node) any {
	metadata := map[string]any{}
	for _, field := range []string{"name", "namespace", "labels", "annotations"} {
		if v := o.in("metadata", field); v.set() {
			metadata[field] = v.all()
		}
	}
	spec := map[string]any{}
	for _, field := range []string{"replicas", "selector", "template", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"} {
		if v := o.in("spec", field); v.set() {
			spec[field] = v.all()
		}
	}
	return map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
}

// port is the first one of the pods; 0 = none is said.
func (c *converter) port(spec *node) int32 {
	var template struct {
		Spec struct {
			Containers []struct {
				Ports []struct{ ContainerPort int32 }
			}
		}
	}
	if spec.has("template") {
		spec.at("template").decode(&template)
	}
	for _, container := range template.Spec.Containers {
		for _, p := range container.Ports {
			return p.ContainerPort
		}
	}
	return 0
}

// service takes the place of Argo's pair: users call the stable one.
func (c *converter) service(r *release, stable, other *node) {
	if name := other.text(); name != "" {
		c.replace(c.services[name])
		other.note("Services %s-stable and %s-canary lead to the two versions", cmp.Or(stable.text(), r.Spec.Target.Name), cmp.Or(stable.text(), r.Spec.Target.Name))
	}
	r.Spec.Service.Name = stable.text()
	if svc := c.services[stable.text()]; svc != nil {
		ports(r, svc)
	}
}

// called finds the Service that users call where the Rollout names none: the
// one that selects its pods.
func (c *converter) called(r *release, spec *node) {
	template := spec
	if ref := spec.at("workloadRef"); ref.set() {
		if template = c.workloads[ref.word("name")].orNone().at("spec"); !template.set() {
			spec.note("no Service is named, and the Deployment is not in the file: if users call another Service than %s, write its name into spec.service.name", r.Spec.Target.Name)
			return
		}
	}
	var pods struct {
		Metadata struct{ Labels map[string]string }
	}
	template.at("template").decode(&pods)
	var names []string
	for name, svc := range c.services {
		var selector map[string]string
		svc.in("spec", "selector").decode(&selector)
		selects := len(selector) > 0
		for k, v := range selector {
			selects = selects && pods.Metadata.Labels[k] == v
		}
		if selects {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	switch len(names) {
	case 0:
		spec.note("no Service is named, and none of the file selects the pods: if users call another Service than %s, write its name into spec.service.name", r.Spec.Target.Name)
	case 1:
		r.Spec.Service.Name = names[0]
		ports(r, c.services[names[0]])
	default:
		r.Spec.Service.Name = names[0]
		ports(r, c.services[names[0]])
		spec.note("Services %s select the pods: %s is kept, and the others lead nowhere between runs: let users call that one, or write another into spec.service.name", strings.Join(names, ", "), names[0])
	}
}

// ports takes over those of a Service.
func ports(r *release, svc *node) {
	for i, p := range svc.in("spec", "ports").list() {
		if n, ok := p.at("port").number(); ok && i == 0 {
			r.Spec.Service.Port = int32(n)
			if target := p.at("targetPort"); target.set() {
				t := intstr.Parse(target.text())
				r.Spec.Service.TargetPort = &t
			}
		}
	}
}

// traffic says how requests are divided; false = by the number of pods.
func (c *converter) traffic(r *release, t *node) bool {
	if !t.set() {
		return false
	}
	t.drop("shares are percent here, down to a hundredth", "maxTrafficWeight")
	for _, other := range []string{"alb", "ambassador", "apisix", "appMesh", "nginx", "smi", "traefik", "plugins"} {
		t.drop("traffic is split by Serin's own mesh: name its Istio Gateways in spec.service.gateways", other)
	}
	t.at("managedRoutes") // they have places of their own
	istio := t.at("istio")
	istio.drop("versions are told apart by their Services, not by subsets", "destinationRule")
	virtual := []*node{istio.at("virtualService")}
	virtual = append(virtual, istio.at("virtualServices").list()...)
	for _, ref := range virtual {
		if !ref.set() {
			continue
		}
		ref.drop("only HTTP is split", "tlsRoutes", "tcpRoutes")
		vs := c.routes[ref.at("name").text()]
		if vs == nil {
			ref.note("VirtualService %s is not in the file: write its hosts, gateways and matches into spec.service", ref.at("name").text())
			continue
		}
		c.replace(vs)
		var named []string
		for _, name := range ref.at("routes").list() {
			named = append(named, name.text())
		}
		c.route(r, vs, named)
	}
	return true
}

// route takes over what a VirtualService says of the traffic: of its routes the
// named ones, else those to the Service that users call, else the only one.
func (c *converter) route(r *release, vs *node, named []string) {
	spec := vs.at("spec")
	for _, h := range spec.at("hosts").list() {
		if h.text() != r.Spec.Service.Name {
			r.Spec.Service.Hosts = append(r.Spec.Service.Hosts, h.text())
		}
	}
	for _, g := range spec.at("gateways").list() {
		r.Spec.Service.Gateways = append(r.Spec.Service.Gateways, g.text())
	}
	routes := spec.at("http").list()
	all := false // requests belong to the service, whatever they match
	for _, route := range routes {
		mine := len(routes) == 1 || slices.Contains(named, route.word("name"))
		if len(named) == 0 {
			for _, to := range route.at("route").list() {
				host, _, _ := strings.Cut(to.at("destination").word("host"), ".")
				mine = mine || host == r.Spec.Service.Name
			}
		}
		if !mine {
			route.note("is not the Rollout's: keep it in a VirtualService of its own")
			continue
		}
		var match []runtime.RawExtension
		if route.has("match") {
			route.at("match").decode(&match)
		}
		all = all || len(match) == 0
		r.Spec.Service.Match = append(r.Spec.Service.Match, match...)
		for _, field := range []string{"timeout", "retries", "headers", "rewrite", "corsPolicy"} {
			if route.at(field).set() {
				route.at(field).note("write it into spec.service.http")
			}
		}
	}
	if all {
		r.Spec.Service.Match = nil
	}
}

// canary converts the steps.
func (c *converter) canary(r *release, canary *node) *analyses {
	r.Spec.Strategy = "Canary"
	c.service(r, canary.at("stableService"), canary.at("canaryService"))
	if !c.traffic(r, canary.at("trafficRouting")) {
		r.Spec.Strategy = "Replicas"
	}
	canary.drop("both versions run all of their pods while they share the traffic", "maxSurge", "maxUnavailable", "dynamicStableScale", "minPodsPerReplicaSet")
	canary.drop("pods are not told apart by metadata: their Deployments are", "canaryMetadata", "stableMetadata")
	canary.drop("write it into the pod template", "antiAffinity")
	canary.drop("the two Services do not change places", "pingPong")
	keepWarm(r, canary, 0)
	canary.drop("the canary's pods go when no request is under way to them", "abortScaleDownDelaySeconds")
	checks := &analyses{converter: c, release: r}
	s := &steps{release: r, checks: checks, byPods: r.Spec.Strategy == "Replicas"}
	for _, step := range canary.at("steps").list() {
		s.add(step)
	}
	if background := canary.at("analysis"); background.set() {
		background.drop("the canary is judged from its first request on", "startingStep")
		checks.add(background)
	}
	checks.settle()
	s.end()
	return checks
}

// steps collects a canary's.
type steps struct {
	release *release
	checks  *analyses
	byPods  bool
	last    int
	all     *node // the weight of 100, with which no stable version is left to compare with
	holds   []time.Duration
	gates   int
}

func (s *steps) add(step *node) {
	spec := &s.release.Spec
	switch {
	case step.has("setWeight"):
		s.weight(step.at("setWeight"))
	case step.has("pause"):
		s.pause(step.at("pause"))
	case step.has("analysis"):
		step.at("analysis").note("its checks judge the canary at every step, not at this one alone")
		s.checks.add(step.at("analysis"))
	case step.has("setCanaryScale"):
		step.at("setCanaryScale").note("cannot be kept: the canary has as many pods as its share of the traffic needs")
	case step.has("setHeaderRoute"):
		route := step.at("setHeaderRoute")
		route.at("name")
		for _, m := range route.at("match").list() {
			condition := map[string]any{strings.ToLower(m.at("headerName").text()): m.at("headerValue").all()}
			spec.Preview = append(spec.Preview, rawOf(map[string]any{"headers": condition}, m))
		}
		if route.at("match").set() {
			route.note("these requests reach the canary as soon as it is ready, until the run ends")
		}
	case step.has("setMirrorRoute"):
		s.mirror(step.at("setMirrorRoute"))
	case step.has("experiment"):
		step.at("experiment").note("experiments cannot be kept: the canary is compared with the stable version on the same traffic anyway")
	case step.has("plugin"):
		step.at("plugin").note("plugins cannot be kept: a webhook may do the same")
	case step.has("replicaProgressThreshold"):
		t := step.at("replicaProgressThreshold")
		if n, ok := t.at("value").number(); ok && t.at("type").text() == "Percentage" && n > 0 {
			spec.Ready = &v1alpha1.Readiness{Canary: int32(n), Stable: 100}
		} else {
			t.note("cannot be kept: write a percentage into spec.ready")
		}
	default:
		step.note("is not known here")
	}
}

func (s *steps) weight(n *node) {
	w, ok := n.number()
	switch {
	case !ok || w == 0 && s.last == 0:
		return // 0 is what a run begins with
	case s.byPods && w >= 100:
		return // the promotion
	case w <= s.last || w > 100:
		n.note("%d is left out: shares grow from step to step, up to 100", w)
		return
	}
	s.last = w
	if w == 100 {
		s.all = n
	}
	s.release.Spec.Steps = append(s.release.Spec.Steps, intstr.FromInt(w))
}

// pause is a time at the step before, or for ever: a gate before the next one.
func (s *steps) pause(n *node) {
	text := n.at("duration").text()
	if text != "" {
		if seconds, err := strconv.Atoi(text); err == nil {
			text = fmt.Sprintf("%ds", seconds)
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			n.at("duration").note("%q is no time", text)
			return
		}
		s.holds = append(s.holds, d)
		return
	}
	s.gates++
	gate := v1alpha1.Gate{Name: fmt.Sprintf("pause-%d", s.gates), At: "Traffic", Step: int32(len(s.release.Spec.Steps) + 1), Manual: &v1alpha1.ManualGate{}}
	if gate.Step == 1 {
		gate.At, gate.Step = "Start", 0
	}
	s.release.Spec.Gates = append(s.release.Spec.Gates, gate)
}

func (s *steps) mirror(n *node) {
	n.at("name")
	if !n.has("match") && !n.has("percentage") {
		return // the end of the copies, which comes by itself
	}
	share := 100
	if v, ok := n.at("percentage").number(); ok {
		share = v
	}
	if n.at("match").set() {
		n.at("match").note("copies are of all requests")
	}
	if s.byPods {
		n.note("cannot be kept: without a route requests cannot be copied")
		return
	}
	s.release.Spec.Mirror = &v1alpha1.Mirror{Share: intstr.FromInt(share)}
	n.note("copies are sent before the first step alone")
}

// end settles what all steps together say.
func (s *steps) end() {
	spec := &s.release.Spec
	if s.all != nil && !s.checks.decide() {
		spec.Steps = spec.Steps[:len(spec.Steps)-1]
		s.all.note("100 is left out: without a metric nothing would tell a bad version there, and after the last step it is promoted anyway")
	}
	if len(spec.Steps) == 0 {
		half := intstr.FromInt32(50)
		spec.Steps = []intstr.IntOrString{half}
		s.checks.say("spec.strategy.canary.steps", "without smaller weights Argo moves pod by pod: half of the users come first here")
	}
	// What stands after the last step is asked before the promotion.
	for i := range spec.Gates {
		if g := &spec.Gates[i]; int(g.Step) > len(spec.Steps) {
			g.At, g.Step = "Promotion", 0
		}
	}
	if len(s.holds) > 0 {
		longest := slices.Max(s.holds)
		spec.Hold = metav1.Duration{Duration: longest}
		if slices.Min(s.holds) != longest {
			s.checks.say("spec.strategy.canary.steps", "pauses differ: each step is held for the longest one, %v", longest)
		}
	}
}

// blueGreen converts the other strategy.
func (c *converter) blueGreen(r *release, b *node) *analyses {
	r.Spec.Strategy = "BlueGreen"
	c.service(r, b.at("activeService"), b.at("previewService"))
	checks := &analyses{converter: c, release: r}
	auto := b.at("autoPromotionEnabled")
	if auto.set() && !auto.yes() {
		r.Spec.Gates = append(r.Spec.Gates, v1alpha1.Gate{Name: "promotion", At: "Traffic", Manual: &v1alpha1.ManualGate{}})
	}
	r.Spec.Iterations = 1
	if seconds, ok := b.at("autoPromotionSeconds").number(); ok && seconds > 0 {
		r.Spec.Judge.Interval = duration(seconds)
		if len(r.Spec.Gates) > 0 {
			b.at("autoPromotionSeconds").note("a gate does not open by itself: remove the gate promotion, and the version is tested for so long")
		}
	}
	if before := b.at("prePromotionAnalysis"); before.set() {
		checks.add(before)
	}
	if after := b.at("postPromotionAnalysis"); after.set() {
		after.note("its checks judge the version before all users get it, too")
		checks.add(after)
	}
	checks.settle()
	keepWarm(r, b, 30)
	b.drop("the version under test has as many pods as the stable one", "previewReplicaCount")
	b.drop("the canary's pods go when no request is under way to them", "abortScaleDownDelaySeconds", "scaleDownDelayRevisionLimit")
	b.drop("pods are not told apart by metadata: their Deployments are", "activeMetadata", "previewMetadata")
	b.drop("write it into the pod template", "antiAffinity")
	b.drop("the stable copy is rolled as its Deployment says", "maxUnavailable")
	if len(r.Spec.Gates) == 0 && !checks.decide() {
		r.Spec.Judge.Tolerance = "0"
		b.note("nothing judges the version, as in Argo: every one is promoted. Better add a check, such as {metric: success-rate, min: \"99\"}, and remove spec.judge.tolerance")
	}
	return checks
}

// keepWarm is how long the pods of the version before stay.
func keepWarm(r *release, n *node, seconds int) {
	if v, ok := n.at("scaleDownDelaySeconds").number(); ok {
		seconds = v
	}
	n.at("scaleDownDelayRevisionLimit")
	if seconds > 0 && r.Spec.Strategy != "Replicas" {
		r.Spec.KeepWarm = duration(seconds)
	}
}

func duration(seconds int) metav1.Duration {
	return metav1.Duration{Duration: time.Duration(seconds) * time.Second}
}
