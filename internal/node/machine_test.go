package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// TestMain makes the test binary double as the programs that pods run.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		os.Exit(program(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

// program is a small application.
func program(name string, args []string) int {
	switch name {
	case "serve": // says what it was given
		http.HandleFunc("/env/{name}", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, os.Getenv(r.PathValue("name")))
		})
		fmt.Println("listening on", os.Getenv("PORT"))
		fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
	case "crash":
		fmt.Println("about to fail")
		fmt.Fprintln(os.Stderr, "panic: no database")
	}
	return 3
}

// machine is a node under test, with an API.
type machine struct {
	t      *testing.T
	client kubernetes.Interface
	dir    string
	logs   *LogSource
	stop   func()
}

// patience bounds every wait of a test. It is generous: a busy machine is no
// reason to fail.
const patience = 60 * time.Second

func newMachine(t *testing.T, change func(*Config)) *machine {
	t.Helper()
	m := &machine{t: t, client: fakeAPI(), dir: t.TempDir()}
	m.start(change)
	return m
}

// start runs a node until the test ends or m.stop is called.
func (m *machine) start(change func(*Config)) {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m.logs = NewLogSource(filepath.Join(m.dir, "logs"))
	cfg := Config{
		Client: m.client, DataDir: m.dir, Logs: m.logs,
		Logger: slog.New(slog.NewTextHandler(testWriter{m.t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if change != nil {
		change(&cfg)
	}
	n, err := New(ctx, cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	m.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			m.t.Error("Run:", err)
		}
	}
	m.t.Cleanup(m.stop)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// await watches one kind in the namespace default until done holds for all of
// its objects.
func await[T any, L any](m *machine, what string, c interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}, items func(L) []T, done func([]T) bool) []T {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	var last []T
	for {
		w, err := c.Watch(ctx, metav1.ListOptions{})
		if err != nil {
			m.t.Fatal(err)
		}
		for more := true; more; {
			list, err := c.List(ctx, metav1.ListOptions{})
			if err != nil {
				m.t.Fatal(err)
			}
			if last = items(list); done(last) {
				w.Stop()
				return last
			}
			select {
			case _, more = <-w.ResultChan():
			case <-ctx.Done():
				m.t.Fatalf("never saw %s; last: %+v", what, last)
			}
		}
	}
}

func (m *machine) awaitPods(what string, done func([]corev1.Pod) bool) []corev1.Pod {
	m.t.Helper()
	return await(m, what, m.client.CoreV1().Pods("default"), func(l *corev1.PodList) []corev1.Pod { return l.Items }, done)
}

func (m *machine) awaitSlices(what string, done func([]discoveryv1.EndpointSlice) bool) []discoveryv1.EndpointSlice {
	m.t.Helper()
	return await(m, what, m.client.DiscoveryV1().EndpointSlices("default"),
		func(l *discoveryv1.EndpointSliceList) []discoveryv1.EndpointSlice { return l.Items }, done)
}

func (m *machine) awaitDeployment(what string, done func(appsv1.Deployment) bool) {
	m.t.Helper()
	await(m, what, m.client.AppsV1().Deployments("default"), func(l *appsv1.DeploymentList) []appsv1.Deployment { return l.Items },
		func(ds []appsv1.Deployment) bool { return len(ds) == 1 && done(ds[0]) })
}

func (m *machine) awaitEvent(what string, done func(corev1.Event) bool) {
	m.t.Helper()
	await(m, what, m.client.CoreV1().Events("default"), func(l *corev1.EventList) []corev1.Event { return l.Items },
		func(es []corev1.Event) bool {
			for _, e := range es {
				if done(e) {
					return true
				}
			}
			return false
		})
}
