package kube

import (
	"fmt"
	"strings"
	"testing"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/mesh"
)

// read decodes YAML strictly into a new T.
func read[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return out
}

const template = `
metadata:
  labels: {app: music, tier: back}
  annotations: {team: sound}
spec:
  containers:
  - {name: music, image: example.org:5000/music:v2@sha256:0123}
`

func TestRevisionNamesWhatRunsNotWhoseItIs(t *testing.T) {
	base := Revision(read[corev1.PodTemplateSpec](t, template))
	same := map[string]func(*corev1.PodTemplateSpec){
		"the stable copy's identity": func(p *corev1.PodTemplateSpec) { p.Labels["app"] = "music-stable" },
		"our own label":              func(p *corev1.PodTemplateSpec) { p.Labels[LabelRelease] = "music" },
		"our own annotation":         func(p *corev1.PodTemplateSpec) { p.Annotations[AnnotationOutbound] = "x" },
	}
	for what, change := range same {
		p := read[corev1.PodTemplateSpec](t, template)
		change(p)
		if got := Revision(p); got != base {
			t.Errorf("%s changes the revision from %s to %s", what, base, got)
		}
	}
	other := map[string]func(*corev1.PodTemplateSpec){
		"another image":    func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Image += "4" },
		"another label":    func(p *corev1.PodTemplateSpec) { p.Labels["tier"] = "front" },
		"a restart":        func(p *corev1.PodTemplateSpec) { p.Annotations["kubectl.kubernetes.io/restartedAt"] = "now" },
		"another variable": func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A"}} },
	}
	for what, change := range other {
		p := read[corev1.PodTemplateSpec](t, template)
		change(p)
		if Revision(p) == base {
			t.Errorf("%s does not change the revision", what)
		}
	}
}

func TestRevisionIsTheSameWhetherLabelsAreEmptyOrAbsent(t *testing.T) {
	with := read[corev1.PodTemplateSpec](t, "metadata: {labels: {app: a}, annotations: {serin.dev/x: y}}\nspec: {containers: []}")
	without := read[corev1.PodTemplateSpec](t, "spec: {containers: []}")
	if a, b := Revision(with), Revision(without); a != b {
		t.Errorf("revisions %s and %s differ", a, b)
	}
}

func TestVersionIsWhatPeopleSay(t *testing.T) {
	f := func(image, label, want string) {
		t.Helper()
		p := &corev1.PodTemplateSpec{}
		p.Spec.Containers = []corev1.Container{{Image: image}}
		if label != "" {
			p.Labels = map[string]string{"version": label}
		}
		if got := Version(p); got != want {
			t.Errorf("Version(image %q, label %q) = %q, want %q", image, label, got, want)
		}
	}
	f("music:v2", "", "v2")
	f("music:v2", "blue", "blue")
	f("example.org:5000/music", "", "")
	f("example.org:5000/music:v2@sha256:0123", "", "v2")
	f("", "", "")
}

func release(t *testing.T, spec string) *Delivery {
	t.Helper()
	r := read[v1alpha1.Release](t, "metadata: {name: music, namespace: default, uid: u1}\nspec:\n"+spec)
	return &Delivery{Release: r, Names: NamesOf(r)}
}

func TestACanarysReleaseUsesFlaggersNames(t *testing.T) {
	own := release(t, "  target: {name: music}\n  service: {port: 80}")
	if got, want := own.Names, (Names{"default", "music", "music-stable", "music", "music-stable", "music-canary", "music-previous", "music-previous"}); got != want {
		t.Errorf("names = %+v, want %+v", got, want)
	}
	r := read[v1alpha1.Release](t, `
metadata:
  name: reviews
  namespace: default
  ownerReferences: [{apiVersion: flagger.app/v1beta1, kind: Canary, name: reviews, uid: c1, controller: true}]
spec:
  target: {name: reviews}
  service: {name: api, port: 9080}
`)
	if got, want := NamesOf(r), (Names{"default", "reviews", "reviews-primary", "api", "api-primary", "api-canary", "reviews-previous", "api-previous"}); got != want {
		t.Errorf("names = %+v, want %+v", got, want)
	}
}

