package ads

import (
	"fmt"
	"slices"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/xds"
)

// session is what the server knows of one stream: which resources the proxy
// asked for, which it has, and which it is to have. It decides what to send
// next and does no I/O.
//
// A change is sent in stages: first what is new or changed of clusters,
// endpoints and secrets; when the proxy has accepted that, listeners and routes;
// at the end, what is gone is removed. So at no time do routes lead to what is
// not there yet, or not any more.
//
// Snapshots that come meanwhile replace the one that is under way. When the
// proxy refuses a part, the rest is not sent, and what was sent is taken back:
// a snapshot is in force as a whole or not at all.
type session struct {
	delta bool
	subs  [channels]subscription

	target  *xds.Resources // what the proxy is to have; nil = nothing to send
	good    *xds.Resources // what it had applied whole
	refused *refusal       // since good was applied
	nonce   uint64
}

// channel is a type of resource, or the manifest.
type channel int

// manifest tells our own proxy that it has everything of a snapshot. To Envoy
// it is a type that it does not ask for.
const (
	manifest     = channel(xds.Routes) + 1
	channels     = manifest + 1
	manifestType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	manifestName = "serin.dev/snapshot"
)

func channelOf(url string) (channel, bool) {
	if url == manifestType {
		return manifest, true
	}
	t, ok := xds.TypeOf(url)
	return channel(t), ok
}

func (c channel) url() string {
	if c == manifest {
		return manifestType
	}
	return xds.Type(c).URL()
}

// subscription is the state of one type.
type subscription struct {
	asked    bool
	wildcard bool
	names    map[string]bool
	has      map[string]xds.Resource // sent; the version is "" when unknown
	absent   map[string]bool         // asked for, and to be told that it does not exist
	nonce    string                  // of the last response; "" = there was none
	sent     *response               // the same, while it is not answered
}

func (s *subscription) wants(name string) bool { return s.asked && (s.wildcard || s.names[name]) }

// refusal is a snapshot that the proxy did not take.
type refusal struct {
	version mesh.SnapshotVersion
	reason  string
}

// response is one message to the proxy.
type response struct {
	channel channel
	version mesh.SnapshotVersion
	nonce   string
	// send is what is new, and in the state of the world, for clusters and
	// listeners, all; in order of names.
	send   []named
	remove []string // delta alone
}

type named struct {
	name string
	xds.Resource
}

// request is one message of the proxy, of either protocol.
type request struct {
	channel     channel
	subscribe   []string
	unsubscribe []string          // delta
	versions    map[string]string // delta, first request: what the proxy has
	nonce       string
	refusal     string // why it did not take the response; "" = it did
}

func newSession(delta bool) *session { return &session{delta: delta} }

// set gives the proxy a snapshot to have.
func (s *session) set(r *xds.Resources) { s.target = r }

// take takes a request into account.
func (s *session) take(r request) {
	sub := &s.subs[r.channel]
	if r.nonce != "" && r.nonce != sub.nonce && !s.delta {
		return // it has not seen the last response yet, and will say all again
	}
	s.answer(sub, r)
	first := !sub.asked
	if first {
		*sub = subscription{asked: true, names: map[string]bool{}, has: map[string]xds.Resource{}, absent: map[string]bool{}}
		for name, version := range r.versions {
			sub.has[name] = xds.Resource{Version: version}
		}
	}
	if s.delta {
		sub.change(r, first)
	} else {
		sub.replace(r.subscribe, first)
	}
}

// answer takes the answer to the response under way into account, if the request
// is one.
func (s *session) answer(sub *subscription, r request) {
	if sub.sent == nil || sub.sent.nonce != r.nonce {
		return
	}
	sent := sub.sent
	sub.sent = nil
	if r.refusal == "" {
		return
	}
	// Of what was refused, nobody knows which parts are in force.
	for _, one := range sent.send {
		sub.has[one.name] = xds.Resource{Body: one.Body}
	}
	switch {
	case s.target == nil || sent.version != s.target.Version:
		// A newer snapshot is on its way already.
	case s.target == s.good:
		s.target = nil // even what it had: there is nothing left to try
	default:
		s.refused = &refusal{sent.version, r.refusal}
		s.target = s.good
	}
}

// change is a subscription by names that come and go.
func (s *subscription) change(r request, first bool) {
	if first && len(r.subscribe) == 0 {
		s.wildcard = true
	}
	for _, name := range r.subscribe {
		if name == "*" {
			s.wildcard = true
			continue
		}
		s.names[name] = true
		if !first || r.versions[name] == "" {
			delete(s.has, name) // asking again means: send again
		}
		s.absent[name] = true
	}
	for _, name := range r.unsubscribe {
		if name == "*" {
			s.wildcard = false
			continue
		}
		delete(s.names, name)
		delete(s.absent, name)
		if !s.wildcard {
			delete(s.has, name)
		}
	}
}

// replace is a subscription by the names of the last request.
func (s *subscription) replace(names []string, first bool) {
	if first && len(names) == 0 || slices.Contains(names, "*") {
		s.wildcard = true
	}
	if s.wildcard {
		return
	}
	next := map[string]bool{}
	for _, name := range names {
		next[name] = true
		if !s.names[name] {
			delete(s.has, name)
		}
	}
	s.names = next
	for name := range s.has {
		if !next[name] {
			delete(s.has, name)
		}
	}
}

