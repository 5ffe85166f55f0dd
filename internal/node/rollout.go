package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	deploymentutil "k8s.io/kubectl/pkg/util/deployment"
	"k8s.io/kubectl/pkg/util/podutils"

	"serin.dev/serin/internal/kube"
)

// burst is how many pods are made, and how many deleted, in one step. Ten take
// well under a second: so long at most a Deployment of any size keeps the others
// waiting, and does not see that it was changed or deleted.
const burst = 10

// plan is what a Deployment needs now.
type plan struct {
	create int           // pods of the current template to make
	remove []*corev1.Pod // pods to delete
}

// planDeployment compares a Deployment with its pods and says what to do next.
// It decides one step, of burst pods at most; the changes that the step causes
// lead to the next.
func planDeployment(d *appsv1.Deployment, pods []*corev1.Pod, now time.Time) plan {
	p := wholePlan(d, pods, now)
	p.create = min(p.create, burst)
	p.remove = p.remove[:min(len(p.remove), burst)]
	return p
}

// wholePlan is all that a Deployment needs now.
//
// Availability never falls below replicas-maxUnavailable by its doing, and
// there are never more than replicas+maxSurge pods that are not ending. That
// holds for each part of it as well.
// Without ReplicaSets a pod of an older template that dies is replaced by one
// of the current template: the older template is not known any more.
func wholePlan(d *appsv1.Deployment, pods []*corev1.Pod, now time.Time) plan {
	t := tally(d, pods, now)
	desired := replicas(d)
	if d.Spec.Paused && len(t.old) > 0 {
		// Scale down, but make and replace nothing until resumed.
		return plan{remove: surplus(append(slices.Clone(t.old), t.updated...), len(t.old)+len(t.updated)-desired)}
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		if len(t.old) > 0 || t.oldEnding > 0 {
			return plan{remove: t.old} // new ones when the last old one is gone
		}
		return plan{create: max(0, desired-len(t.updated)), remove: surplus(t.updated, len(t.updated)-desired)}
	}

	surge, unavailable := fenceposts(d)
	total := len(t.old) + len(t.updated)
	p := plan{
		create: max(0, min(desired-len(t.updated), desired+surge-total)),
		remove: surplus(t.updated, len(t.updated)-desired),
	}
	if desired == 0 {
		p.remove = append(p.remove, t.old...)
		return p
	}
	if len(p.remove) > 0 {
		return p // then look again
	}
	// Pods of older templates that are not available go first: nobody misses
	// them, as long as the updated ones that are still starting are not
	// counted on.
	least := desired - unavailable
	spare := total - least - (len(t.updated) - t.updatedAvailable)
	available := t.available
	slack := available - least
	for _, o := range inOrderOfRemoval(t.old) {
		if spare <= 0 {
			break
		}
		if podutils.IsPodAvailable(o, d.Spec.MinReadySeconds, metav1.NewTime(now)) {
			if slack <= 0 {
				break
			}
			slack--
		}
		spare--
		p.remove = append(p.remove, o)
	}
	return p
}

// counts is a Deployment's pods, sorted into kinds. Pods that are ending count
// nowhere else.
type counts struct {
	old, updated     []*corev1.Pod
	oldEnding        int
	ready            int
	available        int
	updatedAvailable int
	nextAvailable    time.Duration // until a ready pod becomes available; 0: none waits
}

func tally(d *appsv1.Deployment, pods []*corev1.Pod, now time.Time) counts {
	hash := templateHash(&d.Spec.Template)
	var t counts
	for _, o := range pods {
		updated := o.Labels[appsv1.DefaultDeploymentUniqueLabelKey] == hash
		switch {
		case over(o):
			continue
		case o.DeletionTimestamp != nil:
			if !updated {
				t.oldEnding++
			}
			continue
		case updated:
			t.updated = append(t.updated, o)
		default:
			t.old = append(t.old, o)
		}
		if !podutils.IsPodReady(o) {
			continue
		}
		t.ready++
		if podutils.IsPodAvailable(o, d.Spec.MinReadySeconds, metav1.NewTime(now)) {
			t.available++
			if updated {
				t.updatedAvailable++
			}
			continue
		}
		if wait := time.Duration(d.Spec.MinReadySeconds)*time.Second - now.Sub(readySince(o)); t.nextAvailable == 0 || wait < t.nextAvailable {
			t.nextAvailable = max(wait, time.Millisecond)
		}
	}
	return t
}

func readySince(o *corev1.Pod) time.Time {
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// surplus picks n pods to remove.
func surplus(pods []*corev1.Pod, n int) []*corev1.Pod {
	if n <= 0 {
		return nil
	}
	return inOrderOfRemoval(pods)[:min(n, len(pods))]
}

// inOrderOfRemoval puts first what is missed least, by Kubernetes' own order:
// not ready before ready, restarted before steady, young before old.
func inOrderOfRemoval(pods []*corev1.Pod) []*corev1.Pod {
	pods = slices.Clone(pods)
	sort.Sort(podutils.ActivePods(pods))
	return pods
}

func replicas(d *appsv1.Deployment) int {
	if d.Spec.Replicas == nil {
		return 1
	}
	return int(*d.Spec.Replicas)
}

// fenceposts resolves maxSurge and maxUnavailable; at least one is not zero.
// Values that cannot be resolved count as Kubernetes' default, a quarter.
func fenceposts(d *appsv1.Deployment) (surge, unavailable int) {
	var s, u = quarter(), quarter()
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			s = r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			u = r.MaxUnavailable
		}
	}
	desired := int32(replicas(d))
	sv, uv, err := deploymentutil.ResolveFenceposts(s, u, desired)
	if err != nil {
		if sv, uv, err = deploymentutil.ResolveFenceposts(quarter(), quarter(), desired); err != nil {
			panic("node: a quarter must resolve: " + err.Error())
		}
	}
	return int(sv), int(uv)
}

