package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/kubectl/pkg/util/podutils"

	"serin.dev/serin/internal/kube"
)

// deployment runs a command in pods labelled app=name.
func deployment(name string, replicas int32, command []string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name:    name,
					Image:   "example.org/" + name + ":v1",
					Command: command,
					Ports:   []corev1.ContainerPort{{Name: "http", ContainerPort: 9080}},
				}}},
			},
		},
	}
}

// barePod is a pod without a Deployment, whose command needs no port.
func barePod(policy corev1.RestartPolicy, command []string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "task", Namespace: "default"},
		Spec: corev1.PodSpec{
			RestartPolicy: policy,
			Containers:    []corev1.Container{{Name: "task", Image: "example.org/task:v1", Command: command}},
		},
	}
}

func service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func isReady(o corev1.Pod) bool { return podutils.IsPodReady(&o) }

func app(o corev1.Pod) corev1.ContainerStatus {
	if len(o.Status.ContainerStatuses) == 0 {
		return corev1.ContainerStatus{}
	}
	return o.Status.ContainerStatuses[0]
}

func waitingFor(o corev1.Pod) string {
	if w := app(o).State.Waiting; w != nil {
		return w.Reason
	}
	return ""
}

func TestADeploymentBecomesReadyPodsBehindItsService(t *testing.T) {
	m, th := newMachine(t).start(nil), newTheatre(t)
	m.createService(service("music"))
	m.createDeployment(deployment("music", 2, th.command("music")))
	first, second := th.next("music"), th.next("music")
	pods := m.awaitPods("two pods", func(ps []corev1.Pod) bool {
		return len(ps) == 2 && ps[0].Status.PodIP != "" && ps[1].Status.PodIP != ""
	})
	for _, o := range pods {
		if isReady(o) {
			t.Errorf("pod %s is ready though it does not listen", o.Name)
		}
	}
	first.do("serve 127.0.0.1")
	second.do("serve %s", second.Env["POD_IP"])
	m.awaitDeployment("two available replicas", func(d appsv1.Deployment) bool { return d.Status.AvailableReplicas == 2 })
	ss := m.awaitSlices("two ready endpoints", func(ss []discoveryv1.EndpointSlice) bool {
		return len(ss) == 1 && len(ss[0].Endpoints) == 2 && *ss[0].Endpoints[0].Conditions.Ready && *ss[0].Endpoints[1].Conditions.Ready
	})
	if got := *ss[0].Ports[0].Port; got != 9080 {
		t.Errorf("port of the slice = %d; want 9080, the containerPort", got)
	}
	pods = m.awaitPods("two ready pods", func(ps []corev1.Pod) bool { return len(ps) == 2 && isReady(ps[0]) && isReady(ps[1]) })
	if pods[0].Status.PodIP == pods[1].Status.PodIP {
		t.Errorf("both pods have the address %s", pods[0].Status.PodIP)
	}
	d, err := m.client.AppsV1().Deployments("default").Get(t.Context(), "music", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range pods {
		if got := get(t, "http://"+o.Annotations[kube.AnnotationAppAddress]); got != o.Name {
			t.Errorf("%s answers for %s", o.Name, got)
		}
		if got, want := o.Annotations[kube.AnnotationOutbound], o.Status.PodIP+":15001"; got != want {
			t.Errorf("outbound = %s; want %s", got, want)
		}
		if got, want := o.Labels[kube.LabelRevision], kube.Revision(&d.Spec.Template); got != want {
			t.Errorf("revision = %q; want %q", got, want)
		}
	}
	s, err := m.client.CoreV1().Services("default").Get(t.Context(), "music", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if ip := net.ParseIP(s.Spec.ClusterIP); !ip.IsLoopback() {
		t.Errorf("cluster IP = %q; want one of this machine", s.Spec.ClusterIP)
	}
}

// crowd is a Deployment of so many replicas that to make them all takes long.
// Its pods cost no process: nothing can run them.
func crowd() *appsv1.Deployment { return deployment("crowd", 500, nil) }

// madeBefore reads a watch of pods until the first one of a Deployment is made,
// and counts those of others that were made before it.
func madeBefore(t *testing.T, made watch.Interface, name string) int {
	t.Helper()
	others := 0
	for e := range made.ResultChan() {
		o, ok := e.Object.(*corev1.Pod)
		switch {
		case !ok || e.Type != watch.Added:
		case o.Labels["app"] == name:
			return others
		default:
			others++
		}
	}
	t.Fatalf("no pod of %s was made", name)
	return 0
}

func TestALargeDeploymentKeepsNoOtherFromItsPods(t *testing.T) {
	m := newMachine(t).start(nil)
	made := m.watchPods()
	m.createDeployment(crowd())
	madeBefore(t, made, "crowd")
	m.createDeployment(deployment("music", 3, nil))
	others := 0
	for range 3 {
		others += madeBefore(t, made, "music")
	}
	if others > 10*burst {
		t.Errorf("%d pods of the large Deployment were made before three of another; want it to get its turn early", others)
	}
}

func TestADeletedDeploymentGetsNoMorePods(t *testing.T) {
	m := newMachine(t).start(nil)
	made := m.watchPods()
	m.createDeployment(crowd())
	madeBefore(t, made, "crowd")
	if err := m.client.AppsV1().Deployments("default").Delete(t.Context(), "crowd", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.createDeployment(deployment("music", 1, nil))
	if got := madeBefore(t, made, "music"); got > 10*burst {
		t.Errorf("%d more pods were made while their Deployment was deleted; want those under way alone", got)
	}
	// Whatever was under way at the deletion is over.
	m.createDeployment(deployment("later", 1, nil))
	if got := madeBefore(t, made, "later"); got != 0 {
		t.Errorf("%d pods were made after their Deployment was deleted", got)
	}
}

// A small proxy: it sends to the ready endpoints of a service and knows which
// requests are under way, as the real one does.
type testProxy struct {
	mu      sync.Mutex
	ready   map[string]bool // by pod IP
	active  map[string]int
	changed *sync.Cond
	next    int
}

func newTestProxy(m *machine) *testProxy {
	p := &testProxy{ready: map[string]bool{}, active: map[string]int{}}
	p.changed = sync.NewCond(&p.mu)
	w, err := m.client.DiscoveryV1().EndpointSlices("default").Watch(m.t.Context(), metav1.ListOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	go func() {
		for e := range w.ResultChan() {
			s, ok := e.Object.(*discoveryv1.EndpointSlice)
			if !ok {
				continue
			}
			p.mu.Lock()
			clear(p.ready)
			for _, e := range s.Endpoints {
				if *e.Conditions.Ready {
					p.ready[e.Addresses[0]] = true
				}
			}
			p.changed.Broadcast()
			p.mu.Unlock()
		}
	}()
	return p
}

// drain waits until a pod gets no more requests and has answered all.
func (p *testProxy) drain(_ context.Context, _, _, podIP string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.ready[podIP] || p.active[podIP] > 0 {
		p.changed.Wait()
	}
}

// send does one request on the endpoint whose turn it is. address is where the
// pod of an IP answers.
func (p *testProxy) send(path string, address func(podIP string) string) (string, error) {
	p.mu.Lock()
	var ips []string
	for len(p.ready) == 0 {
		p.changed.Wait()
	}
	for ip := range p.ready {
		ips = append(ips, ip)
	}
	ip := ips[p.next%len(ips)]
	p.next++
	p.active[ip]++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.active[ip]--
		p.changed.Broadcast()
		p.mu.Unlock()
	}()
	resp, err := http.Get("http://" + address(ip) + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestARollingUpdateFailsNoRequest(t *testing.T) {
	m, th := newMachine(t), newTheatre(t)
	proxy := newTestProxy(m)
	m.start(func(c *Config) { c.Drain = proxy.drain })
	m.createService(service("music"))
	d := deployment("music", 3, th.command("music"))
	m.createDeployment(d)
	for range 3 {
		th.next("music").do("serve 127.0.0.1")
	}
	m.awaitDeployment("three available replicas", func(d appsv1.Deployment) bool { return d.Status.AvailableReplicas == 3 })

	var addresses sync.Map // app address by pod IP
	address := func(podIP string) string {
		if a, ok := addresses.Load(podIP); ok {
			return a.(string)
		}
		list, err := m.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err.Error()
		}
		for _, o := range list.Items {
			if a := o.Annotations[kube.AnnotationAppAddress]; a != "" {
				addresses.Store(o.Status.PodIP, a)
			}
		}
		a, _ := addresses.Load(podIP)
		return fmt.Sprint(a)
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				body, err := proxy.send("/", address)
				if err != nil {
					t.Error("request failed:", err)
					return
				}
				mu.Lock()
				answers[body]++
				mu.Unlock()
			}
		})
	}
	m.changeDeployment("music", func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Command = th.command("music2")
	})
	for range 3 {
		th.next("music2").do("serve 127.0.0.1")
	}
	m.awaitDeployment("a complete rollout", func(d appsv1.Deployment) bool {
		s := d.Status
		return s.ObservedGeneration == d.Generation && s.UpdatedReplicas == 3 && s.Replicas == 3 && s.AvailableReplicas == 3
	})
	pods := m.awaitPods("no old pods", func(ps []corev1.Pod) bool { return len(ps) == 3 })
	close(stop)
	load.Wait()
	if len(answers) < 6 {
		t.Errorf("%d pods answered (%v); want all six", len(answers), answers)
	}
	for _, o := range pods {
		if answers[o.Name] == 0 {
			t.Errorf("pod %s got no request", o.Name)
		}
	}
}

