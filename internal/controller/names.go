package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/translate/istio"
)

const (
	// lookupTime bounds one attempt to resolve a name.
	lookupTime = 5 * time.Second
	// lookupAgain is the time between attempts: a name may be given later.
	lookupAgain = 30 * time.Second
)

// lookUp asks this machine's resolver. Its error is the same for the same cause.
func lookUp(ctx context.Context, host string) error {
	_, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case e.IsNotFound:
			return errors.New("there is no such host")
		case e.IsTimeout:
			return errors.New("the name server does not answer")
		}
	}
	return err
}

// names finds out which addresses of WorkloadEntries cannot be resolved on this
// machine, so that somebody hears of a misspelt one before requests fail. Another
// proxy may know a name that this machine does not: it is a warning.
type names struct {
	lookup  func(ctx context.Context, host string) error
	changed kube.Signal // given when check would say something else

	mu    sync.Mutex
	known map[string]string // by name: why it is not resolved; "" = it is, or nobody knows yet
	asked map[string]bool   // lookups under way
}

// check reports what is known, and looks up in the background what was not
// resolved so far.
func (n *names) check(ctx context.Context, hosts map[mesh.Origin]string) []istio.Finding {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := map[string]string{}
	var out []istio.Finding
	for _, origin := range slices.SortedFunc(maps.Keys(hosts), mesh.Origin.Compare) {
		host := hosts[origin]
		reason, resolved := n.known[host]
		if resolved {
			known[host] = reason
		}
		if reason != "" {
			out = append(out, istio.Finding{
				Severity: istio.Warning,
				Origin:   origin,
				Path:     "spec.address",
				Message:  fmt.Sprintf("%q is not resolved on this machine: %s: correct the name, or write the IP address", host, reason),
			})
		}
		if (!resolved || reason != "") && !n.asked[host] {
			if n.asked == nil {
				n.asked = map[string]bool{}
			}
			n.asked[host] = true
			go n.ask(ctx, host)
		}
	}
	n.known = known
	return out
}

func (n *names) ask(ctx context.Context, host string) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	reason := ""
	if err := n.lookup(ctx, host); err != nil {
		reason = err.Error()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.asked, host)
	before, known := n.known[host]
	if n.known == nil {
		n.known = map[string]string{}
	}
	n.known[host] = reason
	if reason != before || !known && reason != "" {
		n.changed.Give()
	}
}

// failing reports whether there is a name to look up again.
func (n *names) failing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, reason := range n.known {
		if reason != "" {
			return true
		}
	}
	return false
}
