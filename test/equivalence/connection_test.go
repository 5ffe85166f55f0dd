package equivalence

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
)

// connect makes a random connection on both planes and compares where it goes,
// with each other and with what mesh.ResolveStream says.
func (s *suite) connect(t *testing.T, r *rand.Rand, snapshot *mesh.Snapshot, kinds map[string]int) {
	c := meshtest.Connection(r, snapshot)
	if c.Gateway == 0 {
		c.Namespace, c.Labels = caller.Workload.Namespace, caller.Labels
	}
	q := s.connection(&c)
	if q == nil || c.Gateway != 0 && endsTLS(snapshot, c.Gateway) && c.SNI == "" {
		return // what is not TLS is no request there either
	}
	want := snapshot.ResolveStream(c)
	if want.Outside || want.TLS != nil {
		return // these are requests
	}
	ours, envoys := s.call(t, q, 0)
	if envoys == nil {
		return
	}
	var texts [2]string
	for i, o := range []*outcome{ours, envoys} {
		if err := checkStream(o, q, &want, snapshot); err != nil {
			t.Errorf("%s: %v", s.parties[i].name(), err)
		}
		texts[i] = streamText(o, &want)
	}
	if texts[0] != texts[1] {
		t.Errorf("the planes differ (-ours +Envoy):\n%s", cmp.Diff(texts[0], texts[1]))
	}
	if t.Failed() {
		t.Fatalf("%s: %+v\nby %+v\n%s", q.listener, c, want.Stream, snapshot)
	}
	if len(ours.Visits) > 0 {
		kinds["connected"]++
	} else {
		kinds["disconnected"]++
	}
}

// connection is a connection in bytes; nil where no listener takes it.
func (s *suite) connection(c *mesh.Connection) *call {
	q := &call{talk: []string{"tcp CALL hello"}, sni: c.SNI, trusting: true, url: &url.URL{}}
	to := upstreamPort{mesh.ServiceName(c.Host), c.Port}
	switch {
	case c.Gateway != 0 && slices.Contains(gatewayPorts, c.Gateway):
		q.listener = gatewayListener(c.Gateway)
	case c.Gateway != 0:
		return nil
	case slices.Contains(upstreams, to):
		q.listener = upstreamListener(to)
	default:
		// Whatever is asked for by TLS comes behind the answer.
		c.SNI, q.sni = "", ""
		q.listener, q.method, q.url.Host = outboundListener, http.MethodConnect, fmt.Sprintf("%s:%d", c.Host, c.Port)
	}
	return q
}

// checkStream compares an outcome with what mesh.ResolveStream says.
func checkStream(o *outcome, q *call, want *mesh.StreamOutcome, s *mesh.Snapshot) error {
	var addresses []string
	certain := len(want.Ways) > 0
	for _, w := range want.Ways {
		if len(w.Endpoints) == 0 || !certainly(s, &w, q.sni != "") {
			certain = false
		}
		for i := range w.Endpoints {
			addresses = append(addresses, w.Endpoints[i].Dial)
		}
	}
	switch {
	case len(o.Visits) == 0 && certain:
		return fmt.Errorf("reached nobody (%s), want one of %v", o.statusLine(), addresses)
	case len(o.Visits) > 1, len(o.Visits) == 1 && !slices.Contains(addresses, o.Visits[0].Address):
		return fmt.Errorf("came to %v, want one of %v", o.Visits, addresses)
	}
	return nil
}

// certainly reports whether a connection that goes a way comes to one of its
// endpoints. They do not understand TLS in TLS.
func certainly(s *mesh.Snapshot, w *mesh.Way, secure bool) bool {
	d := mesh.Destination{Service: w.Service, Port: w.Endpoints[0].Port, Subset: w.Subset}
	return len(s.Services[w.Service].Access) == 0 && reached(s, d) && !(secure && policyOf(s, d, 0).TLS != nil)
}

// streamText is what both planes must agree on.
func streamText(o *outcome, want *mesh.StreamOutcome) string {
	if len(want.Ways) > 1 {
		return "one of several ways"
	}
	if len(o.Visits) == 0 {
		if o.Status != 0 {
			return fmt.Sprint(o.Status)
		}
		return "reached nobody"
	}
	delete(o.Header, "set-cookie") // that Envoy makes for the choice of an endpoint
	text := strings.Join(o.lines(), "\n")
	if len(want.Ways[0].Endpoints) > 1 {
		text = strings.ReplaceAll(text, o.Visits[0].Endpoint, "(endpoint)")
	}
	return text
}
