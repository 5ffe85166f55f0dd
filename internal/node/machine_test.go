package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/internal/apiserver"
)

// TestMain makes the test binary double as the programs that tests run.
func TestMain(m *testing.M) {
	mode := ""
	if len(os.Args) > 2 {
		mode = os.Args[1]
	}
	switch mode {
	case "puppet":
		os.Exit(playPuppet(os.Args[2], os.Args[3], os.Args[4:]))
	case "daemonize":
		os.Exit(daemonize(os.Args[2:]))
	case "node":
		os.Exit(runNode(os.Args[2], os.Args[3]))
	}
	apiserver.TuneProcess(slog.New(slog.DiscardHandler))
	code := m.Run()
	if err := stopAPI(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the API:", err)
		code = 1
	}
	os.Exit(code)
}

// runNode runs a node alone in its process, for tests that kill it.
func runNode(kubeconfig, dir string) int {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		panic(err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	n, err := New(ctx, Config{Client: client, DataDir: dir, Logs: NewLogSource(filepath.Join(dir, "logs"))})
	if err != nil {
		panic(err)
	}
	panic(n.Run(ctx))
}

// realAPI is one embedded API server for all tests: to start one per test
// would cost most of their time. Each machine leaves it empty.
var (
	realAPI = sync.OnceValues(func() (*apiserver.Server, error) {
		dir, err := os.MkdirTemp("", "serin-node-test")
		if err != nil {
			return nil, err
		}
		return apiserver.Start(context.Background(), apiserver.Config{DataDir: dir, Listen: "127.0.0.1:0", Logs: &currentLogs})
	})
	currentLogs lateLogs
	apiUsed     atomic.Bool
)

func stopAPI() error {
	if !apiUsed.Load() {
		return nil
	}
	server, err := realAPI()
	if err != nil {
		return err
	}
	return errors.Join(server.Stop(), os.RemoveAll(filepath.Dir(server.KubeconfigPath())))
}

// lateLogs lets the API server outlive the nodes whose logs it serves.
type lateLogs struct{ source atomic.Pointer[LogSource] }

func (l *lateLogs) Open(ctx context.Context, namespace, pod string, opts *corev1.PodLogOptions) (io.ReadCloser, error) {
	return l.source.Load().Open(ctx, namespace, pod, opts)
}

// machine is a node under test, with an API.
type machine struct {
	t          *testing.T
	client     kubernetes.Interface
	kubeconfig string
	dir        string
	stop       func()
}

// patience bounds every wait of a test. It is generous: a busy machine is no
// reason to fail.
const patience = 60 * time.Second

// newMachine is one whose node does not run yet.
func newMachine(t *testing.T) *machine {
	t.Helper()
	apiUsed.Store(true)
	server, err := realAPI()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir(), kubeconfig: server.KubeconfigPath(), stop: func() {}}
	if m.client, err = kubernetes.NewForConfig(server.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.empty)
	return m
}

// empty removes everything from the API.
func (m *machine) empty() {
	now := int64(0)
	del, all := metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}
	ctx := context.Background()
	services, err := m.client.CoreV1().Services("default").List(ctx, all)
	if err != nil {
		m.t.Error(err)
		return
	}
	errs := []error{
		m.client.AppsV1().Deployments("default").DeleteCollection(ctx, del, all),
		m.client.CoreV1().Pods("default").DeleteCollection(ctx, del, all),
		m.client.DiscoveryV1().EndpointSlices("default").DeleteCollection(ctx, del, all),
		m.client.CoreV1().Events("default").DeleteCollection(ctx, del, all),
		m.client.CoreV1().ConfigMaps("default").DeleteCollection(ctx, del, all),
	}
	for _, s := range services.Items {
		errs = append(errs, m.client.CoreV1().Services("default").Delete(ctx, s.Name, del))
	}
	if err := errors.Join(errs...); err != nil {
		m.t.Error("empty the API:", err)
	}
}

// start runs a node until the test ends or m.stop is called.
func (m *machine) start(change func(*Config)) *machine {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cfg := Config{
		Client: m.client, DataDir: m.dir, Logs: NewLogSource(filepath.Join(m.dir, "logs")),
		Logger: slog.New(slog.NewTextHandler(testWriter{m.t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if change != nil {
		change(&cfg)
	}
	currentLogs.source.Store(cfg.Logs)
	n, err := New(ctx, cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Error("Run:", err)
		}
	})
	m.t.Cleanup(m.stop)
	return m
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
				m.t.Fatalf("never saw %s; last:\n%s", what, show(last))
			}
		}
	}
}

// show renders objects without what nobody reads.
func show[T any](all []T) string {
	var out strings.Builder
	for i := range all {
		if o, err := meta.Accessor(&all[i]); err == nil {
			o.SetManagedFields(nil)
		}
		text, err := yaml.Marshal(all[i])
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&out, "---\n%s", text)
	}
	return out.String()
}

func (m *machine) createDeployment(d *appsv1.Deployment) {
	m.t.Helper()
	if _, err := m.client.AppsV1().Deployments("default").Create(m.t.Context(), d, metav1.CreateOptions{}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) changeDeployment(name string, change func(*appsv1.Deployment)) {
	m.t.Helper()
	client := m.client.AppsV1().Deployments("default")
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		d, err := client.Get(m.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(d)
		_, err = client.Update(m.t.Context(), d, metav1.UpdateOptions{})
		return err
	}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) createService(s *corev1.Service) {
	m.t.Helper()
	if _, err := m.client.CoreV1().Services("default").Create(m.t.Context(), s, metav1.CreateOptions{}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) createPod(o *corev1.Pod) {
	m.t.Helper()
	if _, err := m.client.CoreV1().Pods("default").Create(m.t.Context(), o, metav1.CreateOptions{}); err != nil {
		m.t.Fatal(err)
	}
}

// awaitPod waits for a state of the only pod.
func (m *machine) awaitPod(what string, done func(corev1.Pod) bool) corev1.Pod {
	m.t.Helper()
	return m.awaitPods(what, func(ps []corev1.Pod) bool { return len(ps) == 1 && done(ps[0]) })[0]
}

func (m *machine) awaitPods(what string, done func([]corev1.Pod) bool) []corev1.Pod {
	m.t.Helper()
	return await(m, what, m.client.CoreV1().Pods("default"), func(l *corev1.PodList) []corev1.Pod { return l.Items }, done)
}

// watchPods watches what becomes of pods from now on, for as long as a test has
// patience.
func (m *machine) watchPods() watch.Interface {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	m.t.Cleanup(cancel)
	w, err := m.client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	return w
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
