package kube

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
)

func scalerFrom(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	out := &unstructured.Unstructured{}
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := out.UnmarshalJSON(data); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return out
}

const ownHPA = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {scaleTargetRef: {kind: Deployment, name: music}, minReplicas: 2, maxReplicas: 6}
`

// The least and the largest number of pods, and for which run.
func TestTheStableCopysAutoscalerNeverAsksForTooFew(t *testing.T) {
	f := func(what, ref, own, floor string, replicas int32, want Scaling, bounds [2]int64, mark string) {
		t.Helper()
		d := release(t, "  target: {name: music}\n  service: {port: 80}\n  autoscaler: "+ref)
		kind := scalerKinds[d.Release.Spec.Autoscaler.Kind]
		d.Stable = Workload{Exists: true, Replicas: replicas}
		d.Scaler = Scaler{Named: true, own: scalerFrom(t, own)}
		if floor != "" {
			d.Scaler.stable = d.Scaler.own.DeepCopy()
			d.Scaler.stable.SetAnnotations(map[string]string{annotationFloor: floor})
		}
		got := stableScaler(d, kind, want)
		spec := got.Object["spec"].(map[string]any)
		if b := [2]int64{spec[kind.least].(int64), spec[kind.most].(int64)}; b != bounds || got.GetAnnotations()[annotationFloor] != mark {
			t.Errorf("%s: %v for %q, want %v for %q", what, b, got.GetAnnotations()[annotationFloor], bounds, mark)
		}
		if scaled(got) != "music-stable" {
			t.Errorf("%s: it scales %s", what, scaled(got))
		}
	}
	const hpa, keda = "{kind: HorizontalPodAutoscaler, name: web}", "{kind: ScaledObject, name: web}"
	const idle = "{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: web}, spec: {scaleTargetRef: {name: music}, minReplicaCount: 0, triggers: []}}"
	f("between runs", hpa, ownHPA, "", 4, Scaling{}, [2]int64{2, 6}, "")
	f("with bounds of its own", "{kind: HorizontalPodAutoscaler, name: web, minReplicas: 3, maxReplicas: 9}", ownHPA, "", 4, Scaling{}, [2]int64{3, 9}, "")
	f("that could go to 0", keda, idle, "", 4, Scaling{}, [2]int64{1, 100}, "")
	f("when a run begins", hpa, ownHPA, "", 4, Scaling{Run: 7}, [2]int64{4, 6}, "7/4")
	f("when another run begins", hpa, ownHPA, "6/5", 3, Scaling{Run: 7}, [2]int64{3, 6}, "7/3")
	f("after more load in the run", hpa, ownHPA, "7/4", 6, Scaling{Run: 7}, [2]int64{4, 6}, "7/4")
	f("after somebody took pods away", hpa, ownHPA, "7/4", 0, Scaling{Run: 7}, [2]int64{4, 6}, "7/4")
	f("when the traffic needs more", hpa, ownHPA, "7/4", 4, Scaling{Run: 7, Stable: 5}, [2]int64{5, 6}, "7/5")
	f("when it needs more than the user foresaw", hpa, ownHPA, "7/4", 4, Scaling{Run: 7, Stable: 8}, [2]int64{8, 8}, "7/8")
	f("with a floor that a hand wrote", hpa, ownHPA, "7/many", 4, Scaling{Run: 7}, [2]int64{4, 6}, "7/4")
	f("when the run is over", hpa, ownHPA, "7/4", 4, Scaling{}, [2]int64{2, 6}, "")
}

// A target's autoscaler that is gone, or another's in the copy's place, changes
// nothing about how few pods serve users.
func TestTheLeastNumberOutlivesTheTargetsAutoscaler(t *testing.T) {
	f := func(what, ref, stable string, want int32) {
		t.Helper()
		d := release(t, "  target: {name: music}\n  service: {port: 80}\n  autoscaler: "+ref)
		var copied *unstructured.Unstructured
		if stable != "" {
			copied = scalerFrom(t, strings.Replace(ownHPA, "{name: web}", stable, 1))
		}
		if got := floor(d.Release, scalerKinds[d.Release.Spec.Autoscaler.Kind], copied); got != want {
			t.Errorf("%s: at least %d pods, want %d", what, got, want)
		}
	}
	const hpa, bounded = "{kind: HorizontalPodAutoscaler, name: web}", "{kind: HorizontalPodAutoscaler, name: web, minReplicas: 3}"
	f("no copy yet", hpa, "", 1)
	f("the copy", hpa, "{name: web-stable, labels: {serin.dev/release: music}}", 2)
	f("another's", hpa, "{name: web-stable, labels: {serin.dev/release: other}}", 1)
	f("a copy that was deleted", bounded, "", 3)
	f("a copy that is behind", bounded, "{name: web-stable, labels: {serin.dev/release: music}}", 3)
}

func TestTriggersMeasureTheStableCopy(t *testing.T) {
	f := func(name, query string, queries map[string]string, want string) {
		t.Helper()
		d := release(t, "  target: {name: music}\n  service: {port: 80}")
		d.Release.Spec.Autoscaler = &v1alpha1.Autoscaler{Queries: queries}
		spec := map[string]any{"triggers": []any{
			map[string]any{"name": name, "metadata": map[string]any{"query": query}},
			map[string]any{"type": "cron"},
		}}
		setQueries(spec, d)
		got := spec["triggers"].([]any)[0].(map[string]any)["metadata"].(map[string]any)["query"]
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("query %s (-want +got):\n%s", query, diff)
		}
	}
	f("", `rate(r{app="music"})`, nil, `rate(r{app="music-stable"})`)
	f("", `rate(r{app="music-canary"})`, nil, `rate(r{app="music-stable"})`)
	f("", `rate(r{app="music-stable"})`, nil, `rate(r{app="music-stable"})`)
	f("a", `rate(music)`, map[string]string{"a": "x"}, "x")
	f("b", `rate(music)`, map[string]string{"a": "x"}, `rate(music)`) // the user said which
	f("", `rate(music)`, map[string]string{"": "x"}, `rate(music)`)
}
