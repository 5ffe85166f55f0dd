package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// serin is one `serin up` in a directory of its own.
type serin struct {
	cmd     *exec.Cmd
	api     dynamic.Interface
	gateway string
}

// start runs the program and returns when it is ready.
func start(b *testing.B, dir string) *serin {
	b.Helper()
	bin := os.Getenv("SERIN_BIN")
	if bin == "" {
		bin = "../bin/serin"
	}
	cmd := exec.Command(bin, "up", "--data-dir", dir, "--api-address", "127.0.0.1:0", "--gateway-address", "127.0.0.1:0", "--xds-address", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatalf("%v: run `make build`", err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Serin is ready") {
	}
	go func() {
		for lines.Scan() {
		}
	}()
	var a struct{ Kubeconfig, Gateway string }
	data, err := os.ReadFile(filepath.Join(dir, "addresses.json"))
	if err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(data, &a); err != nil {
		b.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	config.QPS = -1
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	return &serin{cmd, api, a.Gateway}
}

func (s *serin) stop(b *testing.B) {
	b.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// apply writes one object, given as YAML, and returns when the API has it.
func (s *serin) apply(b *testing.B, resource schema.GroupVersionResource, text string) {
	b.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		b.Fatal(err)
	}
	var o metav1.PartialObjectMetadata
	if err := json.Unmarshal(data, &o); err != nil {
		b.Fatal(err)
	}
	yes := true
	_, err = s.api.Resource(resource).Namespace("default").Patch(context.Background(), o.Name, types.ApplyPatchType, data,
		metav1.PatchOptions{FieldManager: "bench", Force: &yes})
	if err != nil {
		b.Fatal(err)
	}
}

var (
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	services    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	gateways    = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "gateways"}
	routes      = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}
)

// version is a Deployment with a Service of its own.
func (s *serin) version(b *testing.B, v string) {
	b.Helper()
	s.apply(b, services, fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: user-%[1]s}, spec: {selector: {version: %[1]s}, ports: [{name: http, port: 30000}]}}`, v))
	s.apply(b, deployments, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: db-%[1]s}
spec:
  selector: {matchLabels: {version: %[1]s}}
  template:
    metadata: {labels: {version: %[1]s}}
    spec:
      containers:
      - {name: db, image: "serin.dev/demo/db:%[1]s", ports: [{containerPort: 30000}], readinessProbe: {httpGet: {path: /healthz, port: 30000}}}
`, v))
}

// answeredBy asks once and returns the version that answered; "" for none.
func (s *serin) answeredBy() string {
	resp, err := http.Get(s.gateway + "/healthz")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return ""
	}
	return resp.Header.Get("X-App-Version")
}

// From the API's answer to an applied route to the first request that obeys
// it, one request after the other. DESIGN's promise: p99 below 100 ms.
func BenchmarkApplyToEffect(b *testing.B) {
	s := start(b, b.TempDir())
	defer s.stop(b)
	s.apply(b, gateways, `{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: public}, spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}}`)
	s.version(b, "v1")
	s.version(b, "v2")
	route := func(v string) time.Duration {
		before := time.Now()
		s.apply(b, routes, fmt.Sprintf(`{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: user}, spec: {hosts: ["*"], gateways: [public], http: [{route: [{destination: {host: user-%s}}]}]}}`, v))
		for deadline := before.Add(time.Minute); s.answeredBy() != v; {
			if time.Now().After(deadline) {
				b.Fatalf("version %s does not answer", v)
			}
		}
		return time.Since(before)
	}
	route("v1") // the pods are up then
	route("v2")
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		took = append(took, route([]string{"v1", "v2"}[i%2]))
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// Ready time on a directory that was used before, and memory of the process
// when nothing happens: all of it, and what is not shared with the file.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	start(b, dir).stop(b) // the first start installs the definitions
	var total, anon int64
	for b.Loop() {
		s := start(b, dir)
		b.StopTimer()
		settle()
		total += memoryKB(b, s.cmd.Process.Pid, "VmRSS")
		anon += memoryKB(b, s.cmd.Process.Pid, "RssAnon")
		s.stop(b)
		b.StartTimer()
	}
	b.ReportMetric(float64(total)/float64(b.N)/1024, "rss-MB")
	b.ReportMetric(float64(anon)/float64(b.N)/1024, "anon-MB")
}

// settle waits as long as it takes a process to become idle after its start.
func settle() { <-time.After(5 * time.Second) }

func memoryKB(b *testing.B, pid int, field string) int64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skip(err) // not Linux
	}
	for line := range bytes.Lines(data) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == field+":" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no %s in /proc", field)
	return 0
}
