package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"serin.dev/serin/test/story"
)

// TestKubectl tells, in testdata/kubectl, what a user with a stock kubectl sees.
// Each script has a server of its own.
func TestKubectl(t *testing.T) {
	kubectl := kubectlPath(t)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/kubectl",
		UpdateScripts: story.Rewriting(),
		Setup: func(env *testscript.Env) error {
			run := &scriptServer{dir: filepath.Join(env.WorkDir, ".data"), kubectl: kubectl}
			env.Values["server"] = run
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("KUBECONFIG", filepath.Join(run.dir, "kubeconfig"))
			env.Defer(func() { run.stop() })
			return run.start()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"kubectl": runKubectl,
			"restart": func(ts *testscript.TestScript, _ bool, _ []string) {
				run := ts.Value("server").(*scriptServer)
				run.stop()
				ts.Check(run.start())
			},
			// capture NAME ARGS keeps what kubectl prints in a variable.
			"capture": func(ts *testscript.TestScript, _ bool, args []string) {
				runKubectl(ts, false, args[1:])
				ts.Setenv(args[0], ts.ReadFile("stdout"))
			},
			// replace FILE OLD NEW edits a file of the script.
			"replace": func(ts *testscript.TestScript, _ bool, args []string) {
				path := ts.MkAbs(args[0])
				text := strings.ReplaceAll(ts.ReadFile(args[0]), args[1], args[2])
				ts.Check(os.WriteFile(path, []byte(text), 0o644))
			},
		},
	})
}

// scriptServer is the server of one script.
type scriptServer struct {
	dir, kubectl string
	server       *Server
}

func (r *scriptServer) start() error {
	var err error
	r.server, err = Start(context.Background(), Config{
		DataDir: r.dir, Listen: "127.0.0.1:0", Admit: refuseBrokenSplits,
		Subresources: []Subresource{echo},
		Logs:         fakeLogs{"default/web-1/app": "one\ntwo\nthree\n", "default/pair/side": "from the side\n"},
	})
	return err
}

// echo answers what it was asked, but for nobody.
var echo = Subresource{
	Resource: schema.GroupVersionResource{Group: "serin.dev", Version: "v1alpha1", Resource: "releases"}, Name: "echo", ContentType: "text/plain",
	Open: func(_ context.Context, namespace, name string, query url.Values) (io.ReadCloser, error) {
		switch name {
		case "nobody":
			return nil, fmt.Errorf("%s says nothing: %w", name, fs.ErrNotExist)
		case "wrong":
			return nil, apierrors.NewBadRequest("say it otherwise")
		}
		return io.NopCloser(strings.NewReader(namespace + "/" + name + " " + query.Get("word") + "\n")), nil
	},
}

func (r *scriptServer) stop() {
	if r.server != nil {
		_ = r.server.Stop() // what a script is about has been checked by then
		r.server = nil
	}
}

// runKubectl runs the stock kubectl; what it prints can be compared with cmp.
func runKubectl(ts *testscript.TestScript, negate bool, args []string) {
	err := ts.Exec(ts.Value("server").(*scriptServer).kubectl, args...)
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		ts.Fatalf("%v", err)
	case err == nil && negate:
		ts.Fatalf("unexpected success")
	case err != nil && !negate:
		ts.Fatalf("%v", err)
	}
}

// refuseBrokenSplits stands in for the validation of a dialect.
func refuseBrokenSplits(_ context.Context, req Request) ([]string, error) {
	obj, ok := req.Object.(*unstructured.Unstructured)
	if !ok || req.Resource.Resource != "virtualservices" {
		return nil, nil
	}
	if obj.GetAnnotations()["test/weights"] == "90" {
		return nil, errors.New("spec.http[0].route: weights sum to 90: they must sum to 100")
	}
	if obj.GetAnnotations()["test/fault"] != "" {
		return []string{"spec.http[0].fault: not supported, ignored"}, nil
	}
	return nil, nil
}