func TestAPodEndsOnlyWhenItsRequestsAreAnswered(t *testing.T) {
	m, th := newMachine(t), newTheatre(t)
	proxy := newTestProxy(m)
	m.start(func(c *Config) { c.Drain = proxy.drain })
	m.createService(service("music"))
	m.createDeployment(deployment("music", 1, th.command("music")))
	p := th.next("music")
	p.do("serve 127.0.0.1")
	o := m.awaitPod("a ready pod", isReady)
	answered := make(chan error, 1)
	go func() {
		_, err := proxy.send("/hold", func(string) string { return o.Annotations[kube.AnnotationAppAddress] })
		answered <- err
	}()
	p.expect("held")
	if err := m.client.CoreV1().Pods("default").Delete(t.Context(), o.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.awaitSlices("the pod leaving, unready and serving", func(ss []discoveryv1.EndpointSlice) bool {
		for _, e := range ss[0].Endpoints {
			if c := e.Conditions; e.TargetRef.Name == o.Name && *c.Terminating && *c.Serving && !*c.Ready {
				return true
			}
		}
		return false
	})
	th.next("music") // its successor runs already
	p.do("release")  // had it got SIGTERM, it would say so instead
	if err := <-answered; err != nil {
		t.Error("the request under way failed:", err)
	}
	p.expect("SIGTERM")
}

func TestACrashIsToldAndTheContainerComesBack(t *testing.T) {
	m, th := newMachine(t).start(nil), newTheatre(t)
	m.createDeployment(deployment("music", 1, th.command("music")))
	p := th.next("music")
	p.do("serve 127.0.0.1")
	m.awaitPod("a ready pod", isReady)
	p.do("say loading songs")
	p.do("cry panic: no database")
	p.exit(3)
	o := m.awaitPod("a crash loop", func(o corev1.Pod) bool { return waitingFor(o) == "CrashLoopBackOff" && !isReady(o) })
	last := app(o).LastTerminationState.Terminated
	if last == nil || last.ExitCode != 3 || last.Reason != "Error" || !strings.Contains(last.Message, "panic: no database") || !strings.Contains(last.Message, "loading songs") {
		t.Errorf("last state = %+v; want code 3 and the output", last)
	}
	m.awaitPod("no address", func(o corev1.Pod) bool { return o.Annotations[kube.AnnotationAppAddress] == "" })
	m.awaitEvent("the crash with its output", func(e corev1.Event) bool {
		return e.Reason == "Crashed" && strings.Contains(e.Message, "exited with code 3") && strings.Contains(e.Message, "panic: no database")
	})
	p = th.next("music")
	p.do("serve 127.0.0.1")
	o = m.awaitPod("a ready pod again", isReady)
	if got := app(o).RestartCount; got != 1 {
		t.Errorf("restartCount = %d; want 1", got)
	}
	for previous, want := range map[bool][]string{true: {"loading songs", "panic: no database"}, false: {""}} {
		r, err := m.client.CoreV1().Pods("default").GetLogs(o.Name, &corev1.PodLogOptions{Previous: previous}).Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(got)), "\n")
		slices.Sort(lines) // the order of two streams is anybody's guess
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("logs with previous=%v (-want +got):\n%s", previous, diff)
		}
		r.Close()
	}
}

