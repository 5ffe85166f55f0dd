package proxy

import (
	"serin.dev/serin/internal/proxy/loop"
)

// upgrade hands both connections over to bytes after a 101, which only
// HTTP/1.1 has.
func (ex *exchange) upgrade(l lease) {
	c := l.(*upstreamConn)
	r := &ex.record
	r.Code = ex.answer.Status
	ex.answered = true
	if err := ex.caller.Answer(&ex.answer, false); err != nil {
		ex.broken(errCallerGone)
		c.Close()
		return
	}
	caller := ex.conn.http1
	fromCaller, err := caller.Hijack()
	if err == nil {
		var fromCallee []byte
		if fromCallee, err = c.Hijack(); err == nil {
			ex.conn.conn.OnHangup(nil)
			ex.timer.Stop() // the tunnel has its own
			t := tunnel{worker: ex.worker, idle: ex.idle}
			t.run(ex.task, end{ex.conn.socket, fromCaller}, end{c.conn, fromCallee})
			r.Read, r.Sent = t.sent[0], t.sent[1]
			if t.flag != "" {
				addFlag(r, t.flag)
			}
		}
	}
	c.Close()
	ex.conn.http1.CloseAfter()
}

// end is one side of a tunnel.
type end struct {
	conn  byteConn
	early []byte // was read already
}

// byteConn is a connection as a tunnel uses it; loop.Conn and TLS over one.
type byteConn interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	CloseWrite() error
	Interrupt(error)
}

var _ byteConn = (*loop.Conn)(nil)
