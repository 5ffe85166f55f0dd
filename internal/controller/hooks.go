package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

const (
	// firstPause doubles from one try of a call to the next, up to longestPause;
	// Flagger's clients wait as long.
	firstPause, longestPause = time.Second, 30 * time.Second

	// hookTimeout is for a webhook that sets none.
	hookTimeout = 10 * time.Second

	// maxAnswer is how much of a hook's answer is read, and maxReason how much
	// of it is repeated.
	maxAnswer, maxReason = 4 << 10, 200

	// mostRedirects is how many are followed, as by Go's own client.
	mostRedirects = 10

	// headerIdempotency carries what stays the same when a call is repeated
	// (draft-ietf-httpapi-idempotency-key-header).
	headerIdempotency = "Idempotency-Key"
)

// hooks makes the calls that one release wants, beside the loop. Each hook is
// called one at a time, in the order in which its calls were decided: there are
// never more calls under way than the plan has hooks, an event never overtakes
// an earlier one, and one that does not answer holds up no other.
type hooks struct {
	client *http.Client // through the mesh
	lax    *http.Client // the same, which accepts any certificate
	wake   func()       // after each result
	count  func(of rollout.HookType, ok bool)

	mu    sync.Mutex
	calls map[string]*call // those that are wanted, by ID
}

// call is one call; its result stays until nobody wants it any more.
type call struct {
	line   string // one call of it is under way at a time
	stop   context.CancelFunc
	begun  bool
	result *rollout.HookResult // nil: not known yet
}

// order is a call with all that it takes to make it.
type order struct {
	rollout.HookCall
	hook v1alpha1.Webhook
	key  string // for the receiver, to tell a repeated call
	body []byte
}

// keep makes the calls that are wanted, each once, and drops those that are not
// wanted any more; their results are of no use.
func (h *hooks) keep(ctx context.Context, wanted []rollout.HookCall, orderOf func(rollout.HookCall) (order, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.calls
	h.calls = make(map[string]*call, len(wanted))
	busy := map[string]bool{}
	for _, w := range wanted {
		c := was[w.ID]
		if c == nil {
			c = &call{line: string(w.Type) + " " + w.Name, stop: func() {}}
		}
		delete(was, w.ID)
		h.calls[w.ID] = c
		if c.begun && c.result == nil {
			busy[c.line] = true
		}
	}
	for _, c := range was {
		c.stop()
	}
	for _, w := range wanted {
		c := h.calls[w.ID]
		if c.begun || busy[c.line] {
			continue
		}
		c.begun, busy[c.line] = true, true
		o, err := orderOf(w)
		if err != nil {
			c.result = &rollout.HookResult{ID: w.ID, Reason: err.Error()}
			h.wake()
			continue
		}
		var callCtx context.Context
		callCtx, c.stop = context.WithCancel(ctx)
		go h.make(callCtx, c, o)
	}
}

// results are those of the calls that are wanted, as often as it is asked.
func (h *hooks) results() []rollout.HookResult {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []rollout.HookResult
	for _, c := range h.calls {
		if c.result != nil {
			out = append(out, *c.result)
		}
	}
	return out
}

// stop gives all calls up.
func (h *hooks) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		c.stop()
	}
	h.calls = nil
}

func (h *hooks) make(ctx context.Context, c *call, o order) {
	err := h.try(ctx, o)
	if ctx.Err() != nil {
		return // Serin stops, and calls again when it is back; or nobody asks any more
	}
	result := &rollout.HookResult{ID: o.ID, OK: err == nil}
	if err != nil {
		result.Reason = err.Error()
	}
	if h.count != nil {
		h.count(o.Type, err == nil)
	}
	h.mu.Lock()
	c.stop()
	c.result = result
	h.mu.Unlock()
	h.wake()
}

// try calls until one call succeeds, or an answer is final, or there were as
// many retries as the hook allows.
func (h *hooks) try(ctx context.Context, o order) error {
	pause := firstPause
	for left := o.hook.Retries; ; left-- {
		again, err := h.once(ctx, o)
		if err == nil || !again || left <= 0 {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, longestPause)
	}
}

// once calls. Of a failure it says whether another call may end otherwise: an
// answer such as 403 is a no and stays one, a server's trouble passes.
func (h *hooks) once(ctx context.Context, o order) (again bool, err error) {
	timeout := o.hook.Timeout.Duration
	if timeout <= 0 {
		timeout = hookTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.hook.URL, bytes.NewReader(o.body))
	if err != nil {
		return false, errors.New("its url cannot be read")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(headerIdempotency, (&url.URL{Path: o.key}).EscapedPath())
	client := *h.client
	if o.hook.DisableTLS {
		client = *h.lax
	}
	client.CheckRedirect = sameMethod
	where := req.URL.Scheme + "://" + req.URL.Host + req.URL.EscapedPath() // a query may hold a token
	resp, err := client.Do(req)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // the outer one shows the whole URL
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return true, fmt.Errorf("%s did not answer within %v", where, timeout)
		}
		return true, fmt.Errorf("%s: %w", where, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return false, nil // whatever else it would have said
	case err != nil:
		return true, fmt.Errorf("%s answered %d, and the answer broke off", where, code)
	default:
		again = code == http.StatusTooManyRequests || code >= 500 && code != http.StatusNotImplemented
		return again, fmt.Errorf("%s answered %d%s", where, code, brief(text))
	}
}

// sameMethod follows a redirect that repeats the call. One that turns it into a
// GET, as to the page of a login, is an answer that says neither yes nor no.
func sameMethod(req *http.Request, before []*http.Request) error {
	switch {
	case req.Method != before[0].Method:
		return http.ErrUseLastResponse
	case len(before) >= mostRedirects:
		return fmt.Errorf("more than %d redirects", mostRedirects)
	}
	return nil
}

// brief is what an answer says, in part and on one line.
func brief(text []byte) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "")), " ")
	if r := []rune(s); len(r) > maxReason {
		s = string(r[:maxReason]) + "…"
	}
	if s == "" {
		return ""
	}
	return ": " + s
}
