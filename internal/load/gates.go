package load

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// gates are switches that a person sets and webhooks ask for, one for each
// canary and purpose: those of Flagger's load tester (docs.flagger.app,
// "Webhooks"). They are closed until they are opened, and forgotten with the
// process.
type gates struct {
	mu   sync.Mutex
	open map[gate]bool
}

// maxGates bounds what callers can make the process remember.
const maxGates = 10_000

// gate identifies a switch.
type gate struct{ purpose, namespace, name string }

// handle adds the paths of the gates. Those of a rollback are switches of their
// own: what lets a canary advance must not take it back.
func (g *gates) handle(mux *http.ServeMux) {
	mux.HandleFunc("/gate/approve", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "OK") })
	mux.HandleFunc("/gate/halt", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusForbidden, "Forbidden") })
	for _, purpose := range []string{"gate", "rollback"} {
		mux.HandleFunc("POST /"+purpose+"/check", g.check(purpose))
		mux.HandleFunc("POST /"+purpose+"/open", g.set(purpose, true))
		mux.HandleFunc("POST /"+purpose+"/close", g.set(purpose, false))
	}
}

func (g *gates) check(purpose string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		at, ok := readGate(w, r, purpose)
		if !ok {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.open[at] {
			answer(w, http.StatusForbidden, fmt.Sprintf("the %s of %s.%s is closed", purpose, at.name, at.namespace))
			return
		}
		answer(w, http.StatusOK, "OK")
	}
}

func (g *gates) set(purpose string, open bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		at, ok := readGate(w, r, purpose)
		if !ok {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.open == nil {
			g.open = map[gate]bool{}
		}
		switch {
		case !open:
			delete(g.open, at)
		case len(g.open) >= maxGates && !g.open[at]:
			answer(w, http.StatusTooManyRequests, fmt.Sprintf("%d gates are open, which is all there may be: close one", maxGates))
			return
		default:
			g.open[at] = true
		}
		answer(w, http.StatusAccepted, "OK")
	}
}

// readGate reads which gate a request is about; false = it was answered.
func readGate(w http.ResponseWriter, r *http.Request, purpose string) (gate, bool) {
	var payload struct{ Name, Namespace string }
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPayload)).Decode(&payload)
	if err != nil || payload.Name == "" || payload.Namespace == "" {
		answer(w, http.StatusBadRequest, `the body must be JSON with the name and the namespace of a canary, such as {"name": "podinfo", "namespace": "test"}`)
		return gate{}, false
	}
	return gate{purpose, payload.Namespace, payload.Name}, true
}
