package load

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Each line is a call and its answer; the server is the same for all.
func TestGatesAreAsTheyWereSet(t *testing.T) {
	s := NewServer(t.Context(), nil, slog.New(slog.DiscardHandler))
	one, other := `{"name":"podinfo","namespace":"test","phase":"Progressing"}`, `{"name":"podinfo","namespace":"prod"}`
	for i, step := range []struct {
		path, body string
		want       int
	}{
		{"/gate/check", one, 403},
		{"/gate/open", one, 202},
		{"/gate/check", one, 200},
		{"/gate/check", other, 403},
		{"/rollback/check", one, 403},
		{"/rollback/open", one, 202},
		{"/rollback/check", one, 200},
		{"/rollback/close", one, 202},
		{"/rollback/check", one, 403},
		{"/gate/check", one, 200},
		{"/gate/close", one, 202},
		{"/gate/close", one, 202},
		{"/gate/check", one, 403},
		{"/gate/approve", "", 200},
		{"/gate/halt", "", 403},
		{"/gate/check", `{"name":"podinfo"}`, 400},
		{"/gate/open", `podinfo`, 400},
		{"/gate/open", `{"name":"podinfo","namespace":"` + strings.Repeat("x", maxPayload) + `"}`, 400},
	} {
		if code, text := postTo(t, s, step.path, step.body); code != step.want {
			t.Errorf("call %d, POST %s: %d %s, want %d", i, step.path, code, text, step.want)
		}
	}
}

func TestGatesAreBounded(t *testing.T) {
	s := NewServer(t.Context(), nil, slog.New(slog.DiscardHandler))
	body := func(i int) string { return fmt.Sprintf(`{"name":"c%d","namespace":"test"}`, i) }
	for i := range maxGates {
		if code, text := postTo(t, s, "/gate/open", body(i)); code != http.StatusAccepted {
			t.Fatalf("gate %d: %d %s", i, code, text)
		}
	}
	if code, _ := postTo(t, s, "/gate/open", body(maxGates)); code != http.StatusTooManyRequests {
		t.Errorf("one gate too many: %d, want 429", code)
	}
	if code, _ := postTo(t, s, "/gate/open", body(0)); code != http.StatusAccepted {
		t.Errorf("a gate that is open: %d, want 202", code)
	}
}

func postTo(t *testing.T, s *Server, path, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}