func TestWhatCannotStartSaysWhatToChange(t *testing.T) {
	grpc := barePod("Always", []string{"true"})
	grpc.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 1}}}
	dir := barePod("Always", []string{"true"})
	dir.Spec.Containers[0].WorkingDir = "/no/such/dir"
	config := barePod("Always", []string{"true"})
	config.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
	for _, c := range []struct {
		pod             *corev1.Pod
		reason, message string
	}{
		{barePod("Always", nil), "NoCommand", `image "example.org/task:v1" is not pulled, and no program is built in for it: set command in the container`},
		{barePod("Always", []string{"no-such-command"}), "CommandNotFound", "no-such-command is in no directory of PATH=" + os.Getenv("PATH")},
		{barePod("Always", []string{"/no/such/command"}), "CommandNotFound", "/no/such/command is not an executable file on this machine"},
		{grpc, "UnsupportedProbe", "readinessProbe: grpc is not supported: use httpGet, tcpSocket or exec"},
		{dir, "StartError", "workingDir /no/such/dir does not exist"},
		{config, "CreateContainerConfigError", `configmaps "settings" not found`},
	} {
		t.Run(c.reason, func(t *testing.T) {
			m := newMachine(t).start(nil)
			m.createPod(c.pod)
			o := m.awaitPod(c.reason, func(o corev1.Pod) bool { return waitingFor(o) == c.reason })
			if got := app(o).State.Waiting.Message; !strings.Contains(got, c.message) {
				t.Errorf("message = %q; want %q in it", got, c.message)
			}
			if o.Status.Phase != corev1.PodPending || app(o).RestartCount != 0 {
				t.Errorf("phase %s with %d restarts; want Pending with none", o.Status.Phase, app(o).RestartCount)
			}
			m.awaitEvent("an event", func(e corev1.Event) bool { return e.Reason == c.reason && strings.Contains(e.Message, c.message) })
		})
	}
}

