package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/test/parts"
)

// metrics is what a metrics server answers at one check.
type metrics struct {
	success, p99 float64
	none         bool // no values
}

var (
	healthy = metrics{success: 99.5, p99: 120}
	failing = metrics{success: 98.9, p99: 120}
	slow    = metrics{success: 100, p99: 501}
	onEdge  = metrics{success: 99, p99: 500}
	silent  = metrics{none: true}
)

// flaggerStories are checks, and what becomes of a canary with the threshold.
// The last answer is given on and on.
var flaggerStories = []struct {
	name      string
	threshold int
	checks    []metrics
	ends      string
}{
	{"failing", 2, []metrics{failing}, flaggerFailed},
	{"failing-now-and-then", 3, []metrics{failing, healthy, slow, healthy, silent, healthy}, flaggerFailed},
	{"silent", 2, []metrics{silent}, flaggerFailed},
	{"good-enough", 3, []metrics{healthy, failing, onEdge, slow, onEdge, healthy}, flaggerPromoting},
}

// flaggerTestSteps is maxWeight / stepWeight in these stories.
const flaggerTestSteps = 4

// TestFlaggerPolicyIsFlaggers lets the real Flagger judge canaries on the
// embedded API from what a metrics server is told to answer, and holds the
// phases, weights and failed checks against the model that the benchmark uses.
func TestFlaggerPolicyIsFlaggers(t *testing.T) {
	if testing.Short() {
		t.Skip("Flagger looks every ten seconds at best: takes two minutes")
	}
	program := parts.Flagger(t)
	server, err := apiserver.Start(t.Context(), apiserver.Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := &flaggerWorld{
		t: t, core: kubernetes.NewForConfigOrDie(server.RESTConfig()), objects: dynamic.NewForConfigOrDie(server.RESTConfig()),
	}
	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { w.keepReady(ctx) })
	prometheus := httptest.NewServer(newScriptedMetrics())
	defer prometheus.Close()

	var seen sync.WaitGroup
	got := make([][]string, len(flaggerStories))
	for i, s := range flaggerStories {
		w.deploy(s.name)
		w.canary(s.name, s.threshold)
		seen.Go(func() { got[i] = w.follow(ctx, s.name) })
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "flagger.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	flagger := exec.CommandContext(ctx, program, "-kubeconfig", server.KubeconfigPath(), "-mesh-provider", "istio",
		"-metrics-server", prometheus.URL, "-control-loop-interval", "1s", "-port", "0")
	flagger.Stdout, flagger.Stderr = log, log
	if err := flagger.Start(); err != nil {
		t.Fatal(err)
	}
	background.Go(func() {
		// Ends with the test; if before, nothing will ever be seen.
		if err := flagger.Wait(); ctx.Err() == nil {
			t.Errorf("flagger ended: %v", err)
			stop()
		}
	})
	seen.Wait()
	for i, s := range flaggerStories {
		want := modelStory(s.threshold, s.checks)
		if diff := cmp.Diff(want, got[i]); diff != "" {
			t.Errorf("%s: the model (-) and Flagger (+) differ:\n%s", s.name, diff)
		}
		if last := want[len(want)-1]; last != s.ends {
			t.Errorf("%s ends with %s; want %s", s.name, last, s.ends)
		}
	}
	if t.Failed() {
		text, _ := os.ReadFile(log.Name()) // as much as there is
		t.Logf("flagger said:\n%s", text)
	}
}

// modelStory plays the checks through the model.
func modelStory(threshold int, checks []metrics) []string {
	f := flaggerState{phase: flaggerProgressing, steps: flaggerTestSteps, limit: threshold}
	var out []string
	for at := 0; f.phase == flaggerProgressing; {
		ok := true
		if f.weight > 0 && f.failed < f.limit { // else nothing is asked
			m := checks[min(at, len(checks)-1)]
			ok = flaggerPasses(m.success, m.p99, !m.none)
			at++
		}
		f.tick(ok)
		if text := stateText(f.phase, f.weight, f.failed); len(out) == 0 || out[len(out)-1] != text {
			out = append(out, text)
		}
	}
	return out
}

func stateText(phase string, weight, failed int) string {
	if phase != flaggerProgressing {
		return phase
	}
	return fmt.Sprintf("%s at %d, %d failed", phase, weight, failed)
}

// scriptedMetrics is as much of Prometheus' query API as Flagger uses. It
// counts checks by the question for the success rate, which is asked first.
type scriptedMetrics struct {
	mu     sync.Mutex
	checks map[string]int // by story
}

func newScriptedMetrics() *scriptedMetrics { return &scriptedMetrics{checks: map[string]int{}} }

