package node

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hostIP is the address of the machine as pods see it.
const hostIP = "127.0.0.1"

// view is what a container looks like from outside.
type view struct {
	state    corev1.ContainerState
	last     corev1.ContainerState // of the run before; empty in the first
	restarts int32
	started  bool // running, and its startup probe succeeded
	ready    bool
	finished bool // it will not run again
}

// podView is what a pod looks like from outside.
type podView struct {
	ip         string
	startTime  metav1.Time
	init, main []view // as in the spec
}

// podStatus derives a pod's status from its containers. before is the status
// it replaces: times of conditions that did not change and conditions of
// others are kept.
func podStatus(spec *corev1.PodSpec, before *corev1.PodStatus, v podView, now metav1.Time) corev1.PodStatus {
	s := corev1.PodStatus{
		Phase:     phase(spec, v),
		HostIP:    hostIP,
		HostIPs:   []corev1.HostIP{{IP: hostIP}},
		PodIP:     v.ip,
		PodIPs:    []corev1.PodIP{{IP: v.ip}},
		StartTime: &v.startTime,
		QOSClass:  before.QOSClass,
	}
	var incomplete, unready []string
	for i, c := range spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, containerStatus(&c, v.init[i]))
		switch {
		case !isSidecar(&c):
			if !succeeded(v.init[i]) {
				incomplete = append(incomplete, c.Name)
			}
		case !v.init[i].started:
			incomplete = append(incomplete, c.Name)
		case !v.init[i].ready:
			unready = append(unready, c.Name)
		}
	}
	for i, c := range spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, containerStatus(&c, v.main[i]))
		if !v.main[i].ready {
			unready = append(unready, c.Name)
		}
	}
	over := s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed
	condition := func(kind corev1.PodConditionType, missing []string, reason, what string) corev1.PodCondition {
		c := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue}
		if len(missing) > 0 {
			c.Status, c.Reason = corev1.ConditionFalse, reason
			c.Message = fmt.Sprintf("containers with %s: [%s]", what, strings.Join(missing, " "))
			if over {
				c.Reason, c.Message = "PodCompleted", ""
			}
		}
		return c
	}
	s.Conditions = keepTimes(before.Conditions, []corev1.PodCondition{
		condition(corev1.PodScheduled, nil, "", ""),
		condition(corev1.PodInitialized, incomplete, "ContainersNotInitialized", "incomplete status"),
		condition(corev1.ContainersReady, unready, "ContainersNotReady", "unready status"),
		condition(corev1.PodReady, unready, "ContainersNotReady", "unready status"),
	}, now)
	return s
}

// keepTimes gives each condition its time of transition, and appends the old
// conditions that are not among the new.
func keepTimes(before, now []corev1.PodCondition, at metav1.Time) []corev1.PodCondition {
	for i := range now {
		now[i].LastTransitionTime = at
	}
	for _, old := range before {
		i := slices.IndexFunc(now, func(c corev1.PodCondition) bool { return c.Type == old.Type })
		switch {
		case i < 0:
			now = append(now, old)
		case now[i].Status == old.Status:
			now[i].LastTransitionTime = old.LastTransitionTime
		}
	}
	return now
}

func containerStatus(c *corev1.Container, v view) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name:                 c.Name,
		Image:                c.Image,
		State:                v.state,
		LastTerminationState: v.last,
		RestartCount:         v.restarts,
		Ready:                v.ready,
		Started:              &v.started,
	}
	switch {
	case v.state.Terminated != nil:
		s.ContainerID = v.state.Terminated.ContainerID
	case v.last.Terminated != nil:
		s.ContainerID = v.last.Terminated.ContainerID
	}
	return s
}

// phase is the pod's life in one word. A pod is Pending until its init
// containers are through and one container has run.
func phase(spec *corev1.PodSpec, v podView) corev1.PodPhase {
	for i, c := range spec.InitContainers {
		switch {
		case isSidecar(&c):
		case v.init[i].finished && !succeeded(v.init[i]):
			return corev1.PodFailed
		case !succeeded(v.init[i]):
			return corev1.PodPending
		}
	}
	finished, failed, ran := true, false, false
	for _, c := range v.main {
		finished = finished && c.finished
		failed = failed || c.finished && !succeeded(c)
		ran = ran || c.state.Running != nil || c.state.Terminated != nil || c.last.Terminated != nil
	}
	switch {
	case finished && failed:
		return corev1.PodFailed
	case finished:
		return corev1.PodSucceeded
	case ran:
		return corev1.PodRunning
	}
	return corev1.PodPending
}

func succeeded(v view) bool {
	return v.finished && v.state.Terminated != nil && v.state.Terminated.ExitCode == 0
}

// isSidecar reports whether an init container runs as long as the pod.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// views reads back what a status says, for a pod that an earlier node ran.
func views(containers []corev1.Container, statuses []corev1.ContainerStatus) []view {
	out := make([]view, len(containers))
	for i, c := range containers {
		out[i] = view{state: waiting("PodInitializing", "")}
		j := slices.IndexFunc(statuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
		if j >= 0 {
			out[i].restarts = statuses[j].RestartCount
			out[i].last = statuses[j].LastTerminationState
		}
	}
	return out
}

// interrupted is the status of a pod whose processes ended together with the
// node that ran them: nothing is ready, and what ran counts one more restart.
// What may not run again, by restart policy, has failed.
func interrupted(pod *corev1.Pod, now metav1.Time) corev1.PodStatus {
	s := pod.Status.DeepCopy()
	mark := func(statuses []corev1.ContainerStatus, app bool) {
		for i := range statuses {
			c := &statuses[i]
			c.Ready, c.Started = false, new(bool)
			ended := c.State.Terminated
			if c.State.Running != nil {
				ended = &corev1.ContainerStateTerminated{
					ExitCode:    137,
					Signal:      9,
					Reason:      "ContainerStatusUnknown",
					Message:     "Serin stopped while the container ran",
					StartedAt:   c.State.Running.StartedAt,
					FinishedAt:  now,
					ContainerID: c.ContainerID,
				}
			}
			if app && pod.Spec.RestartPolicy == corev1.RestartPolicyNever && ended != nil {
				c.State = corev1.ContainerState{Terminated: ended}
				continue
			}
			if ended != nil {
				c.LastTerminationState = corev1.ContainerState{Terminated: ended}
			}
			if ended != nil || c.LastTerminationState.Terminated != nil {
				c.RestartCount++
			}
			c.State = waiting("ContainerCreating", "")
		}
	}
	mark(s.InitContainerStatuses, false)
	mark(s.ContainerStatuses, true)
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever && s.Phase == corev1.PodRunning {
		s.Phase = corev1.PodFailed
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		if (c.Type == corev1.PodReady || c.Type == corev1.ContainersReady) && c.Status == corev1.ConditionTrue {
			c.Status, c.LastTransitionTime = corev1.ConditionFalse, now
			c.Reason, c.Message = "ContainersNotReady", "Serin was restarted"
		}
	}
	return *s
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}
