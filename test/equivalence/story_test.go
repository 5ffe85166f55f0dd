package equivalence

import (
	"flag"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var rewrite = flag.Bool("rewrite", false, "record what the stories give as what they should give")

// question is one call of a story, or many of them at once.
//
// In a story's "calls" it is a paragraph: a line OPTION… METHOD URL, then lines
// of the request, then "----" and what became of it, alike on both planes:
//
//	gateway GET http://shop.example.org/cart    to the gateway's port of the URL; TLS for https
//	upstream db.default:5432 TALK               to an upstream port; TALK sends lines alone
//	h2                                          the caller speaks HTTP/2
//	all                                         record all headers, not only changes
//	fresh                                       on new connections
//	client-cert                                 the caller shows its certificate
//	bytes                                       what is asked is carried as bytes and not recorded
//	sees=N                                      wait until endpoints saw N requests (copies for mirrors)
//	at-least=DURATION at-most=DURATION          how long the answer takes
//	leave=DURATION                              the caller goes away then
//	until                                       ask again until the outcome is as recorded
//	400x slow=DURATION                          so many calls: "shares v1=50 v3=50", in percent by
//	                                            endpoint or status, with "+slow" if it took so long
//	each=N                                      N calls, twice, with a number in place of NUMBER: each
//	                                            finds its endpoint again, the same on both planes
//	parallel=N                                  N calls at once, counted by what became of them
//
//	name: value      a header; "do SCRIPT" is the one that instructs endpoints
//	| text           a body; "chunked" sends it so; "^ name: value" is a trailer
//	> line           a line to send after an upgrade or instead of a request
//	differs NAME     Envoy does something else, recorded behind "---- envoy" and
//	                 explained under that heading of docs/reference/envoy.md
type question struct {
	call
	via      string // "", "gateway" or "upstream ..."
	all      bool
	fresh    bool
	bytes    bool
	sees     int
	atLeast  time.Duration
	atMost   time.Duration
	until    bool
	times    int
	slow     time.Duration
	each     int
	parallel int
	differs  string
	shows    bool // the caller shows its certificate
}

// parseQuestion reads the lines before "----".
func parseQuestion(lines []string) (*question, error) {
	q := &question{}
	words := strings.Fields(lines[0])
	for len(words) > 0 {
		word := words[0]
		key, value, _ := strings.Cut(word, "=")
		number, duration, err := 0, time.Duration(0), error(nil)
		switch key {
		case "sees", "each", "parallel":
			number, err = strconv.Atoi(value)
		case "at-least", "at-most", "leave", "slow":
			duration, err = time.ParseDuration(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", word, err)
		}
		if n, err := strconv.Atoi(strings.TrimSuffix(word, "x")); err == nil && strings.HasSuffix(word, "x") {
			q.times, words = n, words[1:]
			continue
		}
		switch key {
		case "gateway":
			q.via = key
		case "upstream":
			q.via, words = "upstream:"+words[1], words[1:]
		case "h2":
			q.http2 = true
		case "all":
			q.all = true
		case "fresh":
			q.fresh = true
		case "bytes":
			q.bytes = true
		case "until":
			q.until = true
		case "client-cert":
			q.shows = true
		case "sees":
			q.sees = number
		case "each":
			q.each = number
		case "parallel":
			q.parallel = number
		case "at-least":
			q.atLeast = duration
		case "at-most":
			q.atMost = duration
		case "leave":
			q.leave = duration
		case "slow":
			q.slow = duration
		default:
			return q, q.parseRequest(words, lines[1:])
		}
		words = words[1:]
	}
	return nil, fmt.Errorf("%q: no request", lines[0])
}

// parseRequest reads METHOD URL and the lines after it.
func (q *question) parseRequest(words, lines []string) error {
	if words[0] != "TALK" {
		q.method = words[0]
	}
	if len(words) > 2 {
		return fmt.Errorf("%q: not METHOD URL", strings.Join(words, " "))
	}
	q.url = &url.URL{Scheme: "http"}
	if len(words) == 2 {
		target := words[1]
		if !strings.Contains(target, "://") {
			target = "tcp://" + target
		}
		var err error
		if q.url, err = url.Parse(target); err != nil {
			return err
		}
	}
	switch {
	case q.via == "gateway":
		port := uint64(80)
		if q.url.Scheme == "https" {
			port, q.sni = 443, q.url.Hostname()
		}
		if p := q.url.Port(); q.url.Scheme == "tcp" && p != "" {
			port, _ = strconv.ParseUint(p, 10, 16)
		}
		q.listener = gatewayListener(uint16(port))
	case q.via != "":
		q.listener = q.via
	default:
		q.listener = outboundListener
	}
	for _, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case word == "do":
			q.header = append(q.header, headerDo+": "+rest)
		case word == "|":
			q.body += rest
		case word == "chunked":
			q.chunked = true
		case word == "^":
			q.trailer = append(q.trailer, rest)
		case word == ">":
			q.talk = append(q.talk, rest)
		case word == "differs":
			q.differs = rest
		case strings.HasSuffix(word, ":"):
			q.header = append(q.header, line)
		default:
			return fmt.Errorf("%q: neither header, body nor line to send", line)
		}
	}
	return nil
}