func (p *scriptedMetrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	value := "1" // is anybody there?
	for _, s := range flaggerStories {
		query := r.FormValue("query")
		if !strings.Contains(query, `"`+s.name+`"`) {
			continue
		}
		duration := strings.Contains(query, "histogram_quantile")
		if !duration {
			p.checks[s.name]++
		}
		m := s.checks[min(p.checks[s.name], len(s.checks))-1]
		switch {
		case m.none:
			value = ""
		case duration:
			value = fmt.Sprint(m.p99)
		default:
			value = fmt.Sprint(m.success)
		}
	}
	result := ""
	if value != "" {
		result = fmt.Sprintf(`{"metric":{},"value":[1,%q]}`, value)
	}
	fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, result)
}

// flaggerWorld is an API in which all pods are ready at once.
type flaggerWorld struct {
	t       *testing.T
	core    kubernetes.Interface
	objects dynamic.Interface
}

const flaggerNamespace = "default"

// deploy creates a Deployment of version 1.0.
func (w *flaggerWorld) deploy(name string) {
	ctx, deployments := w.t.Context(), w.core.AppsV1().Deployments(flaggerNamespace)
	labels := map[string]string{"app": name}
	replicas := int32(1)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "example.com/app:1.0"}}},
			},
		},
	}
	if _, err := deployments.Create(ctx, d, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// canary creates a Canary with the builtin checks.
func (w *flaggerWorld) canary(name string, threshold int) {
	text := fmt.Sprintf(`
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: %s}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: %s}
  service: {port: 80}
  analysis:
    interval: 10s
    threshold: %d
    maxWeight: %d
    stepWeight: 10
    metrics:
    - {name: request-success-rate, interval: 1m, thresholdRange: {min: %v}}
    - {name: request-duration, interval: 1m, thresholdRange: {max: %v}}
`, name, name, threshold, 10*flaggerTestSteps, flaggerLeastSuccess, flaggerMostP99)
	c := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &c.Object); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.canaries().Create(w.t.Context(), c, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *flaggerWorld) canaries() dynamic.ResourceInterface {
	kind := schema.GroupVersionResource{Group: "flagger.app", Version: "v1beta1", Resource: "canaries"}
	return w.objects.Resource(kind).Namespace(flaggerNamespace)
}

// keepReady says of every Deployment that its pods are as it asks for.
func (w *flaggerWorld) keepReady(ctx context.Context) {
	deployments := w.core.AppsV1().Deployments(flaggerNamespace)
	watch, err := deployments.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		w.t.Error(err)
		return
	}
	defer watch.Stop()
	for e := range watch.ResultChan() {
		d, ok := e.Object.(*appsv1.Deployment)
		if !ok || d.Status.ObservedGeneration == d.Generation {
			continue
		}
		n := int32(1)
		if d.Spec.Replicas != nil {
			n = *d.Spec.Replicas
		}
		status := fmt.Sprintf(`{"status":{"observedGeneration":%d,"replicas":%d,"updatedReplicas":%d,"readyReplicas":%d,"availableReplicas":%d}}`,
			d.Generation, n, n, n, n)
		_, err := deployments.Patch(ctx, d.Name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
		if err != nil && ctx.Err() == nil {
			w.t.Errorf("status of %s: %v", d.Name, err)
		}
	}
}

// follow releases version 2.0 as soon as Flagger has taken the Deployment over,
// and returns what the Canary's status went through until it was decided.
func (w *flaggerWorld) follow(ctx context.Context, name string) []string {
	watch, err := w.canaries().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		w.t.Error(err)
		return nil
	}
	defer watch.Stop()
	var out []string
	released := false
	for e := range watch.ResultChan() {
		c, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		phase, _, _ := unstructured.NestedString(c.Object, "status", "phase") // absent = none of those below
		weight, _, _ := unstructured.NestedInt64(c.Object, "status", "canaryWeight")
		failed, _, _ := unstructured.NestedInt64(c.Object, "status", "failedChecks")
		switch {
		case phase == "Initialized" && !released:
			released = true
			patch := `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"example.com/app:2.0"}]}}}}`
			_, err := w.core.AppsV1().Deployments(flaggerNamespace).Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
			if err != nil {
				w.t.Error(err)
				return nil
			}
		case phase == flaggerProgressing && weight == 0 && len(out) == 0: // its pods come up
		case phase == flaggerProgressing, phase == flaggerPromoting, phase == flaggerFailed:
			text := stateText(phase, int(weight)/10, int(failed))
			if len(out) == 0 || out[len(out)-1] != text {
				out = append(out, text)
			}
			if phase != flaggerProgressing {
				return out
			}
		}
	}
	return out
}
