package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
)

// settle is how long the proxies have to agree before it is written down that
// they do not: a write for each proxy's ack of each change would be many, and
// nobody reads faster.
const settle = 200 * time.Millisecond

// Standings writes into each object's status which proxies run it and which
// refused it. All fields must be set.
type Standings struct {
	API  *kube.Client
	Acks *Acks
	Log  *slog.Logger
}

// Run writes until ctx ends.
func (s *Standings) Run(ctx context.Context) {
	wake := kube.NewSignal()
	s.Acks.OnChange(wake.Give)
	written := map[mesh.Origin]kube.Standing{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		now := s.Acks.standings()
		for origin, standing := range now {
			if written[origin] == standing {
				continue
			}
			if err := s.API.WriteStanding(ctx, origin, standing); err != nil {
				s.Log.Warn("status", "err", err)
				delete(now, origin) // once more with the next change
			}
		}
		written = now
	}
}

// standings says of each object that was published last how far it has come.
func (a *Acks) standings() map[mesh.Origin]kube.Standing {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[mesh.Origin]kube.Standing, len(a.first))
	culprits := map[string]culprit{}
	for _, p := range a.proxies {
		if a.refused[p.Name] != 0 {
			culprits[p.Name] = a.culprit(p)
		}
	}
	bySnapshot := map[mesh.SnapshotVersion]kube.Standing{} // most objects came with the same few
	for origin, seen := range a.first {
		standing, known := bySnapshot[seen.snapshot]
		if !known {
			standing = standingOf(a.proxies, seen.snapshot, culprits)
			bySnapshot[seen.snapshot] = standing
		}
		standing.Generation = seen.generation
		out[origin] = standing
	}
	for origin, o := range a.objected {
		out[origin] = kube.Standing{Generation: o.generation, Reason: o.reason, Message: o.message}
	}
	return out
}

// culprit is what a proxy did not take: snapshots up to a version, and the
// objects that were new in those. What is newer is held up by them.
type culprit struct {
	upTo    mesh.SnapshotVersion
	objects []string // some of them
}

// culprit finds what a proxy refuses. Under a.mu.
func (a *Acks) culprit(p ProxyState) culprit {
	c := culprit{upTo: a.refused[p.Name]}
	for origin, seen := range a.first {
		if seen.snapshot > p.Version && seen.snapshot <= c.upTo {
			c.objects = append(c.objects, origin.String())
		}
	}
	if len(c.objects) == 0 {
		return culprit{upTo: p.Refused} // they were changed since, and it is something else
	}
	slices.Sort(c.objects)
	if n := len(c.objects); n > maxErrors {
		c.objects = append(c.objects[:maxErrors], fmt.Sprintf("and %d more", n-maxErrors))
	}
	return c
}

// standingOf says who runs a snapshot or a later one.
func standingOf(proxies []ProxyState, snapshot mesh.SnapshotVersion, culprits map[string]culprit) kube.Standing {
	run, all := 0, 0
	waiting, refusals, held, lost := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range proxies {
		if p.Lost {
			lost[p.Name+" is not connected any more"] = true
			continue
		}
		all++
		c := culprits[p.Name]
		switch {
		case p.Version >= snapshot:
			run++
		case c.upTo >= snapshot:
			refusals[fmt.Sprintf("%s refuses: %s", p.Name, strings.Join(strings.Fields(p.Reason), " "))] = true
		case len(c.objects) > 0:
			held[fmt.Sprintf("%s refuses what came before, with %s", p.Name, strings.Join(c.objects, ", "))] = true
		default:
			waiting[p.Name] = true
		}
	}
	if all == 0 {
		return kube.Standing{Reason: "Waiting", Message: "no proxy is connected"}
	}
	parts := []string{fmt.Sprintf("%d of %d proxies run it", run, all)}
	parts = append(parts, slices.Sorted(maps.Keys(refusals))...)
	parts = append(parts, slices.Sorted(maps.Keys(held))...)
	if len(waiting) > 0 {
		parts = append(parts, "waiting for "+strings.Join(slices.Sorted(maps.Keys(waiting)), ", "))
	}
	parts = append(parts, slices.Sorted(maps.Keys(lost))...)
	standing := kube.Standing{Reason: "Waiting", Message: strings.Join(parts, "; ")}
	switch {
	case run == all:
		standing.InForce, standing.Reason = true, "InForce"
	case len(refusals) > 0:
		standing.Reason = "Refused"
	}
	return standing
}