func TestWorkloadSaysWhyItIsNotReady(t *testing.T) {
	f := func(deployment, want string) {
		t.Helper()
		dep := read[appsv1.Deployment](t, "metadata: {name: music, generation: 2}\n"+deployment)
		pods := []*corev1.Pod{read[corev1.Pod](t, `
metadata: {name: music-1}
status: {containerStatuses: [{name: music, ready: false, state: {waiting: {reason: CrashLoopBackOff, message: "exit code 1: no config\nmore"}}}]}
`)}
		w := workloadOf(dep, pods, 100)
		if w.Message != want || w.Ready != (want == "") {
			t.Errorf("ready = %v, message = %q; want %q", w.Ready, w.Message, want)
		}
	}
	f("spec: {replicas: 0}", "deployment music is scaled to 0")
	f("spec: {replicas: 2}\nstatus: {observedGeneration: 1}", "deployment music was not looked at yet")
	f("spec: {replicas: 2}\nstatus: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 1}",
		"1 of 2 pods of music are ready; music-1: CrashLoopBackOff: exit code 1: no config")
	f("spec: {replicas: 2}\nstatus: {observedGeneration: 2, replicas: 3, updatedReplicas: 2, availableReplicas: 3}",
		"2 of 2 pods of music are ready; music-1: CrashLoopBackOff: exit code 1: no config")
	f("spec: {replicas: 2}\nstatus: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 2}", "")
}

func TestEndpointsAreReadyPodsWithTheirVersion(t *testing.T) {
	services := []*corev1.Service{read[corev1.Service](t, `
metadata: {name: music, namespace: default}
spec: {ports: [{name: http, port: 80}]}
`)}
	pods := map[string]*corev1.Pod{"default/music-1": read[corev1.Pod](t, `
metadata:
  name: music-1
  namespace: default
  labels: {app: music, serin.dev/revision: r1}
  annotations: {serin.dev/app-address: "127.0.0.1:20001"}
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: music, uid: d1, controller: true}]
spec: {containers: [{name: music, image: "music:v1", ports: [{containerPort: 8080}]}]}
`)}
	pods["default/music-2"] = read[corev1.Pod](t, `
metadata: {name: music-2, namespace: default, annotations: {serin.dev/outbound: "127.20.0.5:15001"}}
spec: {containers: [{name: music, ports: [{containerPort: 8080}]}]}
`)
	slices := []*discoveryv1.EndpointSlice{read[discoveryv1.EndpointSlice](t, `
metadata: {name: music-x, namespace: default, labels: {kubernetes.io/service-name: music}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [127.20.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: music-1}}
- {addresses: [127.20.0.2], conditions: {ready: false}, targetRef: {kind: Pod, name: music-1}}
- {addresses: [127.20.0.3], conditions: {ready: true}, targetRef: {kind: Pod, name: not-in-the-cache-yet}}
- {addresses: [127.20.0.4], conditions: {}}
- {addresses: [127.20.0.5], conditions: {ready: true}, targetRef: {kind: Pod, name: music-2}}
`)}
	got := endpointsOf(services, slices, pods, nil)["music.default"]
	if len(got) != 2 {
		t.Fatalf("%d endpoints, want the ready pod and the one without a pod: %+v", len(got), got)
	}
	e := got[0]
	want := mesh.Workload{Namespace: "default", Name: "music", Version: "v1", Revision: "r1", Pod: "music-1"}
	if e.Port != 80 || e.Address.String() != "127.20.0.1:8080" || e.Dial != "127.0.0.1:20001" || e.Workload != want {
		t.Errorf("endpoint = %+v", e)
	}
	if e := got[1]; e.Dial != "" || e.Workload != (mesh.Workload{}) {
		t.Errorf("endpoint without a pod = %+v, want its address alone", e)
	}
}

// Pods that end serve on where a route leads users to them and nobody else could
// answer; all others leave at once.
func TestEndingPodsOfAHeldTargetAreEndpointsWithoutOthers(t *testing.T) {
	services := []*corev1.Service{read[corev1.Service](t, `
metadata: {name: music-canary, namespace: default}
spec: {ports: [{name: http, port: 80}]}
`)}
	pod := func(name string) *corev1.Pod {
		return read[corev1.Pod](t, fmt.Sprintf(`
metadata:
  name: %s
  namespace: default
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: music, uid: d1, controller: true}]
`, name))
	}
	pods := map[string]*corev1.Pod{"default/music-1": pod("music-1"), "default/music-2": pod("music-2")}
	held := targetsHeld([]*appsv1.Deployment{
		read[appsv1.Deployment](t, "metadata: {name: music, namespace: default, finalizers: [serin.dev/take-back]}"),
		read[appsv1.Deployment](t, "metadata: {name: user, namespace: default, finalizers: [serin.dev/hand-back]}"),
	})
	if len(held) != 1 {
		t.Fatalf("held: %v, want music alone", held)
	}
	ready, ending, over := "{ready: true, serving: true}", "{ready: false, serving: true, terminating: true}", "{ready: false, serving: false, terminating: true}"
	f := func(first, second string, held map[mesh.Workload]bool, want string) {
		t.Helper()
		slices := []*discoveryv1.EndpointSlice{read[discoveryv1.EndpointSlice](t, fmt.Sprintf(`
metadata: {name: music-x, namespace: default, labels: {kubernetes.io/service-name: music-canary}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [127.20.0.1], conditions: %s, targetRef: {kind: Pod, name: music-1}}
- {addresses: [127.20.0.2], conditions: %s, targetRef: {kind: Pod, name: music-2}}
`, first, second))}
		var got []string
		for _, e := range endpointsOf(services, slices, pods, held)["music-canary.default"] {
			got = append(got, e.Workload.Pod)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("endpoints with %s and %s: %q, want %q", first, second, got, want)
		}
	}
	f(ending, over, held, "music-1")
	f(ending, ending, held, "music-1 music-2")
	f(ending, ready, held, "music-2")
	f(ending, ending, nil, "")
}

