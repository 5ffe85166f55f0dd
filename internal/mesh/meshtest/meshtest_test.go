package meshtest_test

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
)

const seeds = 300

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func TestSnapshotsAreValidAndRepeat(t *testing.T) {
	for _, f := range []meshtest.Features{{}, meshtest.All()} {
		for seed := range uint64(seeds / 3) {
			s := meshtest.Snapshot(random(seed), f)
			if err := s.Validate(); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, s)
			}
			if seed > 3 {
				continue
			}
			if diff := cmp.Diff(s, meshtest.Snapshot(random(seed), f), cmpopts.EquateComparable(mesh.Endpoint{}.Address)); diff != "" {
				t.Fatalf("seed %d makes two snapshots:\n%s", seed, diff)
			}
		}
	}
}

func TestMixesAreValidAndHaveBoth(t *testing.T) {
	fromLast, fromOther := 0, 0
	for seed := range uint64(seeds / 3) {
		r := random(seed)
		last, other := meshtest.Snapshot(r, meshtest.All()), meshtest.Snapshot(r, meshtest.All())
		s := meshtest.Mix(r, last, other)
		if err := s.Validate(); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, s)
		}
		for name, svc := range s.Services {
			switch svc {
			case last.Services[name]:
				fromLast++
			case other.Services[name]:
				fromOther++
			}
		}
	}
	if fromLast < fromOther || fromOther < seeds/6 {
		t.Errorf("%d services are of the last snapshot and %d of the other", fromLast, fromOther)
	}
}

// TestEveryFieldIsSet: what is never set is never tested by those who use it.
func TestEveryFieldIsSet(t *testing.T) {
	set := map[string]bool{}
	for seed := range uint64(seeds) {
		record(set, reflect.ValueOf(meshtest.Snapshot(random(seed), meshtest.All())))
	}
	for _, field := range slices.Sorted(maps.Keys(set)) {
		if !set[field] {
			t.Errorf("%s is set by no seed", field)
		}
	}
	if len(set) < 150 {
		t.Errorf("saw %d fields: the walk does not reach the nouns", len(set))
	}
}

// record notes for each field of our nouns whether it was ever set.
func record(set map[string]bool, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			record(set, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			record(set, v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			record(set, key)
			record(set, v.MapIndex(key))
		}
	case reflect.Struct:
		if !strings.HasSuffix(v.Type().PkgPath(), "internal/mesh") {
			return
		}
		for i := range v.NumField() {
			name := v.Type().Name() + "." + v.Type().Field(i).Name
			set[name] = set[name] || !v.Field(i).IsZero()
			record(set, v.Field(i))
		}
	default:
	}
}

// TestCallsReachWhatIsThere: of random calls, enough are answered in each way
// for a comparison of two data planes to mean something.
func TestCallsReachWhatIsThere(t *testing.T) {
	got := map[string]int{}
	const each = 20
	for seed := range uint64(seeds) {
		r := random(seed)
		s := meshtest.Snapshot(r, meshtest.All())
		for range each {
			got[kind(s.Resolve(meshtest.Call(r, s)))]++
			c := s.ResolveStream(meshtest.Connection(r, s))
			switch {
			case c.TLS != nil:
				got["connection: ended"]++
			case c.Stream != nil:
				got["connection: routed"]++
			case len(c.Ways) > 0:
				got["connection: not routed"]++
			}
		}
	}
	for _, want := range []string{
		"outside", "no route", "split", "one way", "redirect", "direct", "with a match",
		"connection: ended", "connection: routed", "connection: not routed",
	} {
		if share := float64(got[want]) / (seeds * each); share < 0.01 {
			t.Errorf("%s: %.2f %% of the calls, want at least 1 %%", want, share*100)
		}
	}
}

func kind(o mesh.Outcome) string {
	switch {
	case o.Outside:
		return "outside"
	case o.Route == nil:
		return "no route"
	case o.Route.Redirect != nil:
		return "redirect"
	case o.Route.Direct != nil:
		return "direct"
	case len(o.Route.Matches) > 0:
		return "with a match"
	case len(o.Ways) > 1:
		return "split"
	}
	return "one way"
}
