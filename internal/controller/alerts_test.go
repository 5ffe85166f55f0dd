package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/notify"
	"serin.dev/serin/internal/rollout"
)

func TestAlertsCarryTheEvidenceByTheirSeverity(t *testing.T) {
	rel, run := midRun(t)
	e := rollout.Event{
		Stable: "aaa", Canary: "bbb", Run: 3, Phase: rollout.Progressing, Step: 2, Steps: 2,
		Traffic: rollout.Traffic{Share: 5000}, Evidence: run.journal.State.Evidence,
	}
	var out strings.Builder
	show := func(warning bool, reason, message string) {
		e.Warning, e.Reason, e.Message = warning, reason, message
		a := alertOf(rel.Release, run, e)
		fmt.Fprintf(&out, "%s %s.%s: %s\n", a.Severity, a.Release, a.Namespace, a.Title)
		for _, f := range a.Fields {
			fmt.Fprintf(&out, "\t%s: %s\n", f.Name, f.Value)
		}
	}
	show(false, "StepReached", "the canary gets 50 %: step 2 of 2")
	e.Evidence.Checks = checkResults()
	e.Evidence.LogE = 1000
	show(true, "CheckFailed", "latency is 812")
	show(true, "CheckWarned", "orders is 7, at least 10 is asked for")
	show(true, "CheckNotMeasured", "orders could not be read: connection refused")
	show(false, "CheckMeasured", "orders is measured again")
	e.Traffic = rollout.Traffic{Share: rollout.All, Match: true}
	show(false, "GateAsked", "gate qa is asked (at Promotion)")
	e.Traffic = rollout.Traffic{Mirror: 1000}
	show(true, "RollingBack", "v2 is taken back")
	e = rollout.Event{Stable: "aaa"}
	show(true, "HeldUp", "the API cannot be written")
	recorded(t, "alerts.txt", out.String())
}

func TestAMutedWebhookRaisesNoAlert(t *testing.T) {
	r := &v1alpha1.Release{}
	r.Spec.Webhooks = []v1alpha1.Webhook{{Name: "load", MuteAlert: true}, {Name: "smoke"}}
	f := func(reason, message string, want bool) {
		t.Helper()
		if got := muted(r, &rollout.Event{Reason: reason, Message: message}); got != want {
			t.Errorf("%s %q: muted = %v, want %v", reason, message, got, want)
		}
	}
	f("CheckFailed", "webhook load failed: it answered 500", true)
	f("HookFailed", "webhook load failed", true)
	f("GateClosed", "before step 1: webhook load says no: 403", true)
	f("GateClosed", "before step 1: webhook smoke says no", false)
	f("CheckFailed", "webhook smoke failed: it answered 500", false)
	f("CheckFailed", "latency is 812", false)
	f("RollingBack", "v2 is taken back: webhook load failed: it answered 500", false)
}

// chat is a chat system that takes messages or does not.
type chat struct {
	*httptest.Server
	code atomic.Int32
	got  chan string
}

func newChat(t *testing.T) *chat {
	c := &chat{got: make(chan string, 100)}
	c.code.Store(http.StatusOK)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var message struct {
			Channel     string
			Attachments []struct{ Text string }
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &message)
		}
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(int(c.code.Load()))
		c.got <- message.Channel + " " + message.Attachments[0].Text
	}))
	t.Cleanup(c.Close)
	return c
}

func TestAlertsAreSentInOrderAndALossIsToldOnce(t *testing.T) {
	c := newChat(t)
	lost := make(chan string, 10)
	a := &alerts{read: func(_ context.Context, namespace, name string) (notify.Config, error) {
		if name == "gone" {
			return notify.Config{}, errors.New("no provider " + namespace + "/" + name)
		}
		return notify.Config{Type: "slack", Address: c.URL, Channel: namespace + "/" + name}, nil
	}}
	r := &v1alpha1.Release{}
	r.Namespace = "shop"
	r.Spec.Alerts = []v1alpha1.Alert{
		{Name: "all", Severity: "info", Provider: v1alpha1.ObjectRef{Name: "team"}},
		{Name: "bad", Severity: "error", Provider: v1alpha1.ObjectRef{Name: "pager", Namespace: "ops"}},
		{Name: "lost", Severity: "warn", Provider: v1alpha1.ObjectRef{Name: "gone"}},
	}
	tell := func(s notify.Severity, title string) {
		a.tell(t.Context(), r, notify.Alert{Severity: s, Title: title}, func(name string, err error) { lost <- name + ": " + err.Error() })
	}
	tell(notify.Info, "one")
	tell(notify.Warn, "two")
	tell(notify.Info, "three")
	for _, want := range []string{"one", "two", "three"} {
		if got := <-c.got; got != "shop/team "+want {
			t.Errorf("the team is told %q, want %s", got, want)
		}
	}
	tell(notify.Error, "four")
	got := map[string]bool{<-c.got: true, <-c.got: true}
	if !got["shop/team four"] || !got["ops/pager four"] {
		t.Errorf("of an error are told %v, want the team and the pager", got)
	}
	if got, want := <-lost, "lost: no provider shop/gone"; got != want {
		t.Errorf("told of a loss: %q, want %q", got, want)
	}
	a.settle(t)
	if len(lost) != 0 {
		t.Errorf("the same loss is told again: %q", <-lost)
	}

	c.code.Store(http.StatusForbidden) // not worth another try
	tell(notify.Info, "five")
	tell(notify.Info, "six")
	if got := <-lost; !strings.HasPrefix(got, "all: slack at ") {
		t.Errorf("told of a loss: %q", got)
	}
	a.settle(t)
	c.code.Store(http.StatusOK)
	tell(notify.Info, "seven")
	a.settle(t)
	c.code.Store(http.StatusForbidden)
	tell(notify.Info, "eight")
	if got := <-lost; !strings.HasPrefix(got, "all: slack at ") {
		t.Errorf("told of the next loss: %q", got)
	}
}

// settle waits until nothing is to be sent.
func (a *alerts) settle(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for t.Context().Err() == nil {
		if a.idle() {
			return
		}
		<-tick.C
	}
}