func TestAPodThatEndsFollowsItsRestartPolicy(t *testing.T) {
	for _, c := range []struct {
		policy corev1.RestartPolicy
		code   int
		phase  corev1.PodPhase // "" : it runs again
	}{
		{corev1.RestartPolicyNever, 0, corev1.PodSucceeded},
		{corev1.RestartPolicyNever, 2, corev1.PodFailed},
		{corev1.RestartPolicyOnFailure, 0, corev1.PodSucceeded},
		{corev1.RestartPolicyOnFailure, 2, ""},
		{corev1.RestartPolicyAlways, 0, ""},
	} {
		t.Run(fmt.Sprintf("%s after code %d", c.policy, c.code), func(t *testing.T) {
			m, th := newMachine(t).start(nil), newTheatre(t)
			m.createPod(barePod(c.policy, th.command("task")))
			th.next("task").exit(c.code)
			if c.phase == "" {
				th.next("task")
				m.awaitPod("a restarted container", func(o corev1.Pod) bool { return app(o).RestartCount == 1 && o.Status.Phase == corev1.PodRunning })
				return
			}
			m.awaitPod(string(c.phase), func(o corev1.Pod) bool { return o.Status.Phase == c.phase })
		})
	}
}

func TestInitContainersRunInOrderBeforeTheOthers(t *testing.T) {
	m, th := newMachine(t).start(nil), newTheatre(t)
	o := barePod("Never", th.command("task"))
	always := corev1.ContainerRestartPolicyAlways
	o.Spec.InitContainers = []corev1.Container{
		{Name: "one", Image: "x", Command: th.command("one")},
		{Name: "helper", Image: "x", Command: th.command("helper"), RestartPolicy: &always},
		{Name: "two", Image: "x", Command: th.command("two")},
	}
	m.createPod(o)
	one := th.next("one")
	m.awaitPod("the first init container alone", func(o corev1.Pod) bool {
		return len(o.Status.InitContainerStatuses) == 3 && o.Status.InitContainerStatuses[0].State.Running != nil &&
			o.Status.InitContainerStatuses[2].State.Waiting != nil && app(o).State.Waiting != nil && o.Status.Phase == corev1.PodPending
	})
	one.exit(0)
	helper := th.next("helper")
	th.next("two").exit(0)
	th.next("task").exit(0)
	helper.expect("SIGTERM") // it ends with the last container
	m.awaitPod("success", func(o corev1.Pod) bool { return o.Status.Phase == corev1.PodSucceeded })
}

