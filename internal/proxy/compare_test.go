package proxy

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

func TestDifferencesNamePlaceAndValues(t *testing.T) {
	f := func(user, copied, want string) {
		t.Helper()
		a, b := &heard{status: 200, body: []byte(user)}, &heard{status: 200, body: []byte(copied)}
		got := ""
		if all := differences(a, b); len(all) > 0 {
			got = all[0].text
		}
		if got != want {
			t.Errorf("%s against %s: %q, want %q", copied, user, got, want)
		}
	}
	f(`{"a": 1, "b": [1, 2]}`, `{"b":[1,2],"a":1}`, "")
	f(`{"items": 0}`, `{"items": 3}`, "$.items differs: 3 instead of 0")
	f(`{"items": []}`, `{"items": [1]}`, "$.items differs: 1 elements instead of 0")
	f(`[{"a": {"b": "x"}}]`, `[{"a": {"b": "y"}}]`, `$[0].a.b differs: "y" instead of "x"`)
	f(`{"a": 1}`, `{"b": 1}`, "$.a is missing")
	f(`{}`, `{"b": null}`, "$.b is new: null")
	f(`{"a": {}}`, `{"a": []}`, "$.a differs: an array of 0 instead of an object")
	f(`1.0`, `1`, "$ differs: 1 instead of 1.0")
	f(`plain`, `other text`, "body differs: 10 bytes instead of 5 bytes")
	f(`{"a": 1} trailing`, `{"a": 2} trailing`, "body differs: 17 bytes instead of 17 bytes")
}

func TestWhatAVersionVariesItselfIsNoise(t *testing.T) {
	c := newComparer()
	pair := func(kind telemetry.Kind, user, copied string) telemetry.Request {
		r := telemetry.Request{Method: "GET", Path: "/cart/7", Kind: kind}
		c.compare(&r, &heard{status: 200, body: []byte(user)}, &heard{status: 200, body: []byte(copied)})
		return r
	}
	if r := pair(telemetry.MirrorCopy, `{"id": 1}`, `{"id": 2}`); r.Compared {
		t.Errorf("compared before anything is known of noise: %+v", r)
	}
	for i := range learned {
		r := pair(telemetry.NoiseCopy, `{"songs": [{"seen": 1}], "n": 1}`, fmt.Sprintf(`{"songs": [{"seen": %d}], "n": 1}`, i+2))
		if !r.Compared || r.Differs == "" {
			t.Errorf("noise is not told: %+v", r)
		}
	}
	if r := pair(telemetry.MirrorCopy, `{"songs": [{"seen": 4}], "n": 1}`, `{"songs": [{"seen": {"at": 9}}], "n": 1}`); !r.Compared || r.Differs != "" {
		t.Errorf("noise counts as a difference: %+v", r)
	}
	if r := pair(telemetry.MirrorCopy, `{"songs": [{"seen": 4}], "n": 1}`, `{"songs": [{"seen": 9}], "n": 2}`); r.Differs != "$.n differs: 2 instead of 1" {
		t.Errorf("differs = %q", r.Differs)
	}
}

// kindRecords keeps the records of copies.
type kindRecords chan telemetry.Request

func (k kindRecords) Record(q *telemetry.Request) {
	if q.Kind != telemetry.UsersRequest {
		k <- *q.Clone()
	}
}

// compared has the answers to copies compared.
func compared(vh mesh.VirtualHost) mesh.VirtualHost {
	vh.Routes[0].Mirrors[0].Compare = true
	return vh
}

func TestAnswersToCopiesAreCompared(t *testing.T) {
	copies := make(kindRecords, 100)
	r := newRig(t, Config{Recorder: copies, Loops: 1})
	var n atomic.Int64
	app := r.app(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"serial": %d, "items": 0}`, n.Add(1))
	})
	mirror := r.app(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"serial": %d, "items": 3}`, n.Add(1))
	})
	r.apply(service("music.default", app), service("copy.default", mirror), compared(mirrors(mesh.Everything)))
	_, client := r.outbound()
	for range learned {
		r.get(client, "http://music/cart")
		kinds := map[telemetry.Kind]int{}
		for range 2 {
			q := <-copies
			kinds[q.Kind]++
			if q.Code != 200 || q.Original.Failed || q.Original.Duration <= 0 || q.Split {
				t.Errorf("copy = %+v", q)
			}
		}
		if kinds[telemetry.MirrorCopy] != 1 || kinds[telemetry.NoiseCopy] != 1 {
			t.Errorf("kinds = %v, want a copy to each version", kinds)
		}
	}
	r.get(client, "http://music/cart")
	if q := <-copies; q.Backend != "copy.default" || !q.Compared || q.Differs != "$.items differs: 3 instead of 0" {
		t.Errorf("copy = %+v, want where it differs", q)
	}
}

func TestAFailedTryIsInTheRecordOfTheRequest(t *testing.T) {
	r := newRig(t, Config{Loops: 1})
	var n atomic.Int64
	app := r.app(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	vh := weighted("music.default", 1)
	vh.Routes[0].Split[0].Subset = ""
	vh.Routes[0].Retry = &mesh.Retry{Attempts: 1, On: mesh.Retry5xx}
	r.apply(service("music.default", app), vh)
	_, client := r.outbound()
	for _, want := range []string{"app", ""} {
		r.get(client, "http://music/")
		if q := r.recorded(); q.Code != 200 || q.Masked != want {
			t.Errorf("record = %+v, want 200 with a try that %q masked", q, want)
		}
	}
}

// FuzzDifferences: whatever two applications answer, a comparison ends, finds
// nothing between equal bodies, and the same in either order.
func FuzzDifferences(f *testing.F) {
	f.Add([]byte(`{"a": [1, {"b": null}]}`), []byte(`{"a": [1, {"b": 2}], "c": "d"}`))
	f.Add([]byte("plain"), []byte(`[`))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, b := &heard{status: 200}, &heard{status: 200}
		a.piece(x)
		b.piece(y)
		if d := differences(a, a); len(d) > 0 {
			t.Errorf("%q differs from itself: %v", x, d)
		}
		if there, back := len(differences(a, b)), len(differences(b, a)); there != back {
			t.Errorf("%q and %q: %d differences, %d the other way round", x, y, there, back)
		}
	})
}
