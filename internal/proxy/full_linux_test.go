package proxy

import (
	"testing"

	"serin.dev/serin/test/ports"
)

func TestClosingDoesNotWaitForAConnect(t *testing.T) {
	r := newRig(t, Config{})
	r.apply(tcpService("db.default", ports.Full(t)))
	l := r.upstreamOf("db.default")
	c := r.dialTo(l)
	for l.open.Load() == 0 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if q := r.recorded(); q.Flags != "DC" {
		t.Errorf("record = %+v", q)
	}
}
