package proxy

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// newCall makes a call with "name: value" headers.
func newCall(method, target string, headers ...string) *call {
	h := &wire.Head{Method: method, Authority: "music", Path: target, Major: 1, Minor: 1}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	path, query, _ := strings.Cut(target, "?")
	return &call{
		head: h, host: "music", port: 80, path: path, query: query, scheme: "http",
		remote: netip.MustParseAddrPort("192.0.2.7:4711"), now: epoch,
		caller: &mesh.Caller{Workload: mesh.Workload{Namespace: "default", Name: "user"}},
	}
}

func TestHashKeys(t *testing.T) {
	header := mesh.HashKey{Source: mesh.HashHeader, Name: "end-user"}
	query := mesh.HashKey{Source: mesh.HashQuery, Name: "user"}
	kept := mesh.HashKey{Source: mesh.HashCookie, Name: "user"}
	made := mesh.HashKey{Source: mesh.HashCookie, Name: "sticky", Make: true, TTL: 90 * time.Second, Path: "/"}
	session := mesh.HashKey{Source: mesh.HashCookie, Name: "sticky", Make: true}
	ip := mesh.HashKey{Source: mesh.HashSourceIP}
	connection := fmt.Sprintf("%016x", xxhash.Sum64String("192.0.2.7:4711"))
	for _, tt := range []struct {
		about   string
		keys    []mesh.HashKey
		target  string
		headers []string
		of      string // what is hashed; "-" = nothing
		cookie  string
	}{
		{"a header", []mesh.HashKey{header}, "/", []string{"end-user: jason"}, "jason", ""},
		{"an empty header is one", []mesh.HashKey{header}, "/", []string{"end-user: "}, "", ""},
		{"no header", []mesh.HashKey{header}, "/", nil, "-", ""},
		{"the first key that is there", []mesh.HashKey{header, query, ip}, "/?user=x", nil, "x", ""},
		{"a parameter as it was sent", []mesh.HashKey{query}, "/?a=1&user=a%20b&user=c", nil, "a%20b", ""},
		{"no parameter", []mesh.HashKey{query}, "/?users=1", nil, "-", ""},
		{"a cookie", []mesh.HashKey{kept}, "/", []string{"cookie: a=1; user=jason; b=2"}, "jason", ""},
		{"a cookie in quotes", []mesh.HashKey{kept}, "/", []string{`cookie: user="jason"`}, "jason", ""},
		{"a cookie in the second field", []mesh.HashKey{kept}, "/", []string{"cookie: a=1", "cookie: user=jason"}, "jason", ""},
		{"no cookie, and none is made", []mesh.HashKey{kept}, "/", []string{"cookie: users=x; user"}, "-", ""},
		{"an empty cookie is none", []mesh.HashKey{kept}, "/", []string{"cookie: user="}, "-", ""},
		{"a cookie that was made", []mesh.HashKey{made}, "/", []string{`cookie: sticky="abc"`}, "abc", ""},
		{"a cookie is made", []mesh.HashKey{made}, "/", nil, connection, `sticky="` + connection + `"; Max-Age=90; Path=/; HttpOnly`},
		{"a cookie for the session", []mesh.HashKey{session}, "/", nil, connection, `sticky="` + connection + `"; HttpOnly`},
		{"none is made where an earlier key is there", []mesh.HashKey{header, made}, "/", []string{"end-user: jason"}, "jason", ""},
		{"the address", []mesh.HashKey{ip}, "/", nil, "192.0.2.7", ""},
	} {
		hash, ok, cookie := hashCall(tt.keys, newCall("GET", tt.target, tt.headers...))
		if ok != (tt.of != "-") || ok && hash != xxhash.Sum64String(tt.of) || cookie != tt.cookie {
			t.Errorf("%s: hash %x, %t, cookie %q; want that of %q, cookie %q", tt.about, hash, ok, cookie, tt.of, tt.cookie)
		}
	}
}

