package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

// receiver is what answers webhooks; it notes the calls with the time since it
// was made.
type receiver struct {
	*testing.T
	begun  time.Time
	answer func(n int, r *http.Request) (code int, text string)

	mu    sync.Mutex
	calls []string
}

// RoundTrip answers without a network, so that time can be faked.
func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.Error(err)
	}
	r.mu.Lock()
	n := len(r.calls)
	r.calls = append(r.calls, fmt.Sprintf("%v %s %s", time.Since(r.begun), req.Header.Get("Idempotency-Key"), body))
	r.mu.Unlock()
	code, text := r.answer(n, req)
	w := httptest.NewRecorder()
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	http.Error(w, text, code)
	return w.Result(), nil
}

func newReceiver(t *testing.T, codes ...int) *receiver {
	r := &receiver{T: t, begun: time.Now()}
	r.answer = func(n int, _ *http.Request) (int, string) { return codes[min(n, len(codes)-1)], "said\nso" }
	return r
}

func (r *receiver) hooks() *hooks {
	client := &http.Client{Transport: r}
	return &hooks{client: client, lax: client, wake: func() {}}
}

// ordered orders calls of a hook.
func ordered(w v1alpha1.Webhook) func(rollout.HookCall) (order, error) {
	return func(c rollout.HookCall) (order, error) {
		return order{HookCall: c, hook: w, key: "uid/" + c.ID, body: []byte(c.ID)}, nil
	}
}

func webhook(retries int32) v1alpha1.Webhook {
	w := v1alpha1.Webhook{Name: "load", URL: "http://someone:secret@tester/hook?token=secret", Retries: retries}
	w.Timeout.Duration = 4500 * time.Millisecond
	return w
}

func wanted(ids ...string) []rollout.HookCall {
	var out []rollout.HookCall
	for _, id := range ids {
		name, _, _ := strings.Cut(id, "/")
		out = append(out, rollout.HookCall{ID: id, Type: rollout.HookRollout, Name: name})
	}
	return out
}

func TestACallIsMadeOncePerID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t, 200)
		h := r.hooks()
		for range 10 {
			h.keep(t.Context(), wanted("load/1"), ordered(webhook(0)))
			synctest.Wait()
		}
		want := []rollout.HookResult{{ID: "load/1", OK: true}}
		for range 2 { // the loop may have to be told again
			if diff := cmp.Diff(want, h.results()); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
		}
		if diff := cmp.Diff([]string{"0s uid/load/1 load/1"}, r.calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		h.keep(t.Context(), nil, ordered(webhook(0)))
		if got := h.results(); got != nil {
			t.Errorf("results that nobody wants: %v", got)
		}

		// Another process knows nothing of it and calls again, with the same key.
		h = r.hooks()
		h.keep(t.Context(), wanted("load/1"), ordered(webhook(0)))
		synctest.Wait()
		if len(r.calls) != 2 || r.calls[0] != r.calls[1] {
			t.Errorf("calls after a restart = %q, want the same once more", r.calls)
		}
	})
}

