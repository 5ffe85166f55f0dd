package proxy

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/internal/telemetry"
)

// checkJitter is how far an interval may be from the wanted one, as a part of
// it: so that proxies that started together do not check together for ever.
const checkJitter = 0.1

// check asks one endpoint again and again whether it is well, on one loop, for
// all groups that want to know the same. What follows from the answers is in
// health.go.
type check struct {
	key     checkKey
	worker  *worker
	members []*member // of the snapshot in force; none = the check is over
	draws   draws
	timer   loop.Timer
	running bool

	begins func() // c.begin
	runs   func(*loop.Task)
}

// checkKey is all that the answers depend on. A service's endpoint is in a group
// for each of its subsets, most of which have the service's policy.
type checkKey struct {
	upstream  *upstream
	transport transport
	policy    mesh.HealthCheck
}

// checkMembers makes the checks those of a table. Under p.mu.
func (p *Proxy) checkMembers(t *table) {
	if len(p.workers) == 0 {
		return // the first listener starts them
	}
	wanted := map[checkKey][]*member{}
	for _, g := range t.groups {
		if g.policy.Health == nil {
			continue
		}
		key := checkKey{transport: g.transport, policy: *g.policy.Health}
		if key.policy.Path != "" && key.policy.Host == "" {
			key.policy.Host = string(g.service)
		}
		for _, m := range g.members {
			key.upstream = m.upstream
			wanted[key] = append(wanted[key], m)
		}
	}
	for key, c := range p.checks {
		if wanted[key] == nil {
			delete(p.checks, key)
			c.worker.loop.Post(func() { c.follow(nil) })
		}
	}
	for key, members := range wanted {
		c := p.checks[key]
		if c == nil {
			c = p.newCheck(key)
			p.checks[key] = c
		}
		c.worker.loop.Post(func() { c.follow(members) })
	}
}

// newCheck makes the check of an endpoint, on the loop on which its name falls.
func (p *Proxy) newCheck(key checkKey) *check {
	hash := fnv.New64a()
	fmt.Fprintln(hash, key.upstream.upstreamID, key.policy) // a hash takes all
	c := &check{key: key, worker: p.workers[hash.Sum64()%uint64(len(p.workers))]}
	c.draws.state.Store(p.seed + hash.Sum64())
	c.begins, c.runs = c.begin, c.run
	return c
}

// follow takes the members of another snapshot; none end the check. With one
// that is new it begins at once: that may wait for it.
func (c *check) follow(members []*member) {
	known := func(m *member) bool {
		return slices.ContainsFunc(c.members, func(was *member) bool { return was.vitals == m.vitals })
	}
	joined := slices.ContainsFunc(members, func(m *member) bool { return !known(m) })
	c.members = members
	switch {
	case len(members) == 0:
		c.timer.Stop()
	case joined && !c.running:
		c.timer.Stop()
		c.begin()
	}
}

func (c *check) begin() {
	c.running = true
	c.worker.loop.Go(c.runs)
}

// run checks once, and starts the time until the next check.
func (c *check) run(t *loop.Task) {
	defer func() { c.running = false }()
	if len(c.members) == 0 {
		return
	}
	err := c.ask(t, c.members[0])
	l := c.worker.loop
	if len(c.members) == 0 || l.Stopping() {
		return
	}
	changed := false
	for _, m := range c.members {
		changed = m.checked(err == nil, l.Now()) || changed
	}
	if changed {
		c.worker.proxy.log.Info("health of an endpoint changed", "service", c.members[0].group.service, "endpoint", c.key.upstream.dial, "well", err == nil, "err", err)
	}
	l.Start(&c.timer, c.pause(c.key.policy.Interval), c.begins)
}

// pause draws the time until the next check.
func (c *check) pause(interval time.Duration) time.Duration {
	return time.Duration(float64(interval) * (1 + checkJitter*(2*c.draws.part()-1)))
}

// ask sends a request by the way that the member's calls go, or without a path
// only connects. Any answer from 200 to 299 is good.
func (c *check) ask(t *loop.Task, m *member) error {
	p := &c.key.policy
	if p.Path == "" {
		conn, err := c.worker.open(m.upstream, transport{tls: c.key.transport.tls}, p.Timeout)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	e := errand{worker: c.worker, head: wire.Head{
		Method: "GET", Scheme: "http", Authority: p.Host, Path: p.Path, Major: 1, Minor: 1,
		Fields: []wire.Field{{Name: "user-agent", Value: telemetry.CheckerAgent}},
	}}
	out, err := e.run(t, m, p.Timeout)
	if err == nil && (out.status < 200 || out.status > 299) {
		err = fmt.Errorf("answered %d", out.status)
	}
	return err
}
