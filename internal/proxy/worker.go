package proxy

import (
	"time"

	"serin.dev/serin/internal/proxy/http1"
	"serin.dev/serin/internal/proxy/http2"
	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// worker is what the proxy keeps for one event loop. Only that loop uses it, so
// nothing here has a lock.
type worker struct {
	proxy *Proxy
	loop  *loop.Loop
	index int
	epoch time.Time // of now

	server http1.ServerOptions
	http2  http2.Limits

	free           []*exchange
	outside        map[string]*upstream // hosts that are not of the mesh, by host:port
	mirrors        int                  // under way
	mirrorBytes    int                  // of bodies, held for them
	mirrorsDropped uint64
	mirrorsTold    uint64    // of those dropped
	mirrorsToldAt  time.Time // on loop.Now's clock

	dateAt int64 // second of date
	date   []byte
}

// keptExchanges bounds what a worker keeps for reuse after a burst: an
// exchange is some 2 KiB.
const keptExchanges = 1024

func newWorker(p *Proxy, l *loop.Loop, index int) *worker {
	return &worker{
		proxy: p,
		loop:  l,
		index: index,
		epoch: l.Now(),
		server: http1.ServerOptions{
			Limits:      p.limits.wire(),
			IdleTimeout: p.limits.IdleTime,
			HeadTimeout: p.limits.HeaderTime,
		},
		http2:   http2.Limits{Head: p.limits.wire(), Streams: uint32(p.limits.Streams)},
		outside: map[string]*upstream{},
	}
}

// now is the time of the loop's turn, since the worker was made.
func (w *worker) now() time.Duration { return w.loop.Now().Sub(w.epoch) }

// exchange lends an exchange for one request of a caller.
func (w *worker) exchange(c *callerConn) *exchange {
	var ex *exchange
	if n := len(w.free) - 1; n >= 0 {
		ex = w.free[n]
		w.free[n] = nil
		w.free = w.free[:n]
	} else {
		ex = newExchange(w)
	}
	ex.conn, ex.listener = c, c.listener
	return ex
}

// release takes an exchange back.
func (w *worker) release(ex *exchange) {
	ex.reset()
	if len(w.free) < keptExchanges {
		w.free = append(w.free, ex)
	}
}

// dateField is the time as answers tell it (RFC 9110, section 6.6.1).
func (w *worker) dateField() string {
	now := w.loop.Now()
	if second := now.Unix(); second != w.dateAt {
		w.dateAt = second
		w.date = wire.AppendDate(make([]byte, 0, 29), now)
	}
	return view(w.date)
}
