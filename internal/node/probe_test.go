package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// watchFor runs a prober for a while of fake time. works says when the process
// answers. It returns what was reported, with the time since the start.
func watchFor(t *testing.T, p prober, d time.Duration, works func(since time.Duration) bool) (reports []string, looks int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		p.run(ctx, func(context.Context) error {
			looks++
			if works(time.Since(start)) {
				return nil
			}
			return errors.New("no answer")
		}, func(sure, ok bool, err error) bool {
			reports = append(reports, fmt.Sprintf("%v sure=%v ok=%v", time.Since(start), sure, ok))
			return true
		})
	})
	return reports, looks
}

func TestAProbeCountsUpToItsThresholds(t *testing.T) {
	p := newProber(&corev1.Probe{InitialDelaySeconds: 5, PeriodSeconds: 10, SuccessThreshold: 2, FailureThreshold: 2})
	reports, _ := watchFor(t, p, 50*time.Second, func(since time.Duration) bool { return since < 20*time.Second })
	want := []string{
		"5s sure=false ok=true", "15s sure=true ok=true",
		"25s sure=false ok=false", "35s sure=true ok=false", "45s sure=true ok=false",
	}
	if diff := cmp.Diff(want, reports); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

func TestAnEagerProbeSeesAFastStartAtOnceAndCountsFailuresSlowly(t *testing.T) {
	p := newProber(&corev1.Probe{PeriodSeconds: 10})
	p.eager = true
	reports, looks := watchFor(t, p, 40*time.Second, func(since time.Duration) bool { return since >= 100*time.Millisecond })
	want := []string{"125ms sure=true ok=true", "10.125s sure=true ok=true", "20.125s sure=true ok=true", "30.125s sure=true ok=true"}
	if diff := cmp.Diff(want, reports); diff != "" {
		t.Errorf("reports of a fast start (-want +got):\n%s", diff)
	}
	if looks != 6 {
		t.Errorf("it looked %d times; want 6", looks)
	}
	reports, _ = watchFor(t, p, 45*time.Second, func(time.Duration) bool { return false })
	if len(reports) != 4 || !strings.HasSuffix(reports[2], "sure=true ok=false") || !strings.HasSuffix(reports[1], "sure=false ok=false") {
		t.Errorf("reports of no start: %q; want one per 10s, the third sure", reports)
	}
}

func TestTheZeroProbeHasKubernetesDefaults(t *testing.T) {
	want := prober{period: 10 * time.Second, timeout: time.Second, successes: 1, failures: 3}
	if got := newProber(&corev1.Probe{}); got != want {
		t.Errorf("newProber = %+v; want %+v", got, want)
	}
}

func TestHTTPProbesReachThePrivatePortBehindAContainerPort(t *testing.T) {
	var asked *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r
		code, err := strconv.Atoi(r.URL.Query().Get("code"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
		fmt.Fprint(w, "because")
	}))
	defer server.Close()
	private := server.Listener.Addr().(*net.TCPAddr).Port
	spec := &corev1.Container{Name: "app", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}}
	pm := portMap{private: map[int32]int{80: private}}
	dial := dialHost("127.0.0.1")
	for _, port := range []intstr.IntOrString{intstr.FromString("web"), intstr.FromInt32(80), intstr.FromInt(private), intstr.FromString(strconv.Itoa(private))} {
		a := &corev1.HTTPGetAction{Path: "/ready?code=200", Port: port, HTTPHeaders: []corev1.HTTPHeader{{Name: "host", Value: "shop"}, {Name: "X-A", Value: "b"}}}
		if err := checkHTTP(t.Context(), a, pm, spec, dial); err != nil {
			t.Errorf("port %v: %v", port, err)
		}
		if asked.Host != "shop" || asked.Header.Get("X-A") != "b" || asked.URL.Path != "/ready" {
			t.Errorf("port %v: asked for %s%s with X-A=%q", port, asked.Host, asked.URL, asked.Header.Get("X-A"))
		}
	}
	for code, want := range map[int]string{204: "", 302: "", 404: "HTTP status 404: because", 500: "HTTP status 500: because"} {
		a := &corev1.HTTPGetAction{Path: fmt.Sprintf("/?code=%d", code), Port: intstr.FromString("web")}
		err := checkHTTP(t.Context(), a, pm, spec, dial)
		if got := fmt.Sprint(err); err != nil && got != want || err == nil && want != "" {
			t.Errorf("code %d: error %v; want %q", code, err, want)
		}
	}
	a := &corev1.HTTPGetAction{Port: intstr.FromString("wub")}
	want := `port "wub" is neither a number nor the name of a port of container app`
	if err := checkHTTP(t.Context(), a, pm, spec, dial); err == nil || err.Error() != want {
		t.Errorf("error %v; want %s", err, want)
	}
}

func TestBackOffDoublesAndForgets(t *testing.T) {
	var got []time.Duration
	var d time.Duration
	for range 11 {
		d = nextBackOff(d, time.Second)
		got = append(got, d/time.Second)
	}
	if diff := cmp.Diff([]time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300}, got); diff != "" {
		t.Errorf("seconds (-want +got):\n%s", diff)
	}
	if got := nextBackOff(maxBackOff, healthyRun); got != firstBackOff {
		t.Errorf("after a long run: %v; want %v", got, firstBackOff)
	}
}
