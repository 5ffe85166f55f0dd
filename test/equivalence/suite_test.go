package equivalence

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
)

// suite is both planes, for all tests: an Envoy starts in a second, and takes a
// new snapshot in milliseconds.
type suite struct {
	pki       *pki
	fleet     *fleet // of the story that is played
	app       *application
	parties   []*party
	version   mesh.SnapshotVersion
	explained map[string]bool
	lost      atomic.Int64 // records that an Envoy lost
}

// party is one plane with its callers.
type party struct {
	plane
	suite   *suite
	callers *callers
	calls   *atomic.Int64
}

var oursAlone = flag.Bool("ours-alone", false, "tell the stories without Envoy")

func TestEquivalence(t *testing.T) {
	s := &suite{pki: newPKI(t), explained: headings(t), app: startApplication(t)}
	// What our proxy, too, takes for the authorities of its machine.
	t.Setenv("SSL_CERT_FILE", s.pki.file(t))
	planes := []plane{startSerin(t, s.app.address)}
	if !*oursAlone {
		planes = append(planes, startEnvoy(t, s.pki, s.app.address))
	}
	for _, p := range planes {
		s.parties = append(s.parties, &party{plane: p, suite: s, callers: newCallers(s.pki), calls: new(atomic.Int64)})
	}
	t.Run("stories", s.stories)
	t.Run("generated", s.generated)
	t.Run("hostile", s.hostile)
}

// newFleet makes the endpoints of another story or test.
func (s *suite) newFleet(t testing.TB) {
	s.fleet = newFleet(t, s.pki.endpoint)
	s.app.fleet.Store(s.fleet)
}

// both does something on each plane at the same time.
func (s *suite) both(do func(*party)) {
	var wg sync.WaitGroup
	for _, p := range s.parties {
		wg.Go(func() { do(p) })
	}
	wg.Wait()
}

func (s *suite) hangUp() { s.both(func(p *party) { p.callers.hangUp() }) }

// alone is the party with a caller of its own, who shares no connection.
func (p *party) alone() *party {
	other := *p
	other.callers = newCallers(p.suite.pki)
	return &other
}

// markerHost answers with the version of the snapshot in force.
const markerHost = "marker.equivalence"

// settle applies a snapshot to both planes, or one to each, and waits until it
// is in effect there. It adds a host that tells the version, and takes the
// version that comes next.
func (s *suite) settle(t *testing.T, snapshots ...*mesh.Snapshot) {
	t.Helper()
	s.version++
	var listeners map[string]*call
	for _, snapshot := range snapshots {
		listeners = s.mark(t, snapshot)
		if err := snapshot.Validate(); err != nil {
			t.Fatalf("%v\n%s", err, snapshot)
		}
	}
	s.hangUp()
	of := map[*party]*mesh.Snapshot{}
	for i, p := range s.parties {
		of[p] = snapshots[min(i, len(snapshots)-1)]
	}
	s.both(func(p *party) {
		p.apply(t, of[p])
		p.awaitMarkers(t, listeners)
	})
	if t.Failed() {
		t.FailNow()
	}
}

// mark adds a host that tells the version, and returns how to ask for it at
// each listener.
func (s *suite) mark(t *testing.T, snapshot *mesh.Snapshot) map[string]*call {
	snapshot.Version = s.version
	says := func(where string) []mesh.VirtualHost {
		return []mesh.VirtualHost{{Hosts: []string{markerHost}, Routes: []mesh.Route{{
			Name: "marker", Direct: &mesh.DirectAnswer{Status: 200, Body: fmt.Sprintf("%s %d", where, s.version)},
		}}}}
	}
	listeners := map[string]*call{}
	ask := func(listener, scheme, sni string) {
		listeners[listener] = &call{
			listener: listener, method: http.MethodGet, sni: sni, url: &url.URL{Scheme: scheme, Host: markerHost, Path: "/"},
		}
	}
	snapshot.Hosts = append(snapshot.Hosts, says(outboundListener)...)
	ask(outboundListener, "http", "")
	plain := gatewayListener(80)
	snapshot.Gateways = append(snapshot.Gateways, mesh.Gateway{Name: "equivalence/marker", Port: 80, VirtualHosts: says(plain)})
	ask(plain, "http", "")
	for i := range snapshot.Gateways {
		if g := snapshot.Gateways[i]; len(g.TLS) > 0 && g.Port == 443 && !carriesBytes(snapshot, 443) {
			secure := gatewayListener(443)
			snapshot.Certificates["equivalence/marker"] = s.pki.leaf(t, markerHost)
			snapshot.Gateways = append(snapshot.Gateways, mesh.Gateway{
				Name: "equivalence/marker", Port: 443, VirtualHosts: says(secure),
				TLS: []mesh.ServerTLS{{Hosts: []string{markerHost}, Certificate: "equivalence/marker"}},
			})
			ask(secure, "https", markerHost)
			break
		}
	}
	return listeners
}