func TestAnUnhealthyContainerIsRestartedAndAnUnreadyOneIsNot(t *testing.T) {
	m, th := newMachine(t).start(nil), newTheatre(t)
	m.createService(service("music"))
	d := deployment("music", 1, th.command("music"))
	probe := func(path string) *corev1.Probe {
		return &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 5, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http")},
		}}
	}
	d.Spec.Template.Spec.Containers[0].ReadinessProbe = probe("/")
	m.createDeployment(d)
	p := th.next("music")
	p.do("serve 127.0.0.1")
	m.awaitPod("a ready pod", isReady)
	p.do("sick")
	m.awaitPod("an unready pod", func(o corev1.Pod) bool { return !isReady(o) })
	m.awaitSlices("no ready endpoint", func(ss []discoveryv1.EndpointSlice) bool {
		return len(ss) == 1 && !*ss[0].Endpoints[0].Conditions.Ready
	})
	m.awaitEvent("why", func(e corev1.Event) bool {
		return e.Reason == "Unhealthy" && strings.HasPrefix(e.Message, "Readiness probe failed: container music: HTTP status 503")
	})
	p.do("well")
	o := m.awaitPod("a ready pod again", isReady)
	if got := app(o).RestartCount; got != 0 {
		t.Errorf("restartCount = %d; readiness must not restart", got)
	}

	m.changeDeployment("music", func(d *appsv1.Deployment) {
		c := &d.Spec.Template.Spec.Containers[0]
		c.Command, c.ReadinessProbe, c.LivenessProbe = th.command("music2"), nil, probe("/")
		c.StartupProbe = probe("/") // on a busy machine it takes its time
		c.StartupProbe.FailureThreshold = 60
	})
	p2 := th.next("music2")
	p2.do("serve 127.0.0.1")
	p.expect("SIGTERM")
	p2.do("sick")
	p2.expect("SIGTERM")
	th.next("music2").do("serve 127.0.0.1")
	m.awaitPod("a restarted pod", func(o corev1.Pod) bool { return isReady(o) && app(o).RestartCount == 1 })
}