func TestSeveralValuesAreHashedInOneOrder(t *testing.T) {
	keys := []mesh.HashKey{{Source: mesh.HashHeader, Name: "end-user"}}
	second := xxhash.NewWithSeed(xxhash.Sum64String("a"))
	if _, err := second.WriteString("b"); err != nil {
		t.Fatal(err)
	}
	for _, headers := range [][]string{{"end-user: a", "end-user: b"}, {"end-user: b", "end-user: a"}} {
		if hash, ok, _ := hashCall(keys, newCall("GET", "/", headers...)); !ok || hash != second.Sum64() {
			t.Errorf("%v: hash %x, %t; want %x", headers, hash, ok, second.Sum64())
		}
	}
}

// TestAffinityKeepsSharesExactAndUsersWhereTheyAre: with 100,000 users, one
// percent of them, always the same.
func TestAffinityKeepsSharesExactAndUsersWhereTheyAre(t *testing.T) {
	const users = 100_000
	svc := service("music.default", "127.0.0.1:1", "127.0.0.1:2")
	at := func(canary uint32) *target {
		vh := weighted("music.default", 100-canary, canary)
		vh.Routes[0].Affinity = []mesh.HashKey{{Source: mesh.HashCookie, Name: "user"}}
		return compiled(t, snapshot(1, svc, vh)).inMesh("default", "music")
	}
	one, five := at(1), at(5)
	var d draws
	canary, moved := 0, 0
	for user := range users {
		c := newCall("GET", "/", fmt.Sprintf("cookie: user=%d", user))
		dec := one.decide(c, &d)
		for range 3 {
			if again := one.decide(c, &d); again.share != dec.share || !again.several || again.user != dec.user || again.user == 0 {
				t.Fatalf("user %d gets %s, then %s", user, dec.backend.subset, again.backend.subset)
			}
		}
		if dec.backend.subset == "v2" {
			canary++
			if five.decide(c, &d).backend.subset != "v2" {
				moved++
			}
		}
	}
	if drawn := one.decide(newCall("GET", "/"), &d); drawn.user != 0 {
		t.Errorf("a request of nobody is one of user %x", drawn.user)
	}
	const mean = users / 100
	if tolerance := 5 * math.Sqrt(mean*0.99); math.Abs(float64(canary)-mean) > tolerance {
		t.Errorf("the canary has %d of %d users at 1 %%, want %d ± %.0f", canary, users, mean, tolerance)
	}
	if moved > 0 {
		t.Errorf("%d users left the canary as its share grew", moved)
	}
	// Who has no key is drawn.
	got := map[string]int{}
	for range 20_000 {
		got[five.decide(newCall("GET", "/"), &d).backend.subset]++
	}
	wantShares(t, "without a cookie", got, map[string]float64{"v1": 95, "v2": 5})
}

// TestHashingMovesFewKeys when an endpoint leaves: those that it had, and few
// others. On the ring these are due to the points that the others get more when
// the same number is divided by fewer.
func TestHashingMovesFewKeys(t *testing.T) {
	const keys = 20_000
	names := strings.Fields("a b c d e f g h i j")
	for b, most := range map[mesh.Balancer]float64{mesh.RingHash: 0.10, mesh.Maglev: 0.04} {
		w := newWorld(t, &mesh.Policy{Balancer: b})
		owners := func(names []string) map[uint64]string {
			g := w.apply(0, endpointsOf(strings.Join(names, " "))...)
			out := map[uint64]string{}
			for key := range uint64(keys) {
				hash := xxhash.Sum64String(fmt.Sprint(key))
				out[key] = g.pick(hash, true, epoch, &w.draws, nil).dial
			}
			return out
		}
		before := owners(names)
		after := owners(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "d" }))
		moved := 0
		for key, was := range before {
			if was != "d:80" && after[key] != was {
				moved++
			}
		}
		if part := float64(moved) / keys; part > most {
			t.Errorf("%s: %.1f %% of the keys moved although their endpoint is there, want at most %.0f %%", b, part*100, most*100)
		}
		if again := owners(names); !mapsEqual(again, before) {
			t.Errorf("%s: after the endpoint came back, keys meet others", b)
		}
	}
}

