package istio_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/translate/istio"
)

// manyRoutes are so many VirtualServices; the marked ones have a direct answer
// that test proxies refuse.
func manyRoutes(t *testing.T, n int, generation int, marked map[int]bool) istio.Input {
	t.Helper()
	var docs []string
	for i := range n {
		status := 200
		if marked[i] {
			status = 418
		}
		docs = append(docs, fmt.Sprintf("kind: VirtualService\nmetadata: {name: r%d, generation: %d}\n"+
			"spec: {hosts: [h%d.test], http: [{directResponse: {status: %d}}]}", i, generation, i, status))
	}
	return input(t, strings.Join(docs, "\n---\n"), "", nil)
}

// TestExactlyWhoIsToBlameIsRefused draws which of some objects no proxy can run,
// in the first snapshot and in edits of it.
func TestExactlyWhoIsToBlameIsRefused(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 9))
		n := 1 + r.IntN(40)
		draw := func() map[int]bool {
			marked := map[int]bool{}
			for range r.IntN(5) {
				marked[r.IntN(n)] = true
			}
			return marked
		}
		bad, worse := draw(), draw()
		accept := refusing("answer 418")
		first, err := istio.TranslateFor(manyRoutes(t, n, 1, bad), accept)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		in := manyRoutes(t, n, 2, worse)
		in.Previous, in.Refused = first.Good, first.Refused
		second, err := istio.TranslateFor(in, accept)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		wantFirst, wantSecond := map[mesh.Origin]int64{}, map[mesh.Origin]int64{}
		failed := map[mesh.Origin]istio.Failure{}
		for i := range n {
			o := mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: fmt.Sprintf("r%d", i)}
			if !bad[i] {
				wantFirst[o], wantSecond[o] = 1, 1
			}
			if !worse[i] {
				wantSecond[o] = 2
			} else {
				failed[o] = istio.Failure{Generation: 2, InForce: wantSecond[o]}
			}
		}
		if diff := cmp.Diff(wantFirst, first.Snapshot.Origins); diff != "" {
			t.Errorf("seed %d: objects in effect (-want +got):\n%s", seed, diff)
		}
		if diff := cmp.Diff(wantSecond, second.Snapshot.Origins); diff != "" {
			t.Errorf("seed %d: objects in effect after the edit (-want +got):\n%s", seed, diff)
		}
		if diff := cmp.Diff(failed, second.Failed); diff != "" {
			t.Errorf("seed %d: failed (-want +got):\n%s", seed, diff)
		}
	}
}

func TestWhoIsToBlameIsFoundBySearch(t *testing.T) {
	tries := 0
	counted := func(s *mesh.Snapshot) error {
		tries++
		return refusing("answer 418")(s)
	}
	in := manyRoutes(t, 256, 1, map[int]bool{77: true})
	out, err := istio.TranslateFor(in, counted)
	if err != nil || len(out.Failed) != 1 {
		t.Fatalf("failed = %v, %v; want one", out.Failed, err)
	}
	if most := 5 + 2*8; tries > most {
		t.Errorf("asked %d times for one of 256 objects, want %d at most", tries, most)
	}
	in.Previous, in.Refused, tries = out.Good, out.Refused, 0
	again, err := istio.TranslateFor(in, counted)
	if diff := cmp.Diff(lines(out.Findings), lines(again.Findings)); err != nil || diff != "" {
		t.Errorf("the next time: %v, findings (-before +now):\n%s", err, diff)
	}
	if tries != 2 {
		t.Errorf("asked %d times for what is known, want 2", tries)
	}
}

func TestOfTwoThatQuarrelTheOlderStaysAndTheOtherComesBack(t *testing.T) {
	accept := func(s *mesh.Snapshot) error {
		if text := s.String(); strings.Contains(text, "answer 301") && strings.Contains(text, "answer 418") {
			return fmt.Errorf("one of the two")
		}
		return s.Validate()
	}
	const older = `
kind: VirtualService
metadata: {name: z, generation: 1, creationTimestamp: 2026-11-20T00:00:00Z}
spec: {hosts: [z.test], http: [{directResponse: {status: 301}}]}`
	const younger = `
kind: VirtualService
metadata: {name: a, generation: 1, creationTimestamp: 2026-11-21T00:00:00Z}
spec: {hosts: [a.test], http: [{directResponse: {status: 418}}]}`
	a, z := mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "a"}, mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "z"}
	in := input(t, younger+"\n---"+older, "", nil)
	out, err := istio.TranslateFor(in, accept)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[mesh.Origin]int64{z: 1}, out.Snapshot.Origins); diff != "" {
		t.Errorf("both (-want +got):\n%s", diff)
	}
	in.Previous, in.Refused = out.Good, out.Refused
	in.VirtualServices = in.VirtualServices[:1]
	if out, err = istio.TranslateFor(in, accept); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[mesh.Origin]int64{a: 1}, out.Snapshot.Origins); diff != "" {
		t.Errorf("the older one is gone (-want +got):\n%s", diff)
	}
}
