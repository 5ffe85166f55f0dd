package kube

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

// Whatever shares candidates have, the weights say them exactly, the rest is
// stable's, and who has none is in no route.
func TestSharesOfCandidatesAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		n := 1 + r.IntN(8)
		e := &Experiment{Delivery: release(t, "  target: {name: music}\n  service: {port: 80, gateways: [public]}")}
		left, want := rollout.All, map[string]rollout.Share{}
		var shares []rollout.Share
		for i := range n {
			name := "music-trial-" + string(rune('a'+i))
			e.Candidates = append(e.Candidates, Candidate{Object: name})
			share := rollout.Share(r.IntN(int(left)))
			if r.IntN(2) == 0 {
				share -= share % rollout.Percent
			}
			shares = append(shares, share)
			if left -= share; share > 0 {
				want[name] = share
			}
		}
		want["music-stable"] = left
		routes, err := routesFor(e.split(shares), rollout.Traffic{}, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(routes) != 2 {
			t.Fatalf("%d VirtualServices, want one for calls and one for the gateway", len(routes))
		}
		for _, vs := range routes {
			all, got := int32(0), map[string]rollout.Share{}
			for _, to := range vs.Spec.Http[0].Route {
				all += to.Weight
			}
			if all != 100 && all != int32(rollout.All) {
				t.Fatalf("%v: the weights sum to %d", shares, all)
			}
			for _, to := range vs.Spec.Http[0].Route {
				got[to.Destination.Host] = rollout.Share(to.Weight * int32(rollout.All) / all)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%v in %s (-want +got):\n%s", shares, vs.Name, diff)
			}
		}
	}
}

// Without a Release the routes are the experiment's, and say so.
func TestRoutesWithoutAReleaseAreTheExperiments(t *testing.T) {
	x := read[v1alpha1.Experiment](t, "metadata: {name: trial, namespace: shop, uid: u-1}\nspec: {target: {name: music}, service: {port: 80}}")
	d := &Delivery{Release: &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Target: x.Spec.Target, Service: *x.Spec.Service}}, experiment: x}
	d.Names = NamesOf(d.Release)
	d.Names.Namespace, d.Names.StableService = "shop", d.Names.Service
	e := &Experiment{Experiment: x, Delivery: d, Candidates: []Candidate{{Object: "music-trial-a"}}}
	routes, err := routesFor(e.split([]rollout.Share{rollout.Percent / 2}), rollout.Traffic{}, false)
	if err != nil {
		t.Fatal(err)
	}
	vs := routes[0]
	if !d.owns(vs) || vs.OwnerReferences[0].Kind != "Experiment" || vs.OwnerReferences[0].UID != "u-1" {
		t.Errorf("labels %v, owners %+v; want the experiment's", vs.Labels, vs.OwnerReferences)
	}
	if d.owns(&metav1.ObjectMeta{Labels: map[string]string{LabelRelease: "trial"}}) {
		t.Error("a Release of the same name is taken for the experiment")
	}
	if to := vs.Spec.Http[0].Route[0]; to.Destination.Host != "music" || to.Weight != 9950 {
		t.Errorf("stable is %v; want music with 9950", to)
	}
}

func TestACandidateChangesOneContainer(t *testing.T) {
	p := read[corev1.PodTemplateSpec](t, `
spec:
  containers:
  - {name: music, image: music:v1, env: [{name: A, value: a}, {name: B, value: b}]}
  - {name: log, image: log:v1}
`)
	change := &v1alpha1.ContainerChange{Name: "music", Image: "music:v2", Env: []v1alpha1.Variable{{Name: "B", Value: "c"}, {Name: "D", Value: "d"}}}
	if err := changeContainer(p, change); err != nil {
		t.Fatal(err)
	}
	want := read[corev1.PodTemplateSpec](t, `
spec:
  containers:
  - {name: music, image: music:v2, env: [{name: A, value: a}, {name: B, value: c}, {name: D, value: d}]}
  - {name: log, image: log:v1}
`)
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	change.Name = "musik"
	if err := changeContainer(p, change); err == nil || !strings.Contains(err.Error(), `no container "musik": it has music, log`) {
		t.Errorf("error = %v; want one that lists the containers", err)
	}
}

func TestATemplateIsReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		`{"spec": {"containers": [{"name": "a", "imige": "b"}]}}`: `unknown field "imige"`,
		`{"spec": {}}`: "template.spec.containers: at least one is needed",
		`[]`:           "template: ",
	} {
		_, err := CandidateTemplate(&v1alpha1.Candidate{Template: v1alpha1.Raw([]byte(text))})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v; want one with %q", text, err, want)
		}
	}
}

func TestACandidateHasPodsForItsShare(t *testing.T) {
	for _, tt := range []struct {
		spec         v1alpha1.Candidate
		share        rollout.Share
		stable, want int32
	}{
		{v1alpha1.Candidate{}, 10 * rollout.Percent, 10, 1},
		{v1alpha1.Candidate{}, 25 * rollout.Percent, 4, 1},
		{v1alpha1.Candidate{}, 25 * rollout.Percent, 5, 2},
		{v1alpha1.Candidate{}, 50 * rollout.Percent, 4, 2},
		{v1alpha1.Candidate{}, 1, 1, 1},
		{v1alpha1.Candidate{}, rollout.All - 1, 1, 1},
		{v1alpha1.Candidate{}, rollout.All - 1, 7, 7},
		{v1alpha1.Candidate{}, rollout.All - 1, math.MaxInt32, math.MaxInt32 - math.MaxInt32/int32(rollout.All)},
		{v1alpha1.Candidate{}, 10 * rollout.Percent, 0, 1},
		{v1alpha1.Candidate{Replicas: 7}, 10 * rollout.Percent, 9, 7},
	} {
		if got := candidatePods(&tt.spec, tt.share, tt.stable); got != tt.want {
			t.Errorf("%v beside %d pods: %d; want %d", tt.share, tt.stable, got, tt.want)
		}
	}
}
