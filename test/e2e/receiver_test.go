package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// receiver stands for the systems of others that Serin calls: webhooks, metric
// providers, chat systems. It answers as it is told, and keeps what it is sent.
type receiver struct {
	mu      sync.Mutex
	answers map[string]string
	calls   map[string][]string
}

func startReceiver(ts *testscript.TestScript, neg bool, files []string) {
	if neg {
		ts.Fatalf("usage: receiver [FILE...]")
	}
	r := &receiver{answers: map[string]string{}, calls: map[string][]string{}}
	server := httptest.NewServer(r)
	ts.Defer(func() {
		server.CloseClientConnections() // some wait for an answer that never comes
		server.Close()
	})
	ts.Setenv("RECEIVER", server.URL)
	for _, file := range files {
		text := strings.ReplaceAll(ts.ReadFile(file), "$RECEIVER", server.URL)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o644))
	}
}

// ServeHTTP takes what scripts say below /answer and /calls, and all else from
// Serin.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the caller was killed
	}
	if what, ok := strings.CutPrefix(req.URL.Path, "/answer/"); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.answers[what] = string(body)
		return
	}
	if what, ok := strings.CutPrefix(req.URL.Path, "/calls/"); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprintln(w, strings.Join(r.calls[what], "\n"))
		return
	}
	what := strings.Trim(req.URL.Path, "/")
	if q := req.FormValue("query"); q != "" {
		what = q
	}
	r.mu.Lock()
	r.calls[what] = append(r.calls[what], req.Method+" "+req.Header.Get("Idempotency-Key")+" "+string(bytes.TrimSpace(body)))
	code, text, _ := strings.Cut(r.answers[what], " ")
	r.mu.Unlock()
	switch n, err := strconv.Atoi(code); {
	case code == "never":
		<-req.Context().Done()
	case err == nil:
		w.WriteHeader(n)
		fmt.Fprint(w, text)
	}
}