func TestExecProbesRunInTheContainersEnvironment(t *testing.T) {
	m, th := newMachine(t).start(nil), newTheatre(t)
	o := barePod("Always", th.command("task"))
	flag := m.dir + "/flag"
	o.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "FLAG", Value: flag}}
	o.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
		Exec: &corev1.ExecAction{Command: []string{"sh", "-c", `test -e "$FLAG" || { echo no flag; exit 7; }`}},
	}}
	m.createPod(o)
	th.next("task")
	m.awaitEvent("the failure", func(e corev1.Event) bool {
		return e.Reason == "Unhealthy" && strings.Contains(e.Message, "sh exited with code 7: no flag")
	})
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.awaitPod("a ready pod", isReady)
}

func TestAPodThatIsDeletedGetsItsGracePeriod(t *testing.T) {
	m, th := newMachine(t).start(nil), newTheatre(t)
	o := barePod("Always", th.command("task"))
	grace := int64(1)
	o.Spec.TerminationGracePeriodSeconds = &grace
	m.createPod(o)
	p := th.next("task")
	p.do("stubborn")
	p.do("detach daemon")
	daemon := th.next("daemon")
	if err := m.client.CoreV1().Pods("default").Delete(t.Context(), "task", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.awaitPod("a pod that ends", func(o corev1.Pod) bool { return o.DeletionTimestamp != nil })
	p.expect("SIGTERM")
	p.expectGone()
	daemon.expectGone() // with the container, though it had left its group
	m.awaitPods("no pod", func(ps []corev1.Pod) bool { return len(ps) == 0 })
}

func TestAProcessThatFindsItsPortTakenGetsAnother(t *testing.T) {
	m, th := newMachine(t).start(nil), newTheatre(t)
	m.createDeployment(deployment("music", 1, th.command("music")))
	p := th.next("music")
	port := p.Env["PORT"]
	if n, err := strconv.Atoi(port); err != nil || n < firstPort || n > lastPort {
		t.Errorf("PORT = %s; want one from %d to %d", port, firstPort, lastPort)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p.exit(1)
	p = th.next("music")
	if p.Env["PORT"] == port {
		t.Errorf("PORT is %s again, which is taken", port)
	}
	p.do("serve 127.0.0.1")
	m.awaitPod("a ready pod", isReady)
}

func TestARestartedNodeRunsTheSamePodsAgain(t *testing.T) {
	m, th := newMachine(t).start(nil), newTheatre(t)
	m.createService(service("music"))
	m.createDeployment(deployment("music", 1, th.command("music")))
	p := th.next("music")
	p.do("serve 127.0.0.1")
	before := m.awaitPod("a ready pod", isReady)
	m.awaitSlices("a ready endpoint", func(ss []discoveryv1.EndpointSlice) bool { return len(ss) == 1 && *ss[0].Endpoints[0].Conditions.Ready })
	m.stop()
	p.expect("SIGTERM")
	p.expectGone()

	// From New on, nothing says that the pod is ready.
	n, err := New(t.Context(), Config{Client: m.client, DataDir: m.dir, Logs: NewLogSource(t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	o := m.awaitPod("a pod", func(corev1.Pod) bool { return true })
	if isReady(o) {
		t.Error("the pod is ready before its process runs")
	}
	s := m.awaitSlices("a slice", func([]discoveryv1.EndpointSlice) bool { return true })
	if *s[0].Endpoints[0].Conditions.Ready {
		t.Error("the slice routes to the pod before its process runs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Run(ctx); err != nil {
		t.Fatal(err)
	}

	m.start(nil)
	p = th.next("music")
	p.do("serve 127.0.0.1")
	after := m.awaitPod("a ready pod", isReady)
	if after.UID != before.UID || after.Status.PodIP != before.Status.PodIP {
		t.Errorf("pod %s at %s became %s at %s", before.Name, before.Status.PodIP, after.Name, after.Status.PodIP)
	}
	if got := app(after).RestartCount; got < 1 {
		t.Errorf("restartCount = %d; want at least 1", got)
	}
	if last := app(after).LastTerminationState.Terminated; last == nil || last.Reason != "ContainerStatusUnknown" {
		t.Errorf("last state = %+v; want ContainerStatusUnknown", last)
	}
}

func TestNoProcessOutlivesAKilledNode(t *testing.T) {
	m, th := newMachine(t), newTheatre(t)
	cmd := exec.Command(os.Args[0], "node", m.kubeconfig, m.dir)
	cmd.Stderr = testWriter{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	m.createDeployment(deployment("music", 1, th.command("music")))
	p := th.next("music")
	p.do("serve 127.0.0.1")
	p.do("detach child")
	child := th.next("child")
	p.do("detach daemon")
	daemon := th.next("daemon")
	m.awaitPod("a ready pod", isReady)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.expectGone()
	child.expectGone()
	daemon.expectGone()

	// A new node finds a pod that calls itself ready, and knows better.
	o := m.awaitPod("the pod", func(corev1.Pod) bool { return true })
	if !isReady(o) {
		t.Fatal("the killed node had time to say that the pod is not ready: this test proves nothing")
	}
	m.start(nil)
	th.next("music").do("serve 127.0.0.1")
	m.awaitPod("a restarted pod", func(o corev1.Pod) bool { return isReady(o) && app(o).RestartCount == 1 })
}

func TestStartUpEndsWhatAKilledNodeLeftBehind(t *testing.T) {
	m, th := newMachine(t), newTheatre(t)
	id, err := nodeID(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	// What the reaper would have ended, had it not been killed as well.
	args := th.command("leftover")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), marker(id, "earlier", "uid", "music"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	leftover := th.next("leftover")
	m.start(nil)
	leftover.expectGone()
}

func TestANodeClaimsANetworkForItself(t *testing.T) {
	dir := t.TempDir()
	a, err := claimNetwork(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := claimNetwork(dir) // would prefer the same
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if a.n == b.n {
		t.Errorf("both have 127.%d.0.0/16", a.n)
	}
	ip1, _ := a.takePod("one", "")
	ip2, _ := a.takePod("two", ip1.String())
	if ip1 == ip2 {
		t.Errorf("two pods have %s", ip1)
	}
	a.releasePod("one")
	if ip3, _ := a.takePod("three", ""); ip3 == ip1 {
		t.Errorf("%s comes back at once", ip1)
	}
	if ip4, _ := a.takePod("four", ip1.String()); ip4 != ip1 {
		t.Errorf("a pod that had %s gets %s", ip1, ip4)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
}

// A pod that an earlier run left behind has its address, and its listeners, until
// its object is gone: also one that is not run any more.
func TestANewPodDoesNotGetTheAddressOfOneThatIsEnding(t *testing.T) {
	nw, err := claimNetwork(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer nw.close()
	first, err := nw.takePod("before", "")
	if err != nil {
		t.Fatal(err)
	}
	nw.releasePod("before")
	nw.nextPod = 0 // as when the node was started anew
	nw.keepPod("ending", first.String())
	nw.keepPod("elsewhere", "10.0.0.1") // not an address of this node
	nw.keepPod("pending", "")
	nw.keepPod("double", first.String()) // of two pods with one address, the first keeps it
	if got, _ := nw.takePod("new", ""); got == first {
		t.Errorf("a new pod has %s, which is another's", got)
	}
	if got, _ := nw.takePod("double", first.String()); got == first {
		t.Errorf("two pods have %s", got)
	}
	if got, _ := nw.takePod("ending", first.String()); got != first {
		t.Errorf("the pod with %s has %s when it runs again", first, got)
	}
	nw.releasePod("ending")
	if got, _ := nw.takePod("later", first.String()); got != first {
		t.Errorf("%s is not free when its pod is gone", first)
	}
}
