package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/internal/apiserver"
)

// Another Serin stored what this one refuses: what it began can be deleted all
// the same, and gives back what it had.
func TestWhatIsRefusedNowCanStillBeDeleted(t *testing.T) {
	dir := t.TempDir()
	releases := schema.GroupVersionResource{Group: "serin.dev", Version: "v1alpha1", Resource: "releases"}
	experiments := releases.GroupVersion().WithResource("experiments")
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	routes := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}

	during(t, dir, func(a *objects) {
		a.create(deployments, app("music"))
		a.create(deployments, app("books"))
		a.create(schema.GroupVersionResource{Version: "v1", Resource: "services"}, `
apiVersion: v1
kind: Service
metadata: {name: books}
spec: {selector: {app: books}, ports: [{port: 30002}]}`)
		a.create(releases, `
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: music}
spec: {target: {name: music}, service: {port: 30002}, steps: [10, 50]}`)
		a.create(experiments, `
apiVersion: serin.dev/v1alpha1
kind: Experiment
metadata: {name: trial}
spec: {target: {name: books}, service: {port: 30002}, duration: 1h, candidates: [{name: a, share: 10}, {name: b, share: 10}]}`)
		a.until(releases, "music", "has its stable copy", func(o *unstructured.Unstructured) bool { return text(o, "status", "phase") == "Idle" })
		a.until(experiments, "trial", "has its shares", func(o *unstructured.Unstructured) bool {
			return text(o, "status", "phase") == "Running" && strings.Contains(text(o, "status", "reason"), "are compared")
		})
		if got, want := a.names(routes), []string{"books", "music"}; !slices.Equal(got, want) {
			t.Fatalf("there are the routes %v; want %v", got, want)
		}
	})

	permissive, err := apiserver.Start(t.Context(), apiserver.Config{DataDir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, permissive.RESTConfig())
	a.patch(releases, "music", `{"spec": {"steps": [50, 10]}}`)
	a.patch(experiments, "trial", `{"spec": {"candidates": [{"name": "a", "share": 60}, {"name": "c", "share": 60}]}}`)
	if err := permissive.Stop(); err != nil {
		t.Fatal(err)
	}

	during(t, dir, func(a *objects) {
		refused := func(field string) func(o *unstructured.Unstructured) bool {
			return func(o *unstructured.Unstructured) bool { return strings.HasPrefix(text(o, "status", "reason"), field) }
		}
		a.until(releases, "music", "is refused", refused("spec.steps[1]: "))
		a.until(experiments, "trial", "is refused", refused("spec.candidates: "))
		for name, of := range map[string]schema.GroupVersionResource{"music": releases, "trial": experiments} {
			if err := a.in(of).Delete(a.t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			a.until(of, name, "is gone", func(o *unstructured.Unstructured) bool { return o == nil })
		}
		for _, made := range []string{"music-stable", "books-trial-a", "books-trial-b"} {
			a.until(deployments, made, "is gone", func(o *unstructured.Unstructured) bool { return o == nil })
		}
		a.until(deployments, "music", "serves", func(o *unstructured.Unstructured) bool {
			n, _, err := unstructured.NestedInt64(o.Object, "status", "readyReplicas")
			return err == nil && n == 1
		})
		for _, route := range []string{"books", "music"} {
			a.until(routes, route, "is gone", func(o *unstructured.Unstructured) bool { return o == nil })
		}
	})
}

// app is a Deployment of the demo's data base, which calls nobody.
func app(name string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: %[1]s, image: "local/%[1]s:v1", command: [serin, demoapp, db], ports: [{containerPort: 30002}]}]`, name)
}

// during runs the whole loop on a data directory while f does.
func during(t *testing.T, dir string, f func(*objects)) {
	t.Helper()
	const free = "127.0.0.1:0"
	l, err := startLoop(t.Context(), loopConfig{
		dataDir: dir, apiAddress: free, gatewayAddress: free, xdsAddress: free, log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.stop()
	f(open(t, l.server.RESTConfig()))
}

// objects are those of an API in the namespace default.
type objects struct {
	t      *testing.T
	client dynamic.Interface
}

func open(t *testing.T, config *rest.Config) *objects {
	t.Helper()
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &objects{t, client}
}

func (a *objects) in(of schema.GroupVersionResource) dynamic.ResourceInterface {
	return a.client.Resource(of).Namespace(metav1.NamespaceDefault)
}

func (a *objects) create(of schema.GroupVersionResource, object string) {
	a.t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(object), &o.Object); err != nil {
		a.t.Fatal(err)
	}
	if _, err := a.in(of).Create(a.t.Context(), o, metav1.CreateOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

func (a *objects) patch(of schema.GroupVersionResource, name, doc string) {
	a.t.Helper()
	if _, err := a.in(of).Patch(a.t.Context(), name, types.MergePatchType, []byte(doc), metav1.PatchOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

func (a *objects) names(of schema.GroupVersionResource) []string {
	a.t.Helper()
	list, err := a.in(of).List(a.t.Context(), metav1.ListOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	var out []string
	for _, o := range list.Items {
		out = append(out, o.GetName())
	}
	slices.Sort(out)
	return out
}

// until waits for an object to be as it should; it is nil where there is none.
func (a *objects) until(of schema.GroupVersionResource, name, should string, is func(*unstructured.Unstructured) bool) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	options := metav1.ListOptions{FieldSelector: "metadata.name=" + name}
	list, err := a.in(of).List(ctx, options)
	if err != nil {
		a.t.Fatal(err)
	}
	var now *unstructured.Unstructured
	if len(list.Items) > 0 {
		now = &list.Items[0]
	}
	options.ResourceVersion = list.GetResourceVersion()
	events, err := a.in(of).Watch(ctx, options)
	if err != nil {
		a.t.Fatal(err)
	}
	defer events.Stop()
	for !is(now) {
		e, open := <-events.ResultChan()
		if !open {
			data, _ := json.MarshalIndent(now, "", "  ") // to be read by people alone
			a.t.Fatalf("%s %s never %s; it is\n%s", of.Resource, name, should, data)
		}
		now, _ = e.Object.(*unstructured.Unstructured)
		if e.Type == watch.Deleted {
			now = nil
		}
	}
}

func text(o *unstructured.Unstructured, path ...string) string {
	if o == nil {
		return ""
	}
	s, _, _ := unstructured.NestedString(o.Object, path...) // "" where it is something else
	return s
}
