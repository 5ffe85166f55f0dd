package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"serin.dev/serin/api/v1alpha1"
)

// hookPayload is what Flagger sends to a webhook; its receivers work here
// unchanged (docs.flagger.app, "Webhooks").
type hookPayload struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Phase     string            `json:"phase"`
	Checksum  string            `json:"checksum"`
	Metadata  map[string]string `json:"metadata,omitempty"`
}

// hooks calls a run's webhooks once per interval, beside the loop, and counts
// the calls that failed until they are taken.
type hooks struct {
	client *http.Client

	mu       sync.Mutex
	next     time.Time
	busy     bool
	failures int
	last     error
}

// due starts a round of calls if it is time for one and none is under way.
func (h *hooks) due(ctx context.Context, r *v1alpha1.Release, now time.Time) {
	if len(r.Spec.Webhooks) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy || now.Before(h.next) {
		return
	}
	h.busy = true
	h.next = now.Add(r.Spec.Judge.Interval.Duration)
	go h.round(ctx, r.DeepCopy())
}

func (h *hooks) round(ctx context.Context, r *v1alpha1.Release) {
	failures, last := 0, error(nil)
	for _, w := range r.Spec.Webhooks {
		if err := h.call(ctx, r, w); err != nil && ctx.Err() == nil {
			failures++
			last = fmt.Errorf("webhook %s failed: %w", w.Name, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = false
	h.failures += failures
	h.last = last
}

func (h *hooks) call(ctx context.Context, r *v1alpha1.Release, w v1alpha1.Webhook) error {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout.Duration)
	defer cancel()
	body, err := json.Marshal(hookPayload{
		Name: r.Name, Namespace: r.Namespace, Phase: r.Status.Phase,
		Checksum: r.Status.Canary.Revision, Metadata: w.Metadata,
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// Enough of the answer to say what is wrong, whatever its size.
	text, err := io.ReadAll(io.LimitReader(resp.Body, 512))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %d: %s", w.URL, resp.StatusCode, strings.TrimSpace(string(text)))
	}
	return nil
}

// take returns the failed calls since the last take, with the last error.
func (h *hooks) take() (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.failures
	h.failures = 0
	return n, h.last
}
