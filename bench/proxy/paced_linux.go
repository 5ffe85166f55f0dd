package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// settling is how long a schedule runs before latencies count.
const settling = 500 * time.Millisecond

// pacedLoad sends the workload's requests on a schedule and returns the
// latencies, ascending.
//
// A latency is counted from the moment the request was to be sent, the wait
// for a free connection included. What the schedule itself was late by (this
// machine's timers and neighbours, not the proxy) is not counted.
func (w workload) pacedLoad(p *plan, roots *x509.CertPool, length time.Duration) ([]time.Duration, error) {
	callers := make([]caller, connections)
	for i := range callers {
		c, err := w.caller(p, roots)
		if err != nil {
			return nil, err
		}
		defer c.close()
		callers[i] = c
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // no pauses of ours
	defer runtime.GC()

	total := int((settling + length).Seconds() * float64(w.rate))
	due := make(chan time.Time, total) // the schedule never waits
	took := make([][]time.Duration, connections)
	faults := make([]error, connections)
	began := time.Now()
	var wait sync.WaitGroup
	for i, c := range callers {
		wait.Go(func() {
			for sent := range due {
				if faults[i] = errors.Join(faults[i], c.call()); faults[i] != nil {
					return
				}
				if sent.Sub(began) > settling {
					took[i] = append(took[i], time.Since(sent))
				}
			}
		})
	}
	schedule(w.rate, total, func() { due <- time.Now() })
	close(due)
	wait.Wait()
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("at %d requests/s: %w", w.rate, err)
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return all, nil
}

// schedule calls send at a steady rate, from a thread of its own: the
// runtime's timers are too coarse for intervals below a millisecond.
func schedule(rate, total int, send func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := time.Now()
	for i := range total {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		for left := time.Until(due); left > 0; left = time.Until(due) {
			sleep := unix.NsecToTimespec(left.Nanoseconds())
			if err := unix.Nanosleep(&sleep, nil); err != nil && err != unix.EINTR {
				panic(fmt.Sprintf("nanosleep: %v", err)) // it has no other error for a valid time
			}
		}
		send()
	}
}

// quantile of ascending durations, in microseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[int(q*float64(len(sorted)-1))].Nanoseconds()) / 1e3
}
