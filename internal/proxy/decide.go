package proxy

import (
	"net/netip"
	"slices"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// call is what routing looks at. Its strings may be views of the head's
// buffer: nothing of it is kept.
type call struct {
	head   *wire.Head
	host   string         // as parseAuthority returns it
	port   uint16         // the called one; at a gateway the gateway's
	path   string         // of head.Path, without the query
	query  string         // of head.Path, without the "?"
	scheme string         // "http" or "https", as the caller spoke to the proxy
	caller *mesh.Caller   // nil: somebody outside of the mesh
	remote netip.AddrPort // of the caller's connection
	now    time.Time
}

// decision is where a call goes and what its record says of it. Either reply is
// the answer, or group has the endpoints, or there is neither for the reason in
// flag (NR or NC).
type decision struct {
	flag    string // Envoy's response flags, also for a delay alone
	service mesh.ServiceName
	origin  mesh.Origin
	several bool          // a weighted choice among several destinations was made
	user    uint64        // by whose hash it was made; 0 = it was drawn
	delay   time.Duration // to wait before anything else
	reply   *reply
	backend *backend // nil with NR or a reply
	group   *group   // nil with NR, NC or a reply
	bytes   bool     // a stream covers the connection

	route    *route   // nil when there was none
	match    *match   // of the route, that held; nil when it has none
	share    *share   // of the route's split; nil without a group
	corsFor  string   // the origin for which the route's CORS marks the answer; "" = none
	unedited bool     // none of the route's edits counts for the reply
	cookies  []string // that the answer sets, for hash keys that the request lacks
	hash     uint64   // for the group's balancer
	hashed   bool
}

// decide routes one call. It does not allocate where the answer is nothing that
// must be computed.
func (t *target) decide(c *call, d *draws) decision {
	var out decision
	if t.service != nil {
		out.service = t.service.Name
		if _, open := t.service.Port(c.port); !open {
			out.flag = flagNoRoute
			return out
		}
	}
	switch {
	case t.requireTLS && c.scheme != "https":
		out.reply = httpsReply(c)
	case t.routed:
		out.take(t, c, d)
	case !t.own.access.admits(c):
		out.deny(t.own)
	default:
		out.send(t.own, c)
	}
	return out
}

// take decides by the first route that covers the call.
func (out *decision) take(t *target, c *call, d *draws) {
	r, m := t.find(c)
	if r == nil {
		out.flag = flagNoRoute
		return
	}
	out.route, out.match, out.origin = r, m, r.origin
	if out.service == "" {
		out.service = r.service
	}
	if len(r.split.shares) > 0 {
		hash, hashed := out.hashBy(r.affinity, c)
		out.share = r.split.pick(hash, hashed, d)
		if out.several = r.split.several; out.several && hashed {
			out.user = hash
		}
		if out.service == "" {
			out.service = out.share.backend.service
		}
		if !out.share.backend.access.admits(c) {
			out.deny(out.share.backend)
			return
		}
	}
	if r.interferes && out.interfere(c, d) {
		return
	}
	switch {
	case r.redirect != nil:
		out.reply = r.redirect.reply(c, m)
	case r.direct != nil:
		out.reply = r.direct
	case out.share != nil:
		out.send(out.share.backend, c)
	default:
		out.note(flagNoRoute)
	}
}

// find returns the first route that covers the call, with the match that held.
func (t *target) find(c *call) (*route, *match) {
	for i := range t.gates {
		g := &t.gates[i]
		if g.lets(c.path) && (g.match == nil || g.match.holds(c)) {
			return g.route, g.match
		}
	}
	return nil, nil
}

// send goes to a destination, if it exists.
func (out *decision) send(b *backend, c *call) {
	out.backend = b
	if out.group = b.reach(c.port); out.group == nil {
		out.note(flagNoCluster)
		return
	}
	if out.group.hashes() {
		out.hash, out.hashed = out.hashBy(out.group.policy.Hash, c)
	}
}

func (out *decision) deny(b *backend) {
	out.backend, out.reply = b, accessDenied()
	out.note(flagDenied)
}

// interfere does what the route does to every request: CORS, the rate limit and
// faults, in this order. It reports whether that is the answer. As with Envoy,
// the route's edits count for it where the route leads to a destination, though
// not for what CORS says itself.
func (out *decision) interfere(c *call, d *draws) bool {
	r := out.route
	if r.cors != nil {
		out.corsFor = r.cors.covers(c.head)
		if out.corsFor != "" && isPreflight(c.head) {
			out.reply, out.unedited = r.cors.permission(), true
			return true
		}
	}
	if r.limit != nil && !r.limit.take(c.now) {
		out.reply, out.unedited = rateLimited(), out.share == nil
		out.note(flagRateLimited)
		return true
	}
	if f := r.fault; f != nil {
		if f.Delay != nil && drawn(f.Delay.Share, d) {
			out.delay = f.Delay.Time
			out.note(flagDelay)
		}
		if f.Abort != nil && drawn(f.Abort.Share, d) {
			out.reply, out.unedited = abort(f.Abort), out.share == nil
			out.note(flagFault)
		}
	}
	return out.reply != nil
}

// note adds a response flag.
func (out *decision) note(flag string) {
	if out.flag != "" {
		flag = out.flag + "," + flag
	}
	out.flag = flag
}

// hashBy hashes the call. Where a cookie must be made for that, the answer sets
// it.
func (out *decision) hashBy(keys []mesh.HashKey, c *call) (hash uint64, hashed bool) {
	hash, hashed, made := hashCall(keys, c)
	if made != "" && !slices.Contains(out.cookies, made) {
		out.cookies = append(out.cookies, made)
	}
	return hash, hashed
}