// stages are what is sent at once: an Envoy does not accept a cluster before it
// has its endpoints and secrets, nor perhaps a listener before its routes.
var stages = [][]xds.Type{{xds.Clusters, xds.Endpoints, xds.Secrets}, {xds.Listeners, xds.Routes}}

// next returns what to send now; nil when the proxy has to answer or ask first,
// or has everything.
func (s *session) next() *response {
	if s.target == nil {
		return nil
	}
	for _, stage := range stages {
		for _, t := range stage {
			if r := s.additions(t); r != nil {
				return r
			}
		}
		for _, t := range stage {
			if s.subs[t].sent != nil || !s.settled(t) {
				return nil
			}
		}
	}
	for _, t := range []xds.Type{xds.Clusters, xds.Listeners, xds.Endpoints, xds.Secrets, xds.Routes} {
		if r := s.removals(t); r != nil {
			return r
		}
		if s.subs[t].sent != nil {
			return nil
		}
	}
	return s.manifest()
}

// additions sends what the proxy wants of a type and does not have.
func (s *session) additions(t xds.Type) *response {
	sub := &s.subs[t]
	if sub.sent != nil || !sub.asked {
		return nil
	}
	r := &response{channel: channel(t)}
	for name, want := range s.target.ByType[t] {
		if sub.wants(name) {
			delete(sub.absent, name)
			if sub.has[name].Version != want.Version {
				r.send = append(r.send, named{name, want})
			}
		}
	}
	if s.delta {
		for name := range sub.absent {
			if _, exists := s.target.ByType[t][name]; !exists {
				r.remove = append(r.remove, name)
				delete(sub.absent, name)
			}
		}
	}
	// Who asks for all is told, too, that there is nothing: an Envoy waits 15 s
	// for its first clusters otherwise.
	if len(r.send) == 0 && len(r.remove) == 0 && (sub.nonce != "" || !sub.wildcard) {
		return nil
	}
	for _, one := range r.send {
		sub.has[one.name] = one.Resource
		if t == xds.Clusters {
			// A cluster that changed waits for its endpoints again.
			delete(s.subs[xds.Endpoints].has, one.name)
		}
	}
	if !s.delta && wholeState(t) {
		// Until the end, also what is to be removed.
		r.send = nil
		for name, one := range sub.has {
			if one.Body != nil {
				r.send = append(r.send, named{name, one})
			}
		}
	}
	return s.respond(r)
}

// wholeState reports whether, in the state of the world, what a response does
// not have is removed by it.
func wholeState(t xds.Type) bool { return t == xds.Clusters || t == xds.Listeners }

// settled reports whether the proxy has all of a type, so that what depends on
// it may come. A proxy asks for endpoints and routes only when it has the
// clusters and listeners that need them. Secrets it may not need at all.
func (s *session) settled(t xds.Type) bool {
	if t == xds.Secrets {
		return true
	}
	sub := &s.subs[t]
	if !sub.asked {
		return len(s.target.ByType[t]) == 0 && t != xds.Clusters && t != xds.Listeners
	}
	for name, want := range s.target.ByType[t] {
		if sub.has[name].Version != want.Version {
			return false
		}
	}
	return true
}

// removals takes away what the snapshot does not have.
func (s *session) removals(t xds.Type) *response {
	sub := &s.subs[t]
	if sub.sent != nil || !sub.asked {
		return nil
	}
	r := &response{channel: channel(t)}
	for name := range sub.has {
		if _, exists := s.target.ByType[t][name]; !exists {
			r.remove = append(r.remove, name)
			delete(sub.has, name)
		}
	}
	if len(r.remove) == 0 {
		return nil
	}
	if !s.delta {
		r.remove = nil
		if !wholeState(t) {
			return nil // the proxy lets go of them by itself
		}
		for name, one := range sub.has {
			r.send = append(r.send, named{name, one})
		}
	}
	return s.respond(r)
}

// manifest closes a snapshot for a proxy that asks for that.
func (s *session) manifest() *response {
	sub := &s.subs[manifest]
	version := fmt.Sprint(s.target.Version)
	if !sub.asked || sub.sent != nil || sub.has[manifestName].Version == version {
		return nil
	}
	one := named{manifestName, xds.Resource{Version: version, Body: manifestBody(s.target.Version)}}
	sub.has[manifestName] = one.Resource
	return s.respond(&response{channel: manifest, send: []named{one}})
}

func (s *session) respond(r *response) *response {
	s.nonce++
	r.nonce, r.version = fmt.Sprint(s.nonce), s.target.Version
	slices.SortFunc(r.send, func(a, b named) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	slices.Sort(r.remove)
	sub := &s.subs[r.channel]
	sub.sent, sub.nonce = r, r.nonce
	return r
}

// applied reports whether the proxy has all of the target, and notes it then.
// It is asked when there is nothing to send.
func (s *session) applied() bool {
	if s.target == nil || s.target == s.good {
		return false
	}
	for _, t := range xds.Types() {
		if s.subs[t].sent != nil || !s.settled(t) {
			return false
		}
	}
	if sub := &s.subs[manifest]; sub.sent != nil {
		return false
	}
	s.good, s.refused = s.target, nil
	return true
}
