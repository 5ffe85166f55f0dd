package flagger

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/api/v1alpha1"
)

// Status shows a Canary what its Release does, in Flagger's terms. The Release
// is nil as long as there is none. A problem, if not "", says why the Canary's
// spec cannot be run; a Release that is there goes on with an earlier one.
//
// Where nothing changed the result equals the Canary's present status, times
// included.
func Status(c *flaggerv1.Canary, r *v1alpha1.Release, problem string) flaggerv1.CanaryStatus {
	out := *c.Status.DeepCopy()
	out.Phase = phase(r)
	out.CanaryWeight, out.FailedChecks, out.Iterations = 0, 0, 0
	changed := c.CreationTimestamp
	if c.DeletionTimestamp != nil {
		out.Phase = flaggerv1.CanaryPhaseTerminating
		changed = *c.DeletionTimestamp
	}
	if r != nil {
		out.FailedChecks = int(r.Status.FailedChecks)
		out.CanaryWeight = canaryWeight(r)
		out.Iterations = iterations(r)
		out.LastPromotedSpec = r.Status.Stable.Revision
		out.LastAppliedSpec = lastApplied(r)
		cookies(&out, r)
		if t := lastChange(r); changed.Before(&t) {
			changed = t
		}
	}
	now := condition(&out, message(r, out.Phase, problem))
	if same(&out, &c.Status, &now) {
		return *c.Status.DeepCopy()
	}
	if changed.Before(&c.Status.LastTransitionTime) {
		changed = c.Status.LastTransitionTime
	}
	now.LastUpdateTime, now.LastTransitionTime = changed, changed
	if before := promoted(&c.Status); before != nil && before.Status == now.Status {
		now.LastTransitionTime = before.LastTransitionTime
	}
	out.LastTransitionTime = changed
	out.Conditions = []flaggerv1.CanaryCondition{now}
	return out
}

// phase translates the Release's. Flagger has none for the way back: it says
// Failed when all is over.
func phase(r *v1alpha1.Release) flaggerv1.CanaryPhase {
	if r == nil {
		return flaggerv1.CanaryPhaseInitializing
	}
	switch r.Status.Phase {
	case "Starting", "Testing", "Progressing":
		return waiting(r)
	case "RollingBack":
		return flaggerv1.CanaryPhaseProgressing
	case "Promoting":
		return flaggerv1.CanaryPhasePromoting
	case "Finalizing":
		return flaggerv1.CanaryPhaseFinalising
	case "Idle":
		switch {
		case meta.IsStatusConditionFalse(r.Status.Conditions, v1alpha1.ConditionPromoted):
			return flaggerv1.CanaryPhaseFailed
		case newer(r):
			return flaggerv1.CanaryPhaseWaiting
		case len(r.Status.History) > 0 && r.Status.History[0].Outcome == "promoted":
			return flaggerv1.CanaryPhaseSucceeded
		}
		return flaggerv1.CanaryPhaseInitialized
	default:
		return flaggerv1.CanaryPhaseInitializing
	}
}

// newer reports whether the target has a version whose run has not begun, such
// as while the Release is suspended, or after the run of another was ended by it.
func newer(r *v1alpha1.Release) bool {
	c := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionPromoted)
	return r.Status.Phase == "Idle" && c != nil && c.Status == metav1.ConditionUnknown
}

// waiting is Progressing, or what for somebody's word is waited. Where all
// users get the version at once, that is asked for as the promotion.
func waiting(r *v1alpha1.Release) flaggerv1.CanaryPhase {
	for _, h := range r.Status.Hooks {
		if h.Answer == "" {
			continue // it may say yes
		}
		switch {
		case h.Type == string(flaggerv1.ConfirmRolloutHook):
			return flaggerv1.CanaryPhaseWaiting
		case h.Type == string(flaggerv1.ConfirmPromotionHook),
			h.Type == flaggerv1.ConfirmTrafficIncreaseHook && r.Spec.Iterations > 0:
			return flaggerv1.CanaryPhaseWaitingPromotion
		}
	}
	return flaggerv1.CanaryPhaseProgressing
}