func mapsEqual(a, b map[uint64]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

func TestRingsFollowWeights(t *testing.T) {
	const keys = 60_000
	for _, b := range []mesh.Balancer{mesh.RingHash, mesh.Maglev} {
		w := newWorld(t, &mesh.Policy{Balancer: b, RingSize: 100_000})
		g := w.apply(0, endpointsOf("a b*2 c*7")...)
		got := map[string]int{}
		for key := range keys {
			got[g.pick(xxhash.Sum64String(fmt.Sprint(key)), true, epoch, &w.draws, nil).dial]++
		}
		for name, part := range map[string]float64{"a:80": 0.1, "b:80": 0.2, "c:80": 0.7} {
			if is := float64(got[name]) / keys; math.Abs(is-part) > 0.02 {
				t.Errorf("%s: %s has %.3f of the keys, want %.1f ± 0.02", b, name, is, part)
			}
		}
	}
}

// TestHashTablesAreKept where nothing changed: making one takes long.
func TestHashTablesAreKept(t *testing.T) {
	w := newWorld(t, &mesh.Policy{Balancer: mesh.Maglev})
	table := func(names string) *hashTable {
		return w.apply(0, endpointsOf(names)...).roster.Load().levels[0].table
	}
	first := table("a b")
	if table("a b") != first {
		t.Error("the same endpoints have another table")
	}
	if table("a b*2") == first {
		t.Error("another weight has the same table")
	}
}

// TestKeysMeetTheEndpointThatTheyMeetInEnvoy: what Envoy 1.40 answered for the
// keys user-0, user-1, ..., with five endpoints 127.1.0.1:18080 and on.
func TestKeysMeetTheEndpointThatTheyMeetInEnvoy(t *testing.T) {
	var plain, weighted []mesh.Endpoint
	for i, weight := range []uint32{1, 1, 2, 5, 1} {
		e := mesh.Endpoint{Port: 80, Dial: fmt.Sprintf("127.1.0.%d:18080", i+1)}
		plain = append(plain, e)
		e.Weight = weight
		weighted = append(weighted, e)
	}
	for _, tt := range []struct {
		balancer  mesh.Balancer
		endpoints []mesh.Endpoint
		want      string // the last number of the address
	}{
		{mesh.RingHash, plain, "212314341142244215113325114515524421435124321124344152215445"},
		{mesh.RingHash, weighted, "244414344444344414414344124415524424435144341134344442245444"},
		{mesh.Maglev, plain, "444231533451132334121113432353121125341152524244415225523432"},
		{mesh.Maglev, weighted, "444444433441134334141443434443144143344442544244415424423432"},
	} {
		w := newWorld(t, &mesh.Policy{Balancer: tt.balancer})
		g := w.apply(0, tt.endpoints...)
		got := ""
		for i := range tt.want {
			hash, _, _ := hashCall([]mesh.HashKey{{Source: mesh.HashHeader, Name: "user"}}, newCall("GET", "/", fmt.Sprintf("user: user-%d", i)))
			got += g.pick(hash, true, epoch, &w.draws, nil).dial[len("127.1.0."):][:1]
		}
		if got != tt.want {
			t.Errorf("%s, weights %d:\n%s, want\n%s", tt.balancer, tt.endpoints[3].Weight, got, tt.want)
		}
	}
}

// FuzzKeys looks for keys in what callers send: whatever it is, a value that
// was put in is found, and nothing is found that is not there.
func FuzzKeys(f *testing.F) {
	f.Add("a=1; user=x", "jason")
	f.Add(`user="`, `"`)
	f.Add("=;;=&=", "")
	f.Fuzz(func(t *testing.T, before, value string) {
		c := newCall("GET", "/?"+before, "cookie: "+before)
		for _, found := range []string{cookie(c.head, "user"), first(parameter(c.query, "user"))} {
			if !strings.Contains(before, found) {
				t.Fatalf("%q has no %q", before, found)
			}
		}
		if strings.ContainsAny(value, `;"&`) || strings.Contains(before, "user") {
			return
		}
		c = newCall("GET", "/?"+before+"&user="+value+"&user=later", "cookie: "+before, "cookie: other=1;\tuser="+value+"; user=later")
		if got := cookie(c.head, "user"); got != value {
			t.Errorf("cookie after %q = %q, want %q", before, got, value)
		}
		if got, ok := parameter(c.query, "user"); got != value || !ok {
			t.Errorf("parameter after %q = %q, %t, want %q", before, got, ok, value)
		}
	})
}

func first(value string, _ bool) string { return value }
