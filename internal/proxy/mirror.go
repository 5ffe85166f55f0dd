package proxy

import (
	"errors"
	"strings"
	"time"

	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/internal/telemetry"
)

// A request is copied for mirrors while it is sent. Once its body is whole, the
// copy goes to each of them in a task of its own, and nobody waits for that: a
// mirror that is slow, down or wrong changes nothing for the caller. What is
// held for mirrors is bounded by Limits.Mirrors and Limits.MirrorBuffer.

// mirrorTime is how long a copy may take where the route has no timeout: what
// Envoy gives each request by default.
const mirrorTime = 15 * time.Second

// shadow is the copy of one request, with nothing in it that is the request's
// own. The nil one is of a request that is not mirrored.
type shadow struct {
	errand
	draws   *draws
	call    call // by the copied head
	timeout time.Duration
	to      []groupKey // each counts in worker.mirrors
	noise   bool       // the last of them is the version that answers the user
	twin    *twin      // nil = nothing is compared
	left    int        // tasks under way; the last one lets go of the body
}

// mirror begins a copy when the request is sent first: ex.out is its head.
func (ex *exchange) mirror() {
	r := ex.dec.route
	if ex.mirrored || r == nil || len(r.mirrors) == 0 || ex.out.Upgrade != "" {
		return
	}
	ex.mirrored = true
	var to []groupKey
	compare := false
	for i := range r.mirrors {
		m := &r.mirrors[i]
		if g := m.backend.reach(ex.call.port); g != nil && m.drawn(&ex.listener.draws) && ex.worker.admitMirror() {
			to = append(to, g.groupKey)
			compare = compare || m.compare
		}
	}
	if len(to) == 0 {
		return
	}
	s := &shadow{errand: errand{worker: ex.worker, head: cloneHead(&ex.out)}, draws: &ex.listener.draws, timeout: r.timeout, to: to}
	if s.timeout <= 0 {
		s.timeout = mirrorTime
	}
	if compare && ex.worker.proxy.recorder != nil {
		s.twin = &twin{proxy: ex.worker.proxy}
		ex.twin = s.twin
		s.noise = ex.dec.group != nil && s.twin.proxy.comparer.wantsNoise(ex.record.Method, ex.record.Path) && ex.worker.admitMirror()
		if s.noise {
			s.to = append(s.to, ex.dec.group.groupKey)
		}
	}
	s.head.Authority = shadowHost(s.head.Authority)
	s.call = ex.call
	s.call.head = &s.head
	s.call.host = strings.Clone(ex.call.host)
	s.call.path, s.call.query, _ = strings.Cut(s.head.Path, "?")
	if ex.out.Body == wire.NoBody {
		s.send()
		return
	}
	ex.shadow = s
}

// admitMirror asks whether another copy may be under way.
func (w *worker) admitMirror() bool {
	if w.mirrors >= w.proxy.limits.Mirrors {
		w.dropMirror("too many are under way")
		return false
	}
	w.mirrors++
	return true
}

// dropMirror counts a copy that is not sent, and tells of them now and then.
func (w *worker) dropMirror(why string) {
	w.mirrorsDropped++
	now := w.loop.Now()
	if w.mirrorsTold > 0 && now.Sub(w.mirrorsToldAt) < toldEvery {
		return
	}
	w.proxy.log.Warn("requests are not mirrored", "why", why, "dropped", w.mirrorsDropped-w.mirrorsTold)
	w.mirrorsTold, w.mirrorsToldAt = w.mirrorsDropped, now
}

// mirrorPiece copies a piece of the body.
func (ex *exchange) mirrorPiece(p []byte) {
	s := ex.shadow
	switch {
	case s == nil:
	case s.worker.mirrorBytes+len(p) > s.worker.proxy.limits.MirrorBuffer:
		ex.dropShadow("there is no room for their bodies")
	default:
		s.body = append(s.body, p...)
		s.worker.mirrorBytes += len(p)
	}
}

