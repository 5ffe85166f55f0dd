package equivalence

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"serin.dev/serin/test/story"
)

// question is one call of a story, or many of them at once.
//
// In a story's "calls" it is a paragraph: a line OPTION… METHOD URL, then lines
// of the request, then "----" and what became of it, alike on both planes:
//
//	gateway GET http://shop.example.org/cart    to the gateway's port of the URL; TLS for https
//	upstream db.default:5432 TALK               to an upstream port; TALK sends lines alone, in TLS for tls://NAME
//	inbound GET http://app/                     to the application's inbound address, by the URL's port
//	h2                                          the caller speaks HTTP/2
//	all                                         record all headers, not only changes
//	fresh                                       on new connections
//	client-cert                                 the caller shows its certificate
//	bytes                                       what is asked is carried as bytes and not recorded
//	sees=N                                      wait until endpoints saw N requests (copies for mirrors)
//	at-least=DURATION at-most=DURATION          how long the answer takes
//	leave=DURATION                              the caller goes away then
//	until                                       ask again until the outcome is as recorded
//	400x slow=DURATION                          so many calls: "shares v1=50 v3=50", in percent by endpoint,
//	                                            status or end, with "+slow" if it took so long; at-least and
//	                                            at-most are then for all of them together
//	copies                                      counts the copies that mirrors got instead
//	each=N                                      N calls, twice, with a number in place of NUMBER: each
//	                                            finds its endpoint again, the same on both planes
//	parallel=N first=K                          N calls at once, counted by what became of them; K of them
//	                                            end while the others may be held at endpoints
//
//	name: value      a header; "do SCRIPT" is the one that instructs endpoints
//	| text           a body; "chunked" sends it so; "^ name: value" is a trailer
//	> line           a line to send after an upgrade or instead of a request
//	differs NAME     Envoy does something else, recorded behind "---- envoy" and
//	                 explained under that heading of docs/reference/envoy.md
type question struct {
	call
	via      string // "", "gateway", "inbound" or "upstream:..."
	all      bool
	fresh    bool
	bytes    bool
	sees     int
	atLeast  time.Duration
	atMost   time.Duration
	until    bool
	times    int
	slow     time.Duration
	copies   bool
	each     int
	parallel int
	first    int
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
		case "sees", "each", "parallel", "first":
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
		case "gateway", "inbound":
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
		case "copies":
			q.copies = true
		case "client-cert":
			q.shows = true
		case "sees":
			q.sees = number
		case "each":
			q.each = number
		case "parallel":
			q.parallel = number
		case "first":
			q.first = number
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
	if err := q.findListener(); err != nil {
		return err
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

// findListener says where the call goes, by its URL.
func (q *question) findListener() error {
	port := uint64(80)
	switch q.url.Scheme {
	case "https", "tls":
		port, q.sni = 443, q.url.Hostname()
	}
	if p := q.url.Port(); p != "" && (q.url.Scheme != "http" && q.url.Scheme != "https" || q.via == "inbound") {
		var err error
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return err
		}
	}
	switch q.via {
	case "gateway":
		q.listener = gatewayListener(uint16(port))
	case "inbound":
		q.listener = inboundListener(uint16(port))
	case "":
		q.listener, q.sni = outboundListener, ""
	default:
		q.listener = q.via
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
	story.EachArchive(t, "testdata/*.txtar", s.play)
}

// play plays a story, and writes what it gave into it.
func (s *suite) play(t *testing.T, told *txtar.Archive) {
	snapshot, findings := s.snapshot(t, told)
	s.settle(t, snapshot)
	at := slices.IndexFunc(told.Files, func(f txtar.File) bool { return f.Name == "findings" })
	switch {
	case at >= 0:
		told.Files[at].Data = []byte(findings)
	case findings != "":
		t.Errorf("mend the objects, or record in a section findings:\n%s", findings)
	}
	for i := range told.Files {
		if told.Files[i].Name != "calls" {
			continue
		}
		var pending []func() string
		for paragraph := range strings.SplitSeq(strings.TrimSpace(string(told.Files[i].Data)), "\n\n") {
			pending = append(pending, s.ask(t, paragraph))
		}
		var got []string
		for _, then := range pending {
			got = append(got, then())
		}
		told.Files[i].Data = []byte(strings.Join(got, "\n\n") + "\n")
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
	if !q.bytes {
		s.parties[0].complete(t, &q.call, ours)
	}
	if envoys != nil {
		if envoy := s.parties[1]; !q.bytes && !envoy.recorded(&q.call, envoys) {
			if s.lost.Add(1) > mayLose {
				t.Errorf("%s recorded nothing of %s: %s", envoy.name(), envoys.id, q.text())
			}
			*envoys = *envoy.call(t, &q.call, q.sees)
			envoy.complete(t, &q.call, envoys)
		}
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
