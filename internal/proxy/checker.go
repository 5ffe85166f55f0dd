package proxy

import (
	"fmt"
	"hash/fnv"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/internal/telemetry"
)

// checkJitter is how far an interval may be from the wanted one, as a part of
// it: so that proxies that started together do not check together for ever.
const checkJitter = 0.1

// check asks one member of a group again and again whether it is well, on one
// loop. What follows from the answers is in health.go.
type check struct {
	worker *worker
	member *member // of the snapshot in force; nil = the check is over
	draws  draws
	timer  loop.Timer

	begins func() // c.begin
	runs   func(*loop.Task)
}

// assignment tells a check about its member.
type assignment struct {
	check  *check
	member *member
}

// checkMembers makes the checks those of a table. Under p.mu.
func (p *Proxy) checkMembers(t *table) {
	if len(p.workers) == 0 {
		return // the first listener starts them
	}
	old := p.checks
	p.checks = map[*vitals]*check{}
	work := make([][]assignment, len(p.workers))
	assign := func(c *check, m *member) {
		i := c.worker.index
		work[i] = append(work[i], assignment{c, m})
	}
	for _, g := range t.groups {
		if g.policy.Health == nil {
			continue
		}
		for _, m := range g.members {
			c := old[m.vitals]
			if c == nil {
				c = p.newCheck(m)
			}
			p.checks[m.vitals] = c
			assign(c, m)
		}
	}
	for v, c := range old {
		if p.checks[v] == nil {
			assign(c, nil)
		}
	}
	for i, w := range p.workers {
		if todo := work[i]; len(todo) > 0 {
			w.loop.Post(func() {
				for _, a := range todo {
					a.check.follow(a.member)
				}
			})
		}
	}
}

// newCheck makes the check of a member, on the loop on which its name falls.
func (p *Proxy) newCheck(m *member) *check {
	hash := fnv.New64a()
	fmt.Fprintln(hash, m.group.groupKey, m.upstreamID) // a hash takes all
	c := &check{worker: p.workers[hash.Sum64()%uint64(len(p.workers))]}
	c.draws.state.Store(p.seed + hash.Sum64())
	c.begins, c.runs = c.begin, c.run
	return c
}

// follow takes the member's form in another snapshot; nil ends the check. A new
// check begins at once: the member may wait for it.
func (c *check) follow(m *member) {
	first := c.member == nil
	if c.member = m; m == nil {
		c.timer.Stop()
	} else if first {
		c.begin()
	}
}

func (c *check) begin() { c.worker.loop.Go(c.runs) }

// run checks once, and starts the time until the next check.
func (c *check) run(t *loop.Task) {
	m := c.member
	if m == nil {
		return
	}
	err := c.ask(t, m, m.group.policy.Health)
	l := c.worker.loop
	if m = c.member; m == nil || l.Stopping() {
		return
	}
	if m.checked(err == nil, l.Now()) {
		c.worker.proxy.log.Info("health of an endpoint changed", "service", m.group.service, "endpoint", m.dial, "well", err == nil, "err", err)
	}
	l.Start(&c.timer, c.pause(m.group.policy.Health.Interval), c.begins)
}

// pause draws the time until the next check.
func (c *check) pause(interval time.Duration) time.Duration {
	return time.Duration(float64(interval) * (1 + checkJitter*(2*c.draws.part()-1)))
}

// ask sends a request by the way that the member's calls go, or without a path
// only connects. Any answer from 200 to 299 is good.
func (c *check) ask(t *loop.Task, m *member, p *mesh.HealthCheck) error {
	if p.Path == "" {
		conn, err := c.worker.open(m.upstream, transport{tls: m.group.transport.tls}, p.Timeout)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	e := errand{worker: c.worker, head: wire.Head{
		Method: "GET", Scheme: "http", Authority: p.Host, Path: p.Path, Major: 1, Minor: 1,
		Fields: []wire.Field{{Name: "user-agent", Value: telemetry.CheckerAgent}},
	}}
	if p.Host == "" {
		e.head.Authority = string(m.group.service)
	}
	out, err := e.run(t, m, p.Timeout)
	if err == nil && (out.status < 200 || out.status > 299) {
		err = fmt.Errorf("answered %d", out.status)
	}
	return err
}