// The canary's Service selects the pods of one revision, with what that uses.
func TestTheSelectorOfOneRevision(t *testing.T) {
	target := read[appsv1.Deployment](t, "spec: {selector: {matchLabels: {app: music}}}")
	for _, c := range []struct {
		w    Workload
		want map[string]string
	}{
		{Workload{Template: "r1"}, map[string]string{"app": "music", LabelRevision: "r1"}},
		{Workload{Template: "r1", Config: "c1"}, map[string]string{"app": "music", LabelRevision: "r1", labelConfig: "c1"}},
	} {
		if diff := cmp.Diff(c.want, ofRevision(target, &c.w)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.w, diff)
		}
	}
	if len(target.Spec.Selector.MatchLabels) != 1 {
		t.Error("the Deployment's own selector was changed")
	}
}

func TestAppAddressPerPort(t *testing.T) {
	p := read[corev1.Pod](t, `
metadata: {annotations: {serin.dev/app-address: "127.0.0.1:20001,9090=127.0.0.1:20002"}}
spec: {containers: [{name: a, ports: [{containerPort: 8080}, {containerPort: 9090}]}]}
`)
	for port, want := range map[uint16]string{8080: "127.0.0.1:20001", 9090: "127.0.0.1:20002", 7070: ""} {
		if got := appAddress(p, port); got != want {
			t.Errorf("appAddress(%d) = %q, want %q", port, got, want)
		}
	}
}

func TestAPodWithoutContainerPortsHasOneApplication(t *testing.T) {
	p := read[corev1.Pod](t, `
metadata: {annotations: {serin.dev/app-address: "127.0.0.1:20001"}}
spec: {containers: [{name: a}]}
`)
	if got := appAddress(p, 8080); got != "127.0.0.1:20001" {
		t.Errorf("appAddress(8080) = %q, want its one address", got)
	}
}

func TestWorkloadOfAPodBehindAReplicaSet(t *testing.T) {
	p := read[corev1.Pod](t, `
metadata:
  name: music-5d4f8-x2x
  namespace: default
  labels: {pod-template-hash: 5d4f8, version: v3}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: music-5d4f8, uid: r1, controller: true}]
spec: {containers: []}
`)
	want := mesh.Workload{Namespace: "default", Name: "music", Version: "v3", Pod: "music-5d4f8-x2x"}
	if got := WorkloadOf(p); got != want {
		t.Errorf("workload = %+v, want %+v", got, want)
	}
}

// A merge patch leaves what it does not name, so what is over is said.
func TestStatusOfACanaryIsReplaced(t *testing.T) {
	before := flaggerv1.CanaryStatus{Phase: "Progressing", CanaryWeight: 10, SessionAffinityCookie: "a=b", LastAppliedSpec: "x"}
	next := flaggerv1.CanaryStatus{Phase: "Succeeded", LastAppliedSpec: "x"}
	got, err := statusFields(before, next)
	want := map[string]any{
		"phase": "Succeeded", "canaryWeight": int64(0), "failedChecks": int64(0), "iterations": int64(0),
		"lastAppliedSpec": "x", "sessionAffinityCookie": nil, "lastTransitionTime": nil,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("fields, %v (-want +got):\n%s", err, diff)
	}
}

func TestEnoughPodsAreEnough(t *testing.T) {
	f := func(suffices, updated, available, all int32, ready bool) {
		t.Helper()
		replicas := int32(5)
		dep := &appsv1.Deployment{}
		dep.Spec.Replicas = &replicas
		dep.Status = appsv1.DeploymentStatus{Replicas: all, UpdatedReplicas: updated, AvailableReplicas: available}
		if w := workloadOf(dep, nil, suffices); w.Ready != ready {
			t.Errorf("%d %% of 5 with %d updated, %d available of %d: ready = %t (%s), want %t", suffices, updated, available, all, w.Ready, w.Message, ready)
		}
	}
	f(100, 5, 5, 5, true)
	f(100, 5, 4, 5, false)
	f(80, 5, 4, 5, true)
	f(80, 5, 3, 5, false)
	f(70, 5, 4, 5, true) // 3.5 pods are 4
	f(70, 5, 3, 5, false)
	f(80, 4, 5, 5, false) // one of the old revision is left
	f(1, 1, 0, 1, false)
}