// templateHash tells templates apart within one Deployment.
func templateHash(t *corev1.PodTemplateSpec) string {
	data, err := json.Marshal(t)
	if err != nil {
		panic("node: a pod template must marshal: " + err.Error())
	}
	return rand.SafeEncodeString(fmt.Sprint(hash32(string(data))))
}

// podFor makes a pod of the Deployment's template, on the node.
func podFor(d *appsv1.Deployment, node string) *corev1.Pod {
	t := d.Spec.Template.DeepCopy()
	hash := templateHash(&d.Spec.Template)
	o := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	prefix := d.Name
	if len(prefix) > 230 { // a name may have 253 characters
		prefix = prefix[:230]
	}
	o.Name = prefix + "-" + hash + "-" + rand.String(5)
	o.Namespace = d.Namespace
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	o.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	o.Labels[kube.LabelRevision] = kube.Revision(&d.Spec.Template)
	o.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))}
	o.Spec.NodeName = node
	return o
}

// deploymentStatus is the status that follows from the pods. wait is how long
// until it changes by the passing of time alone; 0: never.
func deploymentStatus(d *appsv1.Deployment, pods []*corev1.Pod, failure error, now time.Time) (s appsv1.DeploymentStatus, wait time.Duration) {
	t := tally(d, pods, now)
	desired := replicas(d)
	total := len(t.old) + len(t.updated)
	s = *d.Status.DeepCopy()
	s.ObservedGeneration = d.Generation
	s.Replicas = int32(total)
	s.UpdatedReplicas = int32(len(t.updated))
	s.ReadyReplicas = int32(t.ready)
	s.AvailableReplicas = int32(t.available)
	s.UnavailableReplicas = int32(max(0, max(total, desired)-t.available))
	_, unavailable := fenceposts(d)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		unavailable = 0
	}
	if t.available >= desired-unavailable {
		setCondition(&s, appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
	} else {
		setCondition(&s, appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", now)
	}
	if failure != nil {
		setCondition(&s, appsv1.DeploymentReplicaFailure, corev1.ConditionTrue, "FailedCreate", failure.Error(), now)
	} else {
		s.Conditions = slices.DeleteFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == appsv1.DeploymentReplicaFailure })
	}
	return s, soonest(t.nextAvailable, progress(d, &s, now))
}

// progress keeps the Progressing condition, and returns the time until the
// deadline.
//
// A Deployment progresses from a change of its spec until all replicas are
// updated and available. Once it is complete, only another change of the spec
// starts the clock again; a crash later is not a failed rollout.
func progress(d *appsv1.Deployment, s *appsv1.DeploymentStatus, now time.Time) time.Duration {
	desired := int32(replicas(d))
	complete := s.UpdatedReplicas == desired && s.Replicas == desired && s.AvailableReplicas == desired
	before := deploymentutil.GetDeploymentCondition(d.Status, appsv1.DeploymentProgressing)
	changed := d.Status.ObservedGeneration != d.Generation
	set := func(status corev1.ConditionStatus, reason, message string, args ...any) {
		setCondition(s, appsv1.DeploymentProgressing, status, reason, fmt.Sprintf(message, args...), now)
	}
	deadline := time.Duration(600) * time.Second
	if d.Spec.ProgressDeadlineSeconds != nil {
		deadline = time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
	}
	moved := s.UpdatedReplicas > d.Status.UpdatedReplicas || s.ReadyReplicas > d.Status.ReadyReplicas ||
		s.AvailableReplicas > d.Status.AvailableReplicas ||
		s.Replicas-s.UpdatedReplicas < d.Status.Replicas-d.Status.UpdatedReplicas
	switch {
	case complete:
		set(corev1.ConditionTrue, "NewReplicaSetAvailable", "Deployment %q has successfully progressed.", d.Name)
		return 0
	case d.Spec.Paused:
		set(corev1.ConditionUnknown, "DeploymentPaused", "Deployment is paused")
		return 0
	case before != nil && before.Reason == "NewReplicaSetAvailable" && !changed:
		return 0
	case before == nil || changed || moved || before.Reason == "DeploymentPaused":
		touchProgress(s, d.Name, now)
		return deadline
	case before.Status == corev1.ConditionFalse:
		return 0 // it is late already
	}
	left := deadline - now.Sub(before.LastUpdateTime.Time)
	if left > 0 {
		return left
	}
	set(corev1.ConditionFalse, "ProgressDeadlineExceeded", "Deployment %q has timed out progressing.", d.Name)
	return 0
}

// touchProgress says that something has moved just now.
func touchProgress(s *appsv1.DeploymentStatus, name string, now time.Time) {
	setCondition(s, appsv1.DeploymentProgressing, corev1.ConditionTrue, "ReplicaSetUpdated", fmt.Sprintf("Deployment %q is progressing.", name), now)
	deploymentutil.GetDeploymentCondition(*s, appsv1.DeploymentProgressing).LastUpdateTime = metav1.NewTime(now)
}

// setCondition changes a condition only when it says something new.
func setCondition(s *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) {
	c := appsv1.DeploymentCondition{
		Type: kind, Status: status, Reason: reason, Message: message,
		LastUpdateTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
	}
	i := slices.IndexFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
	if i < 0 {
		s.Conditions = append(s.Conditions, c)
		return
	}
	old := s.Conditions[i]
	if old.Status == status {
		c.LastTransitionTime = old.LastTransitionTime
		if old.Reason == reason && old.Message == message {
			return
		}
	}
	s.Conditions[i] = c
}

// soonest is the smaller of two waits, where 0 means none.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
