package controller

import (
	"slices"
	"strings"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

// commandOf reads the command of a person from a Release's annotations.
func commandOf(r *v1alpha1.Release) rollout.Command {
	a := r.Annotations
	if a[v1alpha1.AnnotationCommandID] == "" {
		return rollout.Command{}
	}
	return rollout.Command{
		ID:     a[v1alpha1.AnnotationCommandID],
		Verb:   rollout.Verb(a[v1alpha1.AnnotationCommand]),
		Reason: a[v1alpha1.AnnotationCommandReason],
		By:     a[v1alpha1.AnnotationCommandBy],
		Gate:   a[v1alpha1.AnnotationCommandGate],
	}
}

// refusals are the reasons of the events that say that a command had no effect.
func refusals() []string {
	return []string{
		"CommandUnknown", "NothingToPromote", "NothingToAbort", "NothingToSkip", "NothingToRetry",
		"NothingToRollBack", "NothingToApprove", "ApprovalRefused",
	}
}

// taken is what became of a command that was taken in at a look, whose events
// are given; they are in the wording of people.
func taken(c rollout.Command, events []rollout.Event, now time.Time) *v1alpha1.CommandStatus {
	out := &v1alpha1.CommandStatus{
		ID: c.ID, Verb: string(c.Verb), Gate: c.Gate, By: c.By, Reason: c.Reason, Time: v1alpha1.Time(now),
	}
	for _, e := range events {
		if slices.Contains(refusals(), e.Reason) {
			out.Refused = strings.TrimPrefix(e.Message, c.String()+": ")
		}
	}
	return out
}

// commandsOf lists what people ordered in a run.
func commandsOf(r *rollout.Run) []v1alpha1.CommandStatus {
	var out []v1alpha1.CommandStatus
	for _, o := range r.Commands {
		out = append(out, v1alpha1.CommandStatus{
			ID: o.ID, Verb: string(o.Verb), Gate: o.Gate, By: o.By, Reason: o.Reason, Time: v1alpha1.Time(o.At),
		})
	}
	return out
}
