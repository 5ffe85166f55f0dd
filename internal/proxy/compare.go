package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/internal/telemetry"
)

// Answers to copies are compared with those that users got. Two answers of one
// version differ as well, in times, identifiers, orders of maps: such noise is
// learned by giving a part of the copies to the version that answered the user.
// What differs between two answers of the same version says nothing when it
// differs between two versions. Only answers to GET and HEAD are compared beyond
// their status, because others may well change what the next one says.

const (
	// comparedBody is how many bytes of a body are kept for the comparison; of
	// a longer one nothing is.
	comparedBody = 16 << 10
	// comparedEndpoints bounds what is learned, comparedPlaces what of each.
	comparedEndpoints, comparedPlaces = 256, 64
	// learned is how many pairs of one version are compared before pairs of two
	// are, and noiseEvery the share of the copies afterwards: one of so many.
	learned, noiseEvery = 5, 32
	// comparing is how many pairs are compared at once; of others that is not
	// known.
	comparing = 4
	// shownValue is how many bytes of a value a difference shows.
	shownValue = 40
)

// heard is what is kept of an answer.
type heard struct {
	status  int // 0: there was none, or not all of it
	typ     string
	place   string // header Location
	body    []byte
	tooLong bool
}

// head keeps what is compared of an answer's head.
func (a *heard) head(h *wire.Head) {
	a.status = h.Status
	typ, _ := h.Get("content-type")
	place, _ := h.Get("location")
	a.typ, a.place = strings.Clone(typ), strings.Clone(place)
}

// piece keeps a piece of its body.
func (a *heard) piece(p []byte) {
	if a.tooLong = a.tooLong || len(a.body)+len(p) > comparedBody; a.tooLong {
		a.body = nil
		return
	}
	a.body = append(a.body, p...)
}

// difference is one place at which two answers are not the same.
type difference struct {
	place string // such as "status" or "$.items[].id", by which noise is known
	text  string
}

// comparer compares pairs of answers beside the loops, and remembers what is
// noise. It is safe for concurrent use.
type comparer struct {
	busy chan struct{} // holds one of each pair that is being compared

	mu        sync.Mutex
	endpoints map[string]*noise
}

// noise is what is known of one endpoint.
type noise struct {
	pairs  int // of one version
	asked  int
	places map[string]bool
}

func newComparer() *comparer {
	return &comparer{busy: make(chan struct{}, comparing), endpoints: map[string]*noise{}}
}

// of returns what is known of an endpoint; nil when there are too many. Under mu.
func (c *comparer) of(endpoint string) *noise {
	n := c.endpoints[endpoint]
	if n == nil && len(c.endpoints) < comparedEndpoints {
		n = &noise{places: map[string]bool{}}
		c.endpoints[endpoint] = n
	}
	return n
}

// wantsNoise reports whether this copy should go to the user's version, too.
func (c *comparer) wantsNoise(method, path string) bool {
	if !isRepeatable(method) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of(telemetry.EndpointName(method, path))
	if n == nil {
		return false
	}
	n.asked++
	return n.pairs < learned || n.asked%noiseEvery == 0
}

func isRepeatable(method string) bool { return method == "GET" || method == "HEAD" }

// report compares a pair and records the copy.
func (c *comparer) report(r *telemetry.Request, user, copied *heard, to telemetry.Recorder) {
	select {
	case c.busy <- struct{}{}:
		go func() {
			defer func() { <-c.busy }()
			c.compare(r, user, copied)
			to.Record(r)
		}()
	default:
		to.Record(r)
	}
}