// numbered is the n-th call.
func (q *question) numbered(n int) *call {
	c := q.call
	c.header = slices.Clone(c.header)
	for i, h := range c.header {
		c.header[i] = strings.ReplaceAll(h, "NUMBER", strconv.Itoa(n))
	}
	u := *q.url
	u.Path, u.RawQuery = strings.ReplaceAll(u.Path, "NUMBER", strconv.Itoa(n)), strings.ReplaceAll(u.RawQuery, "NUMBER", strconv.Itoa(n))
	c.url = &u
	return &c
}

func (s *suite) stories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("stories: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s.play(t, archive)
			if *rewrite && !t.Failed() {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// play plays a story, and writes what it gave into it.
func (s *suite) play(t *testing.T, story *txtar.Archive) {
	snapshot, findings := s.snapshot(t, story)
	s.settle(t, snapshot)
	at := slices.IndexFunc(story.Files, func(f txtar.File) bool { return f.Name == "findings" })
	switch {
	case at >= 0:
		if diff := cmp.Diff(string(story.Files[at].Data), findings); diff != "" && !*rewrite {
			t.Errorf("findings: -recorded +now:\n%s", diff)
		}
		story.Files[at].Data = []byte(findings)
	case findings != "":
		t.Errorf("mend the objects, or record in a section findings:\n%s", findings)
	}
	for i := range story.Files {
		if story.Files[i].Name != "calls" {
			continue
		}
		want := string(story.Files[i].Data)
		var pending []func() string
		for paragraph := range strings.SplitSeq(strings.TrimSpace(want), "\n\n") {
			pending = append(pending, s.ask(t, paragraph))
		}
		var got []string
		for _, told := range pending {
			got = append(got, told())
		}
		text := strings.Join(got, "\n\n") + "\n"
		if !*rewrite {
			if diff := cmp.Diff(want, text); diff != "" {
				t.Errorf("-recorded +now:\n%s", diff)
			}
		}
		story.Files[i].Data = []byte(text)
	}
}

// ask asks one question. What it returns gives its paragraph with what became
// of it; all is asked before, since Envoy's records come late.
func (s *suite) ask(t *testing.T, paragraph string) func() string {
	lines := strings.Split(paragraph, "\n")
	at := slices.Index(lines, "----")
	if at < 0 {
		at = len(lines)
	}
	given, recorded := lines[:at], strings.Join(lines[min(at+1, len(lines)):], "\n")
	given = slices.Clone(given)
	first := slices.IndexFunc(given, func(line string) bool { return !strings.HasPrefix(line, "#") })
	if first < 0 {
		return func() string { return paragraph }
	}
	q, err := parseQuestion(given[first:])
	if err != nil {
		t.Fatal(err)
	}
	if q.fresh {
		s.hangUp()
	}
	if q.shows {
		q.client = s.pki.client
	}
	told := func(out string) func() string {
		return func() string { return strings.Join(given, "\n") + "\n----\n" + out }
	}
	switch {
	case q.times > 0:
		return told(s.askShares(t, q, recorded))
	case q.each > 0:
		return told(s.askEach(t, q))
	case q.parallel > 0:
		return told(s.askParallel(t, q))
	case q.until:
		return told(s.askUntil(t, q, recorded))
	}
	ours, envoys := s.call(t, &q.call, q.sees)
	return func() string {
		s.complete(t, q, ours, envoys)
		return told(s.outcomeText(t, q, ours, envoys, false))()
	}
}

// askUntil makes a call until its outcome is as recorded, flags aside.
func (s *suite) askUntil(t *testing.T, q *question, recorded string) string {
	deadline := time.Now().Add(patience)
	for {
		ours, envoys := s.call(t, &q.call, q.sees)
		late := time.Now().After(deadline)
		if envoys != nil {
			level(ours, envoys)
		}
		text := s.outcomeText(t, q, ours, envoys, !late)
		if text == recorded || late {
			return text
		}
	}
}

// complete adds what the records tell.
func (s *suite) complete(t *testing.T, q *question, ours, envoys *outcome) {
	for i, o := range []*outcome{ours, envoys} {
		if o != nil && !q.bytes {
			s.parties[i].complete(t, &q.call, o)
		}
	}
	if envoys != nil {
		level(ours, envoys)
	}
}

func (s *suite) outcomeText(t *testing.T, q *question, ours, envoys *outcome, again bool) string {
	text := strings.Join(ours.summary(&q.call, q.all), "\n")
	if envoys == nil {
		return text
	}
	for _, o := range []*outcome{ours, envoys} {
		switch {
		case again:
		case o.Took < q.atLeast*9/10: // a timer of milliseconds may be early by one
			t.Errorf("%s took %v, want at least %v", q.text(), o.Took, q.atLeast)
		case q.atMost > 0 && o.Took > q.atMost:
			t.Errorf("%s took %v, want at most %v", q.text(), o.Took, q.atMost)
		}
	}
	diff := cmp.Diff(ours.lines(), envoys.lines())
	switch {
	case q.differs != "":
		if diff == "" {
			t.Errorf("%s: the planes do the same now: remove differs %q", q.text(), q.differs)
		}
		if !s.explained[q.differs] {
			t.Errorf("%s: no heading %q in docs/reference/envoy.md", q.text(), q.differs)
		}
		text += "\n---- envoy\n" + strings.Join(envoys.summary(&q.call, q.all), "\n")
	case diff != "" && !again:
		t.Errorf("%s: the planes differ (-ours +Envoy):\n%s", q.text(), diff)
	case diff != "":
		text += "\n(the planes differ)"
	}
	return text
}

func (q *question) text() string { return fmt.Sprintf("%s %s %s", q.listener, q.method, q.url) }

// tooFar is the distance from the expected count, in standard deviations, that
// a share reaches by chance in one of 10⁸ tests.
const tooFar = 5.8

// askShares makes many calls and compares how often each thing became of them
// with what is expected.
func (s *suite) askShares(t *testing.T, q *question, recorded string) string {
	var wants []string
	want := map[string]float64{}
	for _, word := range strings.Fields(strings.TrimPrefix(recorded, "shares")) {
		key, percent, _ := strings.Cut(word, "=")
		share, err := strconv.ParseFloat(percent, 64)
		if err != nil {
			t.Fatalf("%s: %q is not KEY=PERCENT", q.text(), word)
		}
		want[key] = share / 100
		wants = append(wants, key)
	}
	s.both(func(p *party) {
		got := map[string]int{}
		for n := range q.times {
			o := p.call(t, q.numbered(n), q.sees)
			got[o.key(q.slow)]++
		}
		for key, count := range got {
			if _, ok := want[key]; !ok {
				t.Errorf("%s on %s: %d of %d were %s, which is not expected", q.text(), p.name(), count, q.times, key)
			}
		}
		for _, key := range wants {
			mean := float64(q.times) * want[key]
			deviation := math.Sqrt(mean * (1 - want[key]))
			if d := math.Abs(float64(got[key]) - mean); d > tooFar*deviation+1 {
				t.Errorf("%s on %s: %d of %d were %s, want %.0f ± %.0f", q.text(), p.name(), got[key], q.times, key, mean, tooFar*deviation+1)
			}
		}
	})
	return recorded
}

// askEach makes numbered calls, twice.
func (s *suite) askEach(t *testing.T, q *question) string {
	var mu sync.Mutex
	first := make([]string, q.each)
	used := map[string]bool{}
	s.both(func(p *party) {
		for range 2 {
			for n := range q.each {
				key := p.call(t, q.numbered(n), q.sees).key(0)
				mu.Lock()
				if first[n] == "" {
					first[n] = key
				}
				if first[n] != key && !t.Failed() {
					t.Errorf("%s number %d on %s: went to %s, and before to %s", q.text(), n, p.name(), key, first[n])
				}
				used[key] = true
				mu.Unlock()
			}
		}
	})
	if len(used) < 2 && q.each >= 30 {
		t.Errorf("%s: all %d numbers went to one", q.text(), q.each)
	}
	return "each finds its own"
}

// askParallel makes calls at once and counts what became of them.
func (s *suite) askParallel(t *testing.T, q *question) string {
	texts := map[string]string{}
	var mu sync.Mutex
	s.both(func(p *party) {
		counts := map[string]int{}
		var wg sync.WaitGroup
		for range q.parallel {
			wg.Go(func() {
				o := p.alone().call(t, &q.call, q.sees)
				p.complete(t, &q.call, o)
				mu.Lock()
				counts[o.key(0)+" "+o.Flags]++
				mu.Unlock()
			})
		}
		wg.Wait()
		var lines []string
		for key, n := range counts {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%d × %s", n, key)))
		}
		slices.Sort(lines)
		mu.Lock()
		texts[p.name()] = strings.Join(lines, "\n")
		mu.Unlock()
	})
	ours := texts["serin"]
	if envoys, ok := texts["envoy"]; ok && ours != envoys {
		t.Errorf("%s: the planes differ (-ours +Envoy):\n%s", q.text(), cmp.Diff(ours, envoys))
	}
	return ours
}

// headings are the names of the differences that the page explains.
func headings(t *testing.T) map[string]bool {
	page, err := os.ReadFile("../../docs/reference/envoy.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(line, "### "); ok {
			names[strings.TrimSpace(name)] = true
		}
	}
	return names
}
