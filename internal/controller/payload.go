package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
)

// hookPayload is what a webhook is sent. All but the last field is Flagger's,
// whose receivers work here unchanged (docs.flagger.app, "Webhooks").
type hookPayload struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Phase     string            `json:"phase"`
	Checksum  string            `json:"checksum"`
	Metadata  map[string]string `json:"metadata,omitempty"`

	Serin hookDetails `json:"serin"`
}

// hookDetails is what Serin tells beyond Flagger: where the run is, and what
// the judge says about it.
type hookDetails struct {
	ID   string `json:"id"` // the same when the call is repeated
	Type string `json:"type"`

	Run     int64            `json:"run"` // from 1
	From    v1alpha1.Version `json:"from"`
	To      v1alpha1.Version `json:"to"`
	Outcome string           `json:"outcome,omitempty"` // once it is decided

	Phase  string      `json:"phase"` // of the Release
	Step   int         `json:"step"`  // 0: before the first
	Steps  int         `json:"steps"`
	Weight json.Number `json:"weight"`           // percent of the requests that the canary answers
	Mirror json.Number `json:"mirror,omitempty"` // percent of them of which it gets copies
	Match  bool        `json:"match,omitempty"`  // the weight is of the matched users' requests alone

	Reason string     `json:"reason"` // what is waited for
	Event  *hookEvent `json:"event,omitempty"`

	Evidence analysis.Evidence `json:"evidence"` // verdict, counts, e-value, bounds
}

type hookEvent struct {
	Time    time.Time `json:"time"`
	Warning bool      `json:"warning,omitempty"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
}

// order makes a call ready to be made.
func (d *Deliver) order(rel *kube.Delivery, run *delivery, c rollout.HookCall) (order, error) {
	r := rel.Release
	i := slices.IndexFunc(r.Spec.Webhooks, func(w v1alpha1.Webhook) bool {
		return w.Name == c.Name && w.Type == string(c.Type)
	})
	if i < 0 {
		return order{}, fmt.Errorf("spec.webhooks has no %s of type %s any more", c.Name, c.Type)
	}
	hook := r.Spec.Webhooks[i]
	outcome := run.journal.State.Run.Outcome
	if e := c.Event; e != nil { // the run may have gone on since it happened
		c.Phase, c.Step, c.Traffic = e.Phase, e.Step, e.Traffic
		outcome = e.Outcome
	}
	say := d.wording(rel, run)
	p := hookPayload{
		Name: r.Name, Namespace: r.Namespace,
		Phase:    string(c.Phase),
		Checksum: string(c.Revision),
		Metadata: hook.Metadata,
		Serin:    detailsOf(run, c, say),
	}
	if kube.OwnedByCanary(r) {
		p.Phase = flaggerPhase(c, run.journal.State, outcome)
	}
	if e := c.Event; e != nil {
		p.Metadata = maps.Clone(hook.Metadata)
		if p.Metadata == nil {
			p.Metadata = map[string]string{}
		}
		p.Metadata["eventMessage"] = say(e.Message)
		p.Metadata["eventType"] = "Normal"
		if e.Warning {
			p.Metadata["eventType"] = "Warning"
		}
		p.Metadata["timestamp"] = strconv.FormatInt(e.At.UnixMilli(), 10)
	}
	body, err := json.Marshal(p)
	if err != nil {
		return order{}, fmt.Errorf("payload: %w", err)
	}
	return order{HookCall: c, hook: hook, key: string(r.UID) + "/" + c.ID, body: body}, nil
}

func detailsOf(run *delivery, c rollout.HookCall, say func(string) string) hookDetails {
	s := run.journal.State
	out := hookDetails{
		ID: c.ID, Type: string(c.Type),
		Run: s.Run.Number, From: run.journal.From, To: run.journal.To, Outcome: string(s.Run.Outcome),
		Phase: string(c.Phase), Step: c.Step, Steps: run.plan.NumSteps(),
		Weight: json.Number(shareText(c.Traffic.Share)), Match: c.Traffic.Match,
		Reason: say(s.Reason), Evidence: s.Told(),
	}
	if c.Traffic.Mirror > 0 {
		out.Mirror = json.Number(shareText(c.Traffic.Mirror))
	}
	if c.Type == rollout.HookPostRollout {
		out.Reason, out.Evidence = say(s.Run.Reason), s.Run.Evidence
	}
	if e := c.Event; e != nil {
		out.Run, out.Steps, out.Evidence = e.Run, e.Steps, e.Evidence
		out.Event = &hookEvent{e.At, e.Warning, e.Reason, say(e.Message)}
	}
	out.Evidence.Reason = say(out.Evidence.Reason)
	return out
}

// flaggerPhase is what Flagger sends at the same point: a word of its own for
// some of the types, else the phase of its Canary
// (pkg/controller/scheduler_hooks.go).
func flaggerPhase(c rollout.HookCall, s rollout.State, outcome rollout.Outcome) string {
	switch c.Type {
	case rollout.HookConfirmRollout:
		return "Waiting"
	case rollout.HookPreRollout, rollout.HookRollout, rollout.HookConfirmTrafficIncrease, rollout.HookConfirmPromotion:
		return "Progressing"
	case rollout.HookPostRollout:
		return endPhase(outcome)
	case rollout.HookRollback, rollout.HookEvent:
	}
	switch c.Phase {
	case rollout.Initializing:
		return "Initializing"
	case rollout.Starting:
		if s.Phase == rollout.Starting && s.Wait == rollout.WaitGate {
			return "Waiting"
		}
	case rollout.Testing, rollout.Progressing:
		if s.Phase == c.Phase && heldAtPromotion(s) {
			return "WaitingPromotion"
		}
	case rollout.Promoting:
		return "Promoting"
	case rollout.Finalizing:
		return "Finalising"
	case rollout.Idle:
		if outcome == "" { // there was no run yet
			return "Initialized"
		}
		return endPhase(outcome)
	case rollout.RollingBack: // until it is over, when Flagger says Failed
	}
	return "Progressing"
}

func endPhase(o rollout.Outcome) string {
	if o == rollout.Promoted {
		return "Succeeded"
	}
	return "Failed"
}

// heldAtPromotion reports whether a gate or a hook before the promotion holds
// the run up.
func heldAtPromotion(s rollout.State) bool {
	return s.Wait == rollout.WaitGate &&
		(slices.ContainsFunc(s.Gates, func(g rollout.Asked) bool { return !g.Open && g.At == rollout.AtPromotion }) ||
			slices.ContainsFunc(s.Hooks, func(a rollout.Answer) bool { return !a.OK && a.Type == rollout.HookConfirmPromotion }))
}
