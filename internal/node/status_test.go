package node

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// runningPod is one as a node leaves it behind when it is killed.
func runningPod(policy corev1.RestartPolicy) *corev1.Pod {
	return &corev1.Pod{
		Spec: corev1.PodSpec{RestartPolicy: policy, Containers: []corev1.Container{{Name: "app"}}},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "app", Ready: true, RestartCount: 2, ContainerID: "process://1",
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}},
		},
	}
}

func TestAnInterruptedPodIsNotReadyAndCountsOneRestart(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	s := interrupted(runningPod(corev1.RestartPolicyAlways), now)
	c := s.ContainerStatuses[0]
	if s.Phase != corev1.PodRunning || c.Ready || c.RestartCount != 3 || c.State.Waiting == nil {
		t.Errorf("status = %+v; want Running, waiting, not ready, 3 restarts", s)
	}
	if last := c.LastTerminationState.Terminated; last == nil || last.ExitCode != 137 || last.ContainerID != "process://1" {
		t.Errorf("last state = %+v; want that of the process that is gone", last)
	}
	want := []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: now, Reason: "ContainersNotReady", Message: "Serin was restarted"},
	}
	if diff := cmp.Diff(want, s.Conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if again := interrupted(&corev1.Pod{Spec: runningPod("Always").Spec, Status: s}, now); again.ContainerStatuses[0].RestartCount != 4 {
		t.Errorf("a second interruption counts %d restarts; want 4", again.ContainerStatuses[0].RestartCount)
	}
}

func TestAnInterruptedPodThatMayNotRestartHasFailed(t *testing.T) {
	s := interrupted(runningPod(corev1.RestartPolicyNever), metav1.Now())
	c := s.ContainerStatuses[0]
	if s.Phase != corev1.PodFailed || c.RestartCount != 2 || c.State.Terminated == nil {
		t.Errorf("status = %+v; want Failed, terminated, still 2 restarts", s)
	}
}

func TestConditionsKeepTheTimeSinceWhenTheyHold(t *testing.T) {
	at := func(minute int) metav1.Time { return metav1.NewTime(time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)) }
	spec := &corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}
	running := view{state: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, started: true, ready: true}
	gate := corev1.PodCondition{Type: "example.org/gate", Status: corev1.ConditionTrue}
	first := podStatus(spec, &corev1.PodStatus{Conditions: []corev1.PodCondition{gate}}, podView{main: []view{running}}, at(1))
	second := podStatus(spec, &first, podView{main: []view{running}}, at(2))
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("nothing changed, but the status did (-first +second):\n%s", diff)
	}
	unready := running
	unready.ready = false
	third := podStatus(spec, &second, podView{main: []view{unready}}, at(3))
	since := map[corev1.PodConditionType]int{}
	for _, c := range third.Conditions {
		since[c.Type] = c.LastTransitionTime.Minute()
	}
	want := map[corev1.PodConditionType]int{"PodScheduled": 1, "Initialized": 1, "ContainersReady": 3, "Ready": 3, "example.org/gate": 0}
	if diff := cmp.Diff(want, since); diff != "" {
		t.Errorf("minutes of the last transition (-want +got):\n%s", diff)
	}
}

func TestThePodsAddressNamesEveryContainerPort(t *testing.T) {
	p := newPod(&Node{log: slog.New(slog.DiscardHandler)}, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "app", Ports: []corev1.ContainerPort{{Name: "admin", ContainerPort: 9090}, {Name: "http", ContainerPort: 80}}},
		{Name: "helper", Ports: []corev1.ContainerPort{{ContainerPort: 70}}},
		{Name: "worker"},
	}}})
	app, helper := p.main[0], p.main[1]
	app.ports = portMap{main: 18001, private: map[int32]int{80: 18001, 9090: 18002}}
	helper.ports = portMap{main: 18003, private: map[int32]int{70: 18003}}
	for _, c := range []struct{ app, helper, want string }{
		{"", "", ""},
		{"127.20.0.1", "", "127.20.0.1:18002,80=127.20.0.1:18001"},
		{"127.20.0.1", "::1", "127.20.0.1:18002,80=127.20.0.1:18001,70=[::1]:18003"},
		{"", "127.0.0.1", "70=127.0.0.1:18003"},
	} {
		app.setHost(c.app, app.ports.main)
		helper.setHost(c.helper, helper.ports.main)
		if got := p.address(); got != c.want {
			t.Errorf("address with %q and %q = %q; want %q", c.app, c.helper, got, c.want)
		}
	}
	if got := *app.named; got != 80 {
		t.Errorf("PORT stands for %d; want 80, which is named http", got)
	}
}

// servedPod is a ready pod with a port named http.
func servedPod(name, ip string, port int32) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{NodeName: "here", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port}}}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

func TestSlicesSayWhoIsReadyAndAtWhichPort(t *testing.T) {
	now := metav1.Now()
	steady, other, starting, ending, done, homeless := servedPod("a", "127.20.0.1", 80), servedPod("b", "127.20.0.2", 8080),
		servedPod("c", "127.20.0.3", 80), servedPod("d", "127.20.0.4", 80), servedPod("e", "127.20.0.5", 80), servedPod("f", "", 80)
	starting.Status.Conditions[0].Status = corev1.ConditionFalse
	ending.DeletionTimestamp = &now
	done.Status.Phase = corev1.PodSucceeded
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "music", UID: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
		{Name: "web", Port: 30001, TargetPort: intstr.FromString("http")},
		{Name: "same", Port: 7000},
		{Name: "nobody", Port: 1, TargetPort: intstr.FromString("none")},
	}}}
	all := slicesFor(s, []*corev1.Pod{ending, other, done, steady, homeless, starting})
	type line struct {
		Pod                         string
		Ready, Serving, Terminating bool
	}
	got := map[int32][]line{} // by the port named web
	for _, slice := range all {
		if len(slice.Ports) != 2 || *slice.Ports[0].Name != "web" || *slice.Ports[1].Port != 7000 {
			t.Errorf("ports = %+v; want web and same", slice.Ports)
		}
		if slice.Labels[discoveryv1.LabelServiceName] != "music" || slice.AddressType != discoveryv1.AddressTypeIPv4 || !metav1.IsControlledBy(slice, s) {
			t.Errorf("slice %s is not the service's own: %+v", slice.Name, slice.ObjectMeta)
		}
		for _, e := range slice.Endpoints {
			c := e.Conditions
			got[*slice.Ports[0].Port] = append(got[*slice.Ports[0].Port], line{e.TargetRef.Name, *c.Ready, *c.Serving, *c.Terminating})
		}
	}
	want := map[int32][]line{
		80:   {{"a", true, true, false}, {"c", false, false, false}, {"d", false, true, true}},
		8080: {{"b", true, true, false}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	s.Spec.PublishNotReadyAddresses = true
	all = slicesFor(s, []*corev1.Pod{starting, ending})
	if !*all[0].Endpoints[0].Conditions.Ready {
		t.Error("a service that publishes unready addresses hides one")
	}
	if diff := cmp.Diff(map[types.UID]bool{"c": true}, readyIn(all)); diff != "" {
		t.Errorf("a pod that ends must count as left (-want +got):\n%s", diff)
	}
}