func TestAHookIsCalledAgainWhenTryingMayHelp(t *testing.T) {
	cases := []struct {
		name    string
		retries int32
		codes   []int
		calls   []string
		want    rollout.HookResult
	}{
		{"success", 3, []int{200}, []string{"0s"}, rollout.HookResult{OK: true}},
		{"a no is an answer", 3, []int{403}, []string{"0s"}, rollout.HookResult{Reason: "http://tester/hook answered 403: said so"}},
		{"trouble that passes", 3, []int{503, 429, 200}, []string{"0s", "1s", "3s"}, rollout.HookResult{OK: true}},
		{"trouble that stays", 2, []int{500}, []string{"0s", "1s", "3s"}, rollout.HookResult{Reason: "http://tester/hook answered 500: said so"}},
		{"no retries", 0, []int{500}, []string{"0s"}, rollout.HookResult{Reason: "http://tester/hook answered 500: said so"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReceiver(t, c.codes...)
				h := r.hooks()
				h.keep(t.Context(), wanted("load/1"), ordered(webhook(c.retries)))
				time.Sleep(time.Minute)
				c.want.ID = "load/1"
				if diff := cmp.Diff([]rollout.HookResult{c.want}, h.results()); diff != "" {
					t.Errorf("results (-want +got):\n%s", diff)
				}
				for i := range c.calls {
					c.calls[i] += " uid/load/1 load/1"
				}
				if diff := cmp.Diff(c.calls, r.calls); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A page that a gate is redirected to, such as that of a login, says neither yes
// nor no; the same call at another place is the call.
func TestARedirectIsNoYes(t *testing.T) {
	var calls []string
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		calls = append(calls, r.Method+" "+r.URL.Path+" "+string(body))
		if code, err := strconv.Atoi(r.URL.Path[1:]); err == nil {
			http.Redirect(w, r, "/login", code)
		}
		if r.URL.Path == "/round" {
			http.Redirect(w, r, "/round", http.StatusPermanentRedirect)
		}
	}))
	t.Cleanup(moved.Close)
	for _, tt := range []struct {
		path  string
		calls []string
		want  string // "" = a yes
	}{
		{"/302", []string{"POST /302 {}"}, "answered 302"},
		{"/303", []string{"POST /303 {}"}, "answered 303"},
		{"/307", []string{"POST /307 {}", "POST /login {}"}, ""},
		{"/round", slices.Repeat([]string{"POST /round {}"}, 10), "more than 10 redirects"},
	} {
		calls = nil
		h := &hooks{client: moved.Client()}
		_, err := h.once(t.Context(), order{hook: v1alpha1.Webhook{URL: moved.URL + tt.path}, body: []byte("{}")})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", tt.path, err, tt.want)
		}
		if diff := cmp.Diff(tt.calls, calls); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", tt.path, diff)
		}
	}
}

func TestNoHookHoldsUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		r.answer = func(_ int, req *http.Request) (int, string) {
			if strings.Contains(req.Header.Get("Idempotency-Key"), "slow") {
				<-req.Context().Done()
			}
			return 200, ""
		}
		h := r.hooks()
		want := wanted("slow/1", "slow/2", "fast/3", "fast/4")
		for range 12 {
			h.keep(t.Context(), want, ordered(webhook(0)))
			time.Sleep(time.Second)
		}
		got := map[string]string{}
		for _, res := range h.results() {
			got[res.ID] = res.Reason
		}
		late := "http://tester/hook did not answer within 4.5s"
		if diff := cmp.Diff(map[string]string{"slow/1": late, "slow/2": late, "fast/3": "", "fast/4": ""}, got); diff != "" {
			t.Errorf("reasons (-want +got):\n%s", diff)
		}
		// Each hook's calls one after the other.
		calls := []string{
			"0s uid/slow/1 slow/1", "0s uid/fast/3 fast/3", "1s uid/fast/4 fast/4", "5s uid/slow/2 slow/2",
		}
		sorted := cmp.Transformer("set", func(in []string) map[string]bool {
			out := map[string]bool{}
			for _, s := range in {
				out[s] = true
			}
			return out
		})
		if diff := cmp.Diff(calls, r.calls, sorted); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestACallThatNobodyWantsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		r.answer = func(_ int, req *http.Request) (int, string) {
			<-req.Context().Done()
			return 200, ""
		}
		h := r.hooks()
		ctx, cancel := context.WithCancel(t.Context())
		h.keep(ctx, wanted("a/1", "b/2"), ordered(webhook(9)))
		synctest.Wait()
		h.keep(ctx, wanted("b/2"), ordered(webhook(9)))
		synctest.Wait()
		cancel() // Serin stops: no answer is made up
		synctest.Wait()
		if got := h.results(); got != nil {
			t.Errorf("results = %v, want none", got)
		}
		if len(r.calls) != 2 {
			t.Errorf("calls = %q, want one for each", r.calls)
		}
	})
}

type failing struct{ error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.error }

func TestErrorsOfHooksShowNoSecret(t *testing.T) {
	h := &hooks{client: &http.Client{Transport: failing{errors.New("connection refused")}}}
	err := h.try(t.Context(), order{hook: webhook(0)})
	if want := "http://tester/hook: connection refused"; err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}