// mirrorEnd sends the copy on its way, when the body is whole.
func (ex *exchange) mirrorEnd(trailers []wire.Field) {
	s := ex.shadow
	if s == nil {
		return
	}
	ex.shadow = nil
	for _, f := range trailers {
		s.trailers = append(s.trailers, wire.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)})
	}
	s.send()
}

// dropShadow lets go of a copy that was not sent, if there is one.
func (ex *exchange) dropShadow(why string) {
	if s := ex.shadow; s != nil {
		ex.shadow = nil
		s.worker.mirrors -= len(s.to)
		s.worker.mirrorBytes -= len(s.body)
		s.worker.dropMirror(why)
	}
}

// send starts a task for each mirror.
func (s *shadow) send() {
	w := s.worker
	s.left = len(s.to)
	for i, key := range s.to {
		kind := telemetry.MirrorCopy
		if s.noise && i == len(s.to)-1 {
			kind = telemetry.NoiseCopy
		}
		w.loop.Go(func(t *loop.Task) {
			if err := s.goTo(t, key, kind); err != nil {
				w.proxy.log.Debug("mirror failed", "to", key.service, "err", err)
			}
			w.mirrors--
			if s.left--; s.left == 0 {
				w.mirrorBytes -= len(s.body)
			}
		})
	}
}

// goTo sends the copy to an endpoint of a group. The answer is compared with the
// user's and thrown away.
func (s *shadow) goTo(t *loop.Task, key groupKey, kind telemetry.Kind) error {
	p := s.worker.proxy
	e := s.errand
	if s.twin != nil {
		e.heard = &heard{}
	}
	c := response{kind: kind, backend: key.service, start: s.worker.loop.Now(), heard: e.heard}
	out := outcome{kind: connectFailed, grpc: noGRPC}
	defer func() {
		c.duration = s.worker.loop.Now().Sub(c.start)
		s.twin.hears(c, out)
	}()
	var m *member
	u := p.acquire(func(table *table) *upstream {
		m = nil
		if g := table.groups[key]; g != nil {
			m = g.pickFor(&s.call, s.draws)
		}
		if m == nil {
			return nil
		}
		return m.upstream
	})
	if u == nil {
		return errNoMirror
	}
	defer p.release(u)
	admitted, ok := m.group.admitRequest()
	if !ok {
		out.kind = refused
		return errOverflow
	}
	defer admitted.release()
	c.at = u.workload
	var err error
	out, err = e.run(t, m, s.timeout)
	m.done(out, s.worker.loop.Now())
	return err
}

var errNoMirror = errors.New("no ready endpoint")

// cloneHead copies a head with all that its strings are views of.
func cloneHead(h *wire.Head) wire.Head {
	out := *h
	texts := [...]*string{&out.Method, &out.Scheme, &out.Authority, &out.Path, &out.Upgrade}
	size := 0
	for _, s := range texts {
		size += len(*s)
	}
	for i := range h.Fields {
		size += len(h.Fields[i].Name) + len(h.Fields[i].Value)
	}
	var all strings.Builder
	all.Grow(size)
	keep := func(s string) string {
		begin := all.Len()
		all.WriteString(s)
		return all.String()[begin:]
	}
	for _, s := range texts {
		*s = keep(*s)
	}
	out.Fields = make([]wire.Field, len(h.Fields))
	for i := range h.Fields {
		out.Fields[i] = wire.Field{Name: keep(h.Fields[i].Name), Value: keep(h.Fields[i].Value)}
	}
	return out
}

// shadowHost marks a host as that of a copy, as Envoy does.
func shadowHost(authority string) string {
	host, port := authority, ""
	if colon := strings.LastIndexByte(authority, ':'); colon > strings.LastIndexByte(authority, ']') {
		host, port = authority[:colon], authority[colon:]
	}
	return host + "-shadow" + port
}
