package apiserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func client(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// child is a server in a process of its own, so that it can be killed.
type child struct {
	cmd  *exec.Cmd
	says *bufio.Scanner
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe() // closed when this process ends
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, bufio.NewScanner(stdout)}
	t.Cleanup(func() {
		stdin.Close()
		c.kill()
	})
	if !c.says.Scan() || c.says.Text() != "ready" {
		t.Fatalf("child says %q; want ready", c.says.Text())
	}
	return c
}

// kill is kill -9; it returns when the process is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	_ = c.cmd.Wait()                          // "signal: killed" is what we want
}

func configOf(t *testing.T, dir string) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

// Every write that was answered is there after kill -9, at whatever moment.
func TestAnsweredWritesSurviveKill(t *testing.T) {
	dir := t.TempDir()
	written := map[string]string{} // name → value
	var mu sync.Mutex
	for round, kill := range []int64{1, 20, 150} {
		server := startChild(t, dir)
		maps := client(t, configOf(t, dir)).CoreV1().ConfigMaps("default")
		var answered atomic.Int64
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprintf("r%d-w%d-%d", round, w, i)
					_, err := maps.Create(context.Background(), &corev1.ConfigMap{
						ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"v": name},
					}, metav1.CreateOptions{})
					if err != nil {
						return // the server is gone
					}
					mu.Lock()
					written[name] = name
					mu.Unlock()
					if answered.Add(1) == kill {
						go server.kill()
					}
				}
			})
		}
		writers.Wait()
	}
	startChild(t, dir)
	list, err := client(t, configOf(t, dir)).CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, cm := range list.Items {
		found[cm.Name] = cm.Data["v"]
	}
	for name, v := range written {
		if found[name] != v {
			t.Errorf("%s = %q after kill -9; it was answered as written", name, found[name])
		}
	}
	t.Logf("%d answered writes, %d found", len(written), len(found))
}

func TestOneProcessPerDataDirectory(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, dir)
	before, err := os.ReadFile(filepath.Join(dir, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), Config{DataDir: dir, Listen: "127.0.0.1:0"})
	want := fmt.Sprintf("data directory %s is in use by process %d: stop it first or choose another with --data-dir", dir, c.cmd.Process.Pid)
	if err == nil || err.Error() != want {
		t.Errorf("second start: %v; want %s", err, want)
	}
	after, err := os.ReadFile(filepath.Join(dir, "kubeconfig"))
	if err != nil || string(after) != string(before) {
		t.Errorf("the second start changed the kubeconfig (%v)", err)
	}
	// The lock goes with the process, even when it is killed.
	c.kill()
	start(t, Config{DataDir: dir})
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	_, err = Start(t.Context(), Config{DataDir: dir, Listen: l.Addr().String()})
	want := fmt.Sprintf("API address %s is taken by another program: stop it or choose another address with --api-address", l.Addr())
	if err == nil || err.Error() != want {
		t.Errorf("Start: %v; want %s", err, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "etcd")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a start that cannot listen made a database")
	}
	// Nothing is left locked.
	start(t, Config{DataDir: dir})
}

func TestUnusableDataDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{DataDir: filepath.Join(file, "data"), Listen: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "not a directory; choose another with --data-dir") {
		t.Errorf("Start below a file: %v; want the reason and the flag", err)
	}
}

func TestFullDiskRefusesWritesAndChangesNothing(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	s := start(t, Config{freeBytes: func(string) (uint64, error) { return free.Load(), nil }})
	maps := client(t, s.RESTConfig()).CoreV1().ConfigMaps("default")
	cm, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "before"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	free.Store(3 << 20)
	cm.Data = map[string]string{"changed": "yes"}
	_, err = maps.Update(t.Context(), cm, metav1.UpdateOptions{})
	if err == nil || !strings.Contains(err.Error(), "is full: 3 MiB are free, 48 MiB are needed; nothing was changed") {
		t.Errorf("update on a full disk: %v", err)
	}
	if code := apierrors.APIStatus(nil); errors.As(err, &code) && code.Status().Code != http.StatusInsufficientStorage {
		t.Errorf("code %d; want 507", code.Status().Code)
	}
	if got, err := maps.Get(t.Context(), "before", metav1.GetOptions{}); err != nil || len(got.Data) != 0 {
		t.Errorf("after the refused update: %v, %v", got, err)
	}
	if err := maps.Delete(t.Context(), "before", metav1.DeleteOptions{}); err != nil {
		t.Errorf("deleting makes room, but: %v", err)
	}

	free.Store(1 << 30)
	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "after"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("create with room again: %v", err)
	}
}