// carriesBytes reports whether a gateway's port carries bytes for those who end
// their TLS at it.
func carriesBytes(s *mesh.Snapshot, port uint16) bool {
	return slices.ContainsFunc(s.Gateways, func(g mesh.Gateway) bool {
		return g.Port == port && slices.ContainsFunc(g.Streams, func(to mesh.Stream) bool { return !to.SNI() })
	})
}

// awaitMarkers asks each listener until it answers with the version that was
// just applied. An Envoy acknowledges before its threads have what it
// acknowledged.
func (p *party) awaitMarkers(t *testing.T, listeners map[string]*call) {
	for listener, q := range listeners {
		want := fmt.Sprintf("%s %d", listener, p.suite.version)
		deadline := time.Now().Add(patience)
		for {
			a := newCallers(p.suite.pki).do(q, p.address(listener), "Connection: close")
			if a.Body == want {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s at %s: says %q (%d %s), want %q", p.name(), listener, a.Body, a.Status, a.Err, want)
				return
			}
		}
	}
}

// call makes one call on both planes.
func (s *suite) call(t *testing.T, q *call, sees int) (ours, envoys *outcome) {
	all := make([]*outcome, len(s.parties))
	var wg sync.WaitGroup
	for i, p := range s.parties {
		wg.Go(func() { all[i] = p.call(t, q, sees) })
	}
	wg.Wait()
	if len(all) == 1 {
		return all[0], nil
	}
	return all[0], all[1]
}

// call makes one call and collects what it caused.
func (p *party) call(t *testing.T, q *call, sees int) *outcome {
	id := fmt.Sprintf("%s-%d", p.name(), p.calls.Add(1))
	address := p.address(q.listener)
	if address == "" {
		t.Errorf("%s has no listener %s", p.name(), q.listener)
		return &outcome{}
	}
	to := *q
	to.url = p.suite.fleet.outside(q.url)
	if q.method == "" || q.method == http.MethodConnect {
		to.talk = nil
		for _, line := range q.talk {
			to.talk = append(to.talk, strings.ReplaceAll(line, "CALL", id))
		}
	}
	extra := []string{headerCall + ": " + id}
	if !strings.Contains(strings.ToLower(strings.Join(q.header, "\n")), "x-request-id") {
		extra = append(extra, "x-request-id: "+id)
	}
	o := &outcome{answer: p.callers.do(&to, address, extra...)}
	if o.Err == "left" {
		// What the endpoint saw of it is a matter of speed.
		sees = max(sees, 1)
	}
	o.Visits = p.suite.fleet.visits(id, sees, patience)
	o.id = id
	return o
}

// mayLose is how many calls are made again because an Envoy lost their record: it
// drops what it cannot send at once, as on a machine that is busy with something
// else. Whatever is made again is compared like everything.
const mayLose = 2

// complete waits for the record of a call, if it has one that can be found.
func (p *party) complete(t *testing.T, q *call, o *outcome) {
	if !p.recorded(q, o) {
		t.Errorf("%s recorded nothing of %s: %s %s %q", p.name(), o.id, q.method, q.url, q.header)
	}
}

// recorded waits likewise, and reports whether nothing is missing.
func (p *party) recorded(q *call, o *outcome) bool {
	if q.method == "" || q.method == http.MethodConnect || q.sni != "" && o.Status == 0 || strings.Contains(strings.ToLower(strings.Join(q.header, "\n")), "x-request-id") {
		return true
	}
	record, ok := p.record(o.id)
	o.Flags = record.Flags
	return ok
}

// isCopy reports whether the request was sent to a mirror.
func isCopy(v *visit) bool { return strings.Contains(v.Host, "-shadow") }

// ownWords begin what our proxy says where it answers for an endpoint; Envoy
// has other words for the same.
const ownWords = "serin: "

// level makes those things of two outcomes alike that are never compared.
func level(ours, envoys *outcome) {
	for _, o := range []*outcome{ours, envoys} {
		if o.Status == http.StatusSwitchingProtocols {
			o.Flags = "" // who ended it
		}
		for i := range o.Visits {
			if isCopy(&o.Visits[i]) {
				delete(o.Visits[i].Header, "x-forwarded-for") // Envoy is the caller of its copies
			}
		}
		slices.SortStableFunc(o.Visits, func(a, b visit) int {
			if isCopy(&a) == isCopy(&b) {
				return 0
			}
			if isCopy(&b) {
				return -1
			}
			return 1
		})
	}
	if strings.HasPrefix(ours.Body, ownWords) && len(envoys.Header["x-endpoint"]) == 0 {
		for _, o := range []*outcome{ours, envoys} {
			o.Body, o.local = "", true
			delete(o.Header, "content-type")
		}
	}
	if message := ours.Header["grpc-message"]; len(message) > 0 && strings.HasPrefix(message[0], ownWords) {
		for _, o := range []*outcome{ours, envoys} {
			o.local = true
			delete(o.Header, "grpc-message")
		}
	}
}