// compare fills in how the copy's answer differs from the user's.
func (c *comparer) compare(r *telemetry.Request, user, copied *heard) {
	if copied.status == 0 {
		r.Compared, r.Differs = r.Kind == telemetry.MirrorCopy, "there is no answer"
		return
	}
	var found []difference
	if isRepeatable(r.Method) {
		found = differences(user, copied)
	} else if user.status != copied.status {
		found = []difference{differs("status", copied.status, user.status)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of(telemetry.EndpointName(r.Method, r.Path))
	switch {
	case n == nil:
		return
	case r.Kind == telemetry.NoiseCopy:
		n.pairs++
		for _, d := range found {
			if len(n.places) < comparedPlaces {
				n.places[d.place] = true
			}
		}
	case isRepeatable(r.Method) && n.pairs < learned:
		return
	default:
		found = slices.DeleteFunc(found, func(d difference) bool { return n.isNoise(d.place) })
	}
	r.Compared = true
	if len(found) > 0 {
		r.Differs = found[0].text
	}
}

// isNoise reports whether a place, or one that it is part of, was seen to differ
// between answers of one version.
func (n *noise) isNoise(place string) bool {
	for {
		if n.places[place] {
			return true
		}
		cut := strings.LastIndexAny(place, ".[")
		if cut <= 0 {
			return false
		}
		place = place[:cut]
	}
}

// differences compares an answer with the one a user got. Beyond another status
// nothing is of interest.
func differences(user, copied *heard) []difference {
	switch {
	case user.status != copied.status:
		return []difference{differs("status", copied.status, user.status)}
	case user.typ != copied.typ:
		return []difference{differs("header content-type", shown(copied.typ), shown(user.typ))}
	case user.place != copied.place:
		return []difference{differs("header location", shown(copied.place), shown(user.place))}
	case user.tooLong && copied.tooLong || bytes.Equal(user.body, copied.body):
		return nil
	}
	if a, ok := readJSON(copied.body); ok {
		if b, ok := readJSON(user.body); ok {
			return compareJSON(nil, "$", "$", a, b)
		}
	}
	return []difference{{"body", fmt.Sprintf("body differs: %s instead of %s", size(copied), size(user))}}
}

func size(a *heard) string {
	if a.tooLong {
		return fmt.Sprintf("more than %d bytes", comparedBody)
	}
	return fmt.Sprintf("%d bytes", len(a.body))
}

func differs(place string, is, was any) difference {
	return difference{place, fmt.Sprintf("%s differs: %v instead of %v", place, is, was)}
}

func shown(text string) string {
	if len(text) > shownValue {
		text = strings.ToValidUTF8(text[:shownValue], "") + "…"
	}
	return strconv.Quote(text)
}

func readJSON(body []byte) (v any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, false
	}
	_, err := d.Token()
	return v, err == io.EOF
}

// compareJSON adds where a differs from b. A place has no indices, so that what
// is noise in one element is in all; at is for people.
func compareJSON(out []difference, place, at string, a, b any) []difference {
	if len(out) >= comparedPlaces {
		return out
	}
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			return compareObjects(out, place, at, a, b)
		}
	case []any:
		if b, ok := b.([]any); ok {
			return compareArrays(out, place, at, a, b)
		}
	default: // a number, a text, a truth value or null
		switch b.(type) {
		case map[string]any, []any:
		default:
			if a == b {
				return out
			}
		}
	}
	return append(out, difference{place, fmt.Sprintf("%s differs: %s instead of %s", at, jsonText(a), jsonText(b))})
}

func compareObjects(out []difference, place, at string, a, b map[string]any) []difference {
	var keys []string
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		x, inA := a[k]
		y, inB := b[k]
		switch {
		case !inA:
			out = append(out, difference{place + "." + k, fmt.Sprintf("%s.%s is missing", at, k)})
		case !inB:
			out = append(out, difference{place + "." + k, fmt.Sprintf("%s.%s is new: %s", at, k, jsonText(x))})
		default:
			out = compareJSON(out, place+"."+k, at+"."+k, x, y)
		}
	}
	return out
}

func compareArrays(out []difference, place, at string, a, b []any) []difference {
	if len(a) != len(b) {
		return append(out, difference{place, fmt.Sprintf("%s differs: %d elements instead of %d", at, len(a), len(b))})
	}
	for i := range a {
		out = compareJSON(out, place+"[]", fmt.Sprintf("%s[%d]", at, i), a[i], b[i])
	}
	return out
}

// jsonText shows a value in few bytes.
func jsonText(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return fmt.Sprintf("an array of %d", len(v))
	case string:
		return shown(v)
	case nil:
		return "null"
	}
	return fmt.Sprint(v)
}