// canaryWeight is the share of all requests that the canary is asked to get.
// Flagger shows 0 as soon as it waits for the promotion, whatever the routes
// say. Of an A/B test it is 0: nobody knows how many the matched users are.
func canaryWeight(r *v1alpha1.Release) int {
	if !running(r) || r.Spec.Strategy == "ABTest" {
		return 0
	}
	return weight(r.Status.Split.Asked)
}

// iterations is how many good looks there were, where they are counted.
func iterations(r *v1alpha1.Release) int {
	done, _, _ := strings.Cut(r.Status.Iterations, "/")
	n, err := strconv.Atoi(done)
	if err != nil || r.Spec.Iterations == 0 {
		return 0 // "" where none are counted
	}
	return n
}

// cookies shows the cookie of the present run while it is given out, and that
// of the run before.
func cookies(out *flaggerv1.CanaryStatus, r *v1alpha1.Release) {
	now := ""
	if a := r.Spec.SessionAffinity; a != nil && canaryWeight(r) > 0 {
		now = a.CookieName + "=" + r.Status.Canary.Revision
	}
	if before := out.SessionAffinityCookie; before != "" && before != now {
		out.PreviousSessionAffinityCookie = before
	}
	out.SessionAffinityCookie = now
}

func running(r *v1alpha1.Release) bool { return r.Status.Canary.Revision != "" }

// lastApplied is the revision that the target has, as far as it was seen.
func lastApplied(r *v1alpha1.Release) string {
	switch {
	case running(r):
		return r.Status.Canary.Revision
	case phase(r) == flaggerv1.CanaryPhaseFailed && len(r.Status.History) > 0:
		return r.Status.History[0].To.Revision
	default:
		return r.Status.Stable.Revision
	}
}

// condition is Flagger's only one, without its times. Its reason is the phase.
func condition(s *flaggerv1.CanaryStatus, message string) flaggerv1.CanaryCondition {
	status := corev1.ConditionUnknown
	switch s.Phase {
	case flaggerv1.CanaryPhaseInitialized, flaggerv1.CanaryPhaseSucceeded:
		status = corev1.ConditionTrue
	case flaggerv1.CanaryPhaseFailed:
		status = corev1.ConditionFalse
	}
	return flaggerv1.CanaryCondition{Type: flaggerv1.PromotedType, Status: status, Reason: string(s.Phase), Message: message}
}

// message says in one line how things are. It changes with the phase and the
// step, not with every request.
func message(r *v1alpha1.Release, p flaggerv1.CanaryPhase, problem string) string {
	switch {
	case problem != "" && r == nil:
		return "This Canary is not run: " + problem
	case problem != "":
		return "The Canary as it was before goes on: " + problem
	case r == nil:
		return "A Release is made for this Canary."
	}
	s := &r.Status
	switch p {
	case flaggerv1.CanaryPhaseTerminating:
		return "The Canary is being deleted; the Deployment serves by itself again when it is gone."
	case flaggerv1.CanaryPhaseWaiting:
		if newer(r) {
			return "A newer revision waits" + because(s.Reason)
		}
		return fmt.Sprintf("%s waits for approval before it starts", name(s.Canary)) + because(refusal(r))
	case flaggerv1.CanaryPhaseWaitingPromotion:
		return fmt.Sprintf("%s waits for approval of its promotion", name(s.Canary)) + because(refusal(r))
	case flaggerv1.CanaryPhaseInitializing:
		return "The primary is being made" + because(s.Reason)
	case flaggerv1.CanaryPhaseInitialized:
		return "Initialized" + because(s.Reason)
	case flaggerv1.CanaryPhaseProgressing:
		switch {
		case s.Phase == "RollingBack":
			return fmt.Sprintf("%s is being taken back.", name(s.Canary))
		case s.Phase == "Testing" || r.Spec.Strategy == "ABTest" && s.Step > 0:
			return tested(r)
		case s.Step == 0:
			return fmt.Sprintf("%s is starting.", name(s.Canary))
		}
		at := fmt.Sprintf("%s is at step %s with a weight of %d", name(s.Canary), s.StepText, weight(s.Split.Asked))
		if s.Verdict == "NoData" || s.FailedChecks > 0 {
			return at + because(s.Evidence)
		}
		return at + "."
	case flaggerv1.CanaryPhasePromoting:
		return fmt.Sprintf("%s was judged good and becomes the primary.", name(s.Canary))
	case flaggerv1.CanaryPhaseFinalising:
		return fmt.Sprintf("All requests go to the primary, which runs %s.", name(s.Canary))
	case flaggerv1.CanaryPhaseSucceeded:
		return fmt.Sprintf("%s was promoted", name(s.Stable)) + because(s.Reason)
	case flaggerv1.CanaryPhaseFailed:
		if len(s.History) > 0 && s.History[0].Reason != "" {
			return fmt.Sprintf("%s was not promoted: %s", name(s.History[0].To), s.History[0].Reason)
		}
		return "The last revision was not promoted."
	default:
		return string(p)
	}
}