func TestFullDiskRefusesStart(t *testing.T) {
	_, err := Start(t.Context(), Config{
		DataDir: t.TempDir(), Listen: "127.0.0.1:0",
		freeBytes: func(string) (uint64, error) { return 0, nil },
	})
	if err == nil || !strings.Contains(err.Error(), "is full: 0 MiB are free") {
		t.Errorf("Start on a full disk: %v", err)
	}
}

// etcd's own size limit is another kind of full.
func TestFullDatabaseSaysSo(t *testing.T) {
	s := start(t, Config{quotaBytes: 8 << 20})
	maps := client(t, s.RESTConfig()).CoreV1().ConfigMaps("default")
	var err error
	var names []string
	for i := 0; err == nil && i < 100; i++ {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("big-", i)}, Data: map[string]string{"v": strings.Repeat("x", 500<<10)}}
		if _, err = maps.Create(t.Context(), cm, metav1.CreateOptions{}); err == nil {
			names = append(names, cm.Name)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "database space exceeded") {
		t.Fatalf("after %d big objects: %v", len(names), err)
	}
	list, err := maps.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var stored []string
	for _, cm := range list.Items {
		stored = append(stored, cm.Name)
	}
	for _, name := range names {
		if !slices.Contains(stored, name) {
			t.Errorf("%s was answered and is not there: %v", name, stored)
		}
	}
	// etcd notices a full database before a write or only while applying it
	// (quotaApplierV3); then that one write is refused and stored all the same.
	if len(stored) > len(names)+1 {
		t.Errorf("stored %v; want %v and at most the one that found the database full", stored, names)
	}
}

func TestRequestsWithoutTokenAreRefused(t *testing.T) {
	s := start(t, Config{})
	anonymous := rest.AnonymousClientConfig(s.RESTConfig())
	if _, err := client(t, anonymous).CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("list without a token: %v; want Unauthorized", err)
	}
	wrong := s.RESTConfig()
	wrong.BearerToken = "guess"
	if _, err := client(t, wrong).CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("list with a wrong token: %v; want Unauthorized", err)
	}
	for _, path := range openPaths {
		if err := client(t, anonymous).Discovery().RESTClient().Get().AbsPath(path).Do(t.Context()).Error(); err != nil {
			t.Errorf("%s without a token: %v", path, err)
		}
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, Config{DataDir: dir})
	for path, want := range map[string]os.FileMode{
		dir: 0o700, s.KubeconfigPath(): 0o600, filepath.Join(dir, "token"): 0o600, filepath.Join(dir, "server.key"): 0o600,
		filepath.Join(dir, "etcd"): 0o700,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o; want %o", filepath.Base(path), got, want)
		}
	}
	config, err := clientcmd.LoadFromFile(s.KubeconfigPath())
	if err != nil {
		t.Fatal(err)
	}
	if ns := config.Contexts[config.CurrentContext].Namespace; ns != "default" {
		t.Errorf("namespace of the current context = %q; want default", ns)
	}
}

func TestALongDataDirectoryNeedsNoLongSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "data")
	s := start(t, Config{DataDir: dir})
	if _, err := client(t, s.RESTConfig()).CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestStopEndsWatchesAndIsQuick(t *testing.T) {
	s := start(t, Config{})
	w, err := client(t, s.RESTConfig()).CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	began := time.Now()
	if err := s.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	t.Logf("stopped in %v", time.Since(began))
	for range w.ResultChan() { // the channel is closed
	}
	if err := s.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done is open after Stop")
	}
}

func TestTheServerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Wait(); err != nil {
		t.Errorf("Wait: %v", err)
	}
}

// BenchmarkStart reports how long a restart takes until everything is served.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	for first := true; b.Loop(); first = false {
		s, err := Start(b.Context(), Config{DataDir: dir, Listen: "127.0.0.1:0"})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if first {
			b.ResetTimer() // the first start writes the definitions
		}
	}
}
