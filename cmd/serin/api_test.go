package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/apiserver"
	tests "serin.dev/serin/test/story"
)

// TestAgainstTheAPI runs the commands against a real API in this process. No
// controller runs: the stories write statuses themselves.
func TestAgainstTheAPI(t *testing.T) {
	server, err := apiserver.Start(t.Context(), apiserver.Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := &world{config: server.RESTConfig(), kubeconfig: server.KubeconfigPath()}
	if w.client, err = newReleaseClient(w.config); err != nil {
		t.Fatal(err)
	}
	t.Run("Scripts", w.testScripts)
	t.Run("WatchTellsARunAsLines", w.testWatchLines)
	t.Run("WatchPrintsObjects", w.testWatchJSON)
	t.Run("WatchExitsByOutcome", w.testWatchExitCodes)
	t.Run("WatchDrawsInATerminal", w.testWatchTerminal)
	t.Run("ListAndGetFitTheTerminal", w.testPagesInATerminal)
	t.Run("CommandsWaitForTheirEffect", w.testCommandsWait)
}

// world is an API with what the stories need to act on it.
type world struct {
	config     *rest.Config
	kubeconfig string
	client     *releaseClient
}

// testScripts plays the stories of testdata/api, each in a namespace of its
// own.
func (w *world) testScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/api",
		UpdateScripts:       tests.Rewriting(),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			name := filepath.Base(env.WorkDir)[len("script-"):]
			kubeconfig := filepath.Join(env.WorkDir, ".kubeconfig")
			if err := w.namespace(context.Background(), name, kubeconfig); err != nil {
				return err
			}
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("KUBECONFIG", kubeconfig)
			env.Setenv("NS", name)
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// status NAME FILE replaces a Release's status.
			"status": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 2 {
					ts.Fatalf("usage: status NAME FILE")
				}
				ts.Check(w.setStatus(context.Background(), ts.Getenv("NS"), args[0], ts.ReadFile(args[1])))
			},
		},
	})
}

// namespace makes a namespace and a kubeconfig that works in it.
func (w *world) namespace(ctx context.Context, name, kubeconfig string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := w.client.core.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return err
	}
	config, err := clientcmd.LoadFromFile(w.kubeconfig)
	if err != nil {
		return err
	}
	config.Contexts[config.CurrentContext].Namespace = name
	return clientcmd.WriteToFile(*config, kubeconfig)
}

// setStatus replaces the status of a Release, given as YAML.
func (w *world) setStatus(ctx context.Context, namespace, name, status string) error {
	var fields map[string]any
	if err := yaml.UnmarshalStrict([]byte(status), &fields); err != nil {
		return err
	}
	// A JSON patch, because a merge would keep what is not mentioned.
	doc, err := json.Marshal([]any{map[string]any{"op": "add", "path": "/status", "value": fields}})
	if err != nil {
		return err
	}
	return w.client.rest.Patch(types.JSONPatchType).Namespace(namespace).Resource("releases").Name(name).
		SubResource("status").Body(doc).Do(ctx).Error()
}

// enter makes a namespace with the Release "music" and its Deployment at
// image version v, and has the commands of this test work there. The test must
// not be parallel.
func (w *world) enter(t *testing.T, namespace, v string) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := w.namespace(t.Context(), namespace, kubeconfig); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", kubeconfig)
	objects := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(objects, []byte(musicObjects(v)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errOut := serin(t, "apply", "-f", objects); code != 0 {
		t.Fatalf("apply: exit code %d\n%s%s", code, out, errOut)
	}
}

func musicObjects(version string) string {
	return `
apiVersion: apps/v1
kind: Deployment
metadata: {name: music}
spec:
  selector: {matchLabels: {app: music}}
  template:
    metadata: {labels: {app: music}}
    spec: {containers: [{name: music, image: "serin.dev/demo/music:` + version + `"}]}
---
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: music}
spec:
  target: {name: music}
  service: {port: 30001}
  steps: [10, 50]
`
}

// revisionNow is the revision of the Deployment music, which the API has
// given its defaults.
func (w *world) revisionNow(t *testing.T, namespace string) string {
	t.Helper()
	r := &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace},
		Spec:       v1alpha1.ReleaseSpec{Target: v1alpha1.Target{Name: "music"}},
	}
	revision, err := w.client.targetRevision(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}
