package node

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Usage is what the processes of one container use.
type Usage struct {
	Container string
	CPU       float64 // cores, on average over Window
	Memory    int64   // resident bytes; pages that processes share count for each
	At        time.Time
	Window    time.Duration
}

// reading is what the processes of one container had used at one moment.
type reading struct {
	cpu    time.Duration // of all processors, also by children that have ended
	memory int64
	at     time.Time
}

// shortestWindow bounds from below over what time a CPU usage is told: the
// kernel counts in hundredths of a second.
const shortestWindow = time.Second

// meter makes usages of a container's readings. The first one is the average
// since the process started.
type meter struct {
	last  reading // the one that the next window begins with
	usage Usage
}

// read takes a reading in. One that comes too soon changes the memory alone.
func (m *meter) read(r reading) Usage {
	if window := r.at.Sub(m.last.at); window >= shortestWindow {
		// Children whose parent was killed are not counted any more.
		m.usage.CPU = max(0, (r.cpu-m.last.cpu).Seconds()/window.Seconds())
		m.usage.Window = window
		m.last = r
	}
	m.usage.Memory, m.usage.At = r.memory, r.at
	return m.usage
}

// Usage returns what the running containers of a pod use, those that run for
// less than a second left out; none for a pod that is not this node's, and on
// systems other than Linux.
func (n *Node) Usage(namespace, name string) []Usage {
	p := n.pods.find(types.NamespacedName{Namespace: namespace, Name: name})
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Usage
	for _, c := range p.main {
		if c.process == nil {
			continue
		}
		r, ok := c.process.read()
		if !ok {
			continue
		}
		if c.meter == nil {
			c.meter = &meter{last: reading{at: c.process.started}, usage: Usage{Container: c.spec.Name}}
		}
		if u := c.meter.read(r); u.Window > 0 {
			out = append(out, u)
		}
	}
	return out
}
