package equivalence

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/tools/txtar"

	"serin.dev/serin/internal/mesh"
)

// corpus is what our parser is held to: requests, and what it makes of them.
const corpus = "../../internal/proxy/wire/testdata/requests/*.txtar"

// knowingly are the cases in which the planes differ, under the headings of
// docs/reference/envoy.md that say why.
var knowingly = map[string]string{
	"connection/an upgrade to h2c among others":         "upgrades",
	"connection/an upgrade to h2c in a second field":    "upgrades",
	"connection/an upgrade with a body":                 "upgrades",
	"lead/an absolute target without a path of OPTIONS": "options of a server",
	"lead/OPTIONS of the whole server":                  "options of a server",
}

// hostile sends what clients that mean harm, or know no better, send. Of it,
// nothing may reach an endpoint through our proxy that does not through Envoy.
func (s *suite) hostile(t *testing.T) {
	// What arrives cannot be told apart by its call, so each plane has an
	// endpoint of its own.
	fleets := make([]*fleet, len(s.parties))
	snapshots := make([]*mesh.Snapshot, len(s.parties))
	for i := range s.parties {
		fleets[i] = newFleet(t, nil)
		route := mesh.Route{Name: "all", Split: []mesh.Destination{{Service: "web.default", Weight: 1}}}
		snapshots[i] = &mesh.Snapshot{
			Services: map[mesh.ServiceName]*mesh.Service{"web.default": {
				Name: "web.default", Ports: []mesh.Port{{Number: 80}},
				Endpoints: []mesh.Endpoint{{Port: 80, Dial: fleets[i].start("web-v1")}},
			}},
			Gateways: []mesh.Gateway{{Name: "default/edge", Port: 80, VirtualHosts: []mesh.VirtualHost{{Hosts: []string{"*"}, Routes: []mesh.Route{route}}}}},
		}
	}
	s.settle(t, snapshots...)
	files, err := filepath.Glob(corpus)
	if err != nil || len(files) == 0 {
		t.Fatalf("corpus: %v, %v", files, err)
	}
	tally := map[string]int{}
	for name, bytes := range attacks() {
		tally[s.attack(t, fleets, name, bytes)]++
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			request := requestOf(t, f.Data)
			name := strings.TrimSuffix(filepath.Base(file), ".txtar") + "/" + f.Name
			tally[s.attack(t, fleets, name, request)]++
		}
	}
	t.Logf("%v", tally)
}

// requestOf reads the bytes of a case: what stands above "----", in which
// escapes are those of Go and line ends count for nothing.
func requestOf(t *testing.T, data []byte) string {
	above, _, _ := strings.Cut(string(data), "\n----\n")
	var b strings.Builder
	for line := range strings.SplitSeq(above, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(line, `"`, `\"`) + `"`)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		b.WriteString(text)
	}
	return b.String()
}

// reaction is what a plane does with bytes that a client sends before it ends
// its half of the connection.
type reaction struct {
	statuses []int
	visits   []visit
}

func (r *reaction) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", r.statuses)
	for i := range r.visits {
		fmt.Fprintf(&b, " [%s]", r.visits[i].line())
	}
	return b.String()
}

// quiet are times after which a plane that says nothing is taken to wait for
// more bytes. What looks wrong with one is looked at again with the next.
var quiet = [...]time.Duration{20 * time.Millisecond, 2 * time.Second, patience}

// attack sends the same bytes to both planes.
func (s *suite) attack(t *testing.T, fleets []*fleet, name, request string) string {
	if len(s.parties) < 2 {
		return "not compared"
	}
	for i, wait := range quiet {
		all := make([]reaction, len(s.parties))
		var wg sync.WaitGroup
		for n, p := range s.parties {
			wg.Go(func() { all[n] = p.react(t, fleets[n], request, wait) })
		}
		wg.Wait()
		verdict, wrong := compareReactions(&all[0], &all[1])
		if difference := knowingly[name]; difference != "" {
			if !s.explained[difference] {
				t.Errorf("%s: no heading %q in docs/reference/envoy.md", name, difference)
			}
			return "differs knowingly"
		}
		if !wrong {
			return verdict
		}
		if i == len(quiet)-1 {
			t.Errorf("%s: %q: %s\nours  %s\nEnvoy %s", name, request, verdict, &all[0], &all[1])
			return verdict
		}
	}
	return ""
}

func compareReactions(ours, envoys *reaction) (verdict string, wrong bool) {
	if extra(ours.visits, envoys.visits) {
		return "ours sent more", true
	}
	for i := range max(len(ours.statuses), len(envoys.statuses)) {
		a, b := at(ours.statuses, i), at(envoys.statuses, i)
		switch {
		case a/100 == b/100:
		case a == 0, a/100 == 4, a == http.StatusNotImplemented, a == http.StatusHTTPVersionNotSupported:
			return "ours is stricter", false
		default:
			return "ours is laxer", true
		}
	}
	return "alike", false
}

// at is an answer's status, 0 when there is none.
func at(statuses []int, i int) int {
	if i >= len(statuses) {
		return 0
	}
	return statuses[i]
}

// extra reports whether the first has what the second has not.
func extra(ours, envoys []visit) bool {
	for i := range ours {
		if i >= len(envoys) {
			return true
		}
		a, b := essence(&ours[i]), essence(&envoys[i])
		if whole, broken := strings.CutSuffix(a, brokenOff); a != b && !(broken && strings.HasPrefix(b, whole)) {
			return true
		}
	}
	return false
}

// essence is what an endpoint acts upon.
func essence(v *visit) string {
	if v.Protocol == "?" {
		line, _, _ := strings.Cut(v.Body, "\n")
		return line
	}
	return fmt.Sprintf("%s %s %s %s", v.Method, strings.ToLower(v.Host), v.Target, v.Body)
}

// react sends bytes to the gateway and takes what comes until the connection
// ends, or nothing comes any more.
func (p *party) react(t *testing.T, f *fleet, request string, wait time.Duration) reaction {
	f.forgetVisits()
	c, err := net.Dial("tcp", p.address(gatewayListener(80)))
	if err != nil {
		t.Error(err)
		return reaction{}
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Logf("sending: %v", err) // it was answered and closed meanwhile
	}
	var r reaction
	if strings.HasPrefix(request, http2.ClientPreface) {
		r.readHTTP2(c, wait)
		r.visits = f.visits("", 0, 0)
		return r
	}
	in := bufio.NewReader(c)
	for c.SetReadDeadline(time.Now().Add(wait)) == nil {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			break
		}
		if res.StatusCode >= 200 {
			r.statuses = append(r.statuses, res.StatusCode)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			break
		}
	}
	r.visits = f.visits("", 0, 0)
	return r
}