// refusal is what the webhooks answered that hold the run up.
func refusal(r *v1alpha1.Release) string {
	var out []string
	for _, h := range r.Status.Hooks {
		if h.Answer != "" {
			out = append(out, fmt.Sprintf("webhook %s: %s", h.Name, h.Answer))
		}
	}
	return strings.Join(out, "; ")
}

// tested says how far a test is that counts good looks, or copies requests.
func tested(r *v1alpha1.Release) string {
	s := &r.Status
	what := "without users"
	switch {
	case r.Spec.Strategy == "ABTest":
		what = "with the matched users"
	case r.Spec.Mirror != nil:
		what = "with copies of requests"
	}
	at := fmt.Sprintf("%s is tested %s", name(s.Canary), what)
	if s.Iterations != "" {
		at += fmt.Sprintf(", iteration %s", s.Iterations)
	}
	if s.Verdict == "NoData" || s.FailedChecks > 0 {
		return at + because(s.Evidence)
	}
	return at + "."
}

// because ends a sentence with the Release's own words, where there are any.
func because(reason string) string {
	if reason == "" {
		return "."
	}
	return ": " + reason
}

func name(v v1alpha1.Version) string {
	if v.Label != "" {
		return v.Label
	}
	return "revision " + v.Revision
}

func promoted(s *flaggerv1.CanaryStatus) *flaggerv1.CanaryCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == flaggerv1.PromotedType {
			return &s.Conditions[i]
		}
	}
	return nil
}

// same reports whether a status says what another says, times aside.
func same(a, b *flaggerv1.CanaryStatus, now *flaggerv1.CanaryCondition) bool {
	before := promoted(b)
	return before != nil && before.Status == now.Status && before.Reason == now.Reason && before.Message == now.Message &&
		a.Phase == b.Phase && a.CanaryWeight == b.CanaryWeight && a.FailedChecks == b.FailedChecks &&
		a.Iterations == b.Iterations && a.SessionAffinityCookie == b.SessionAffinityCookie &&
		a.LastAppliedSpec == b.LastAppliedSpec && a.LastPromotedSpec == b.LastPromotedSpec
}

// lastChange is the latest time that the Release's status tells.
func lastChange(r *v1alpha1.Release) metav1.Time {
	last := r.CreationTimestamp
	later := func(t metav1.Time) {
		if last.Before(&t) {
			last = t
		}
	}
	for i := range r.Status.Conditions {
		later(r.Status.Conditions[i].LastTransitionTime)
	}
	if len(r.Status.History) > 0 {
		later(r.Status.History[0].Ended)
	}
	if since := r.Status.Split.Since; since != nil {
		later(*since)
	}
	return last
}

// weight is a share as Flagger counts them: in whole percent, rounded up, so
// that 0 means none.
func weight(share string) int {
	v, err := strconv.ParseFloat(share, 64)
	if err != nil {
		return 0 // "" before the first look
	}
	return int(math.Ceil(v))
}
