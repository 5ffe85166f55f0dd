package controller

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/internal/translate/istio"
)

// texts checks what is written in words, of which no plan knows.
func (r *specReader) texts() {
	s := r.spec
	if d := s.Judge.Interval.Duration; d != 0 && d < tick {
		r.wrong("spec.judge.interval", "%v is shorter than %v, the time between two looks", d, tick)
	}
	r.scrapes()
	for i, w := range s.Webhooks {
		at := fmt.Sprintf("spec.webhooks[%d]", i)
		if u, err := url.Parse(w.URL); err != nil || u.Host == "" || u.Hostname() == "" {
			r.wrong(at+".url", "%q names no host: write one such as http://gate.default/check", w.URL)
		}
		if d := w.Timeout.Duration; d < 0 {
			r.wrong(at+".timeout", "%v is negative", d)
		}
	}
	for i, g := range s.Gates {
		at := fmt.Sprintf("spec.gates[%d]", i)
		if strings.ContainsFunc(g.Name, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			r.wrong(at+".name", "%q has a space in it: people write the name on a command line", g.Name)
		}
		if g.Manual == nil {
			continue
		}
		for j, who := range g.Manual.Approvers {
			if strings.TrimSpace(who) == "" {
				r.wrong(fmt.Sprintf("%s.manual.approvers[%d]", at, j), "is empty, and nobody has that name: remove it")
			}
		}
	}
	if a := s.SessionAffinity; a != nil && !isToken(a.CookieName) {
		r.wrong("spec.sessionAffinity.cookieName", "%q is not the name of a cookie: use letters, digits, - and _", a.CookieName)
	}
}

// metricName is that of Prometheus' text format.
var metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)

// scrapes checks what is looked for in what pods show: no pod shows a metric of
// another kind of name.
func (r *specReader) scrapes() {
	for i, c := range r.spec.Judge.Checks {
		if c.Scrape == nil {
			continue
		}
		at := fmt.Sprintf("spec.judge.checks[%d].scrape", i)
		if name := c.Scrape.Name; !metricName.MatchString(name) {
			r.wrong(at+".name", "%q is not the name of a metric: use letters, digits, _ and :, and say in labels which series", name)
		}
		if per := c.Scrape.Per; per != "" && !metricName.MatchString(per) {
			r.wrong(at+".per", "%q is not the name of a metric: use letters, digits, _ and :", per)
		}
	}
}

// isToken asks the library that writes cookies: it drops one whose name is no
// token (RFC 9110, section 5.6.2).
func isToken(name string) bool {
	c := http.Cookie{Name: name, Value: "x"}
	return c.Valid() == nil
}

// longWarmUp is more than any process takes that is not broken.
const longWarmUp = time.Hour

// gateways refuses what only a route could do where there is none.
func (r *specReader) gateways() {
	s := &r.spec.Service
	if r.spec.Strategy != string(rollout.Replicas) {
		return
	}
	for field, n := range map[string]int{"gateways": len(s.Gateways), "hosts": len(s.Hosts), "match": len(s.Match)} {
		if n > 0 {
			r.wrong("spec.service."+field, "the strategy %s makes no route, so nobody at a gateway would be answered: "+
				"leave it out and send the gateway's requests to the Service by a VirtualService of your own, or use the strategy %s", rollout.Replicas, rollout.Canary)
		}
	}
}

// Warnings says what of a Release has no effect, though it does no harm.
func Warnings(r *v1alpha1.Release) []string {
	var out []string
	s := &r.Spec
	switch strategy := rollout.Strategy(s.Strategy); strategy {
	case rollout.ABTest, rollout.BlueGreen, rollout.Mirror:
		// The API fills in the default where none are given.
		if steps := strings.Join(v1alpha1.Texts(s.Steps), " "); steps != "" && steps != "10 25 50" {
			out = append(out, fmt.Sprintf("spec.steps: the strategy %s has no steps: remove them", strategy))
		}
	case rollout.Canary, rollout.Replicas, "":
		if s.Iterations > 0 && s.Mirror == nil {
			out = append(out, fmt.Sprintf("spec.iterations: the strategy %s counts none without spec.mirror: remove it", rollout.Strategy(s.Strategy)))
		}
	}
	if s.Judge.Skip && len(s.Judge.Checks) > 0 {
		out = append(out, "spec.judge.checks: spec.judge.skip promotes every version at once, so nobody looks at them: remove one of the two")
	}
	if plan, err := planOf(s); err == nil && plan.Blind() != nil {
		out = append(out, plan.Blind().Error()+"; it is taken because spec.judge.tolerance is 0")
	}
	if d := s.Judge.Latency.WarmUp.Duration; d > longWarmUp {
		out = append(out, fmt.Sprintf("spec.judge.latency.warmUp: for %v nobody is told that the new version is slow: a few minutes are enough for most", d))
	}
	for i, w := range s.Webhooks {
		if w.Timeout.Duration == 0 {
			out = append(out, fmt.Sprintf("spec.webhooks[%d].timeout: 0s stands for the default, %v", i, hookTimeout))
		}
	}
	return out
}

// checkRoutes looks at what the user wrote into the routes of the split.
func checkRoutes(r *v1alpha1.Release) error {
	routes, err := kube.RoutesOf(r)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range routes {
		for _, f := range istio.Errors(istio.Validate(o)) {
			if field, message := kube.FieldOf(r, o, f); field != "" {
				errs = append(errs, fmt.Errorf("%s: %s", field, message))
			}
		}
	}
	return errors.Join(errs...)
}

// withoutEchoes joins errors, the lines of each without those about a field, or
// a part of it, that an earlier one named: what cannot be read is no value that
// something more could be said about. No line comes twice.
func withoutEchoes(errs ...error) error {
	var out []error
	said, lines := map[string]bool{}, map[string]bool{}
	for _, err := range errs {
		if err == nil {
			continue
		}
		fields := map[string]bool{}
		for line := range strings.Lines(err.Error()) {
			line = strings.TrimSuffix(line, "\n")
			field, _, _ := strings.Cut(line, ": ")
			if within(field, said) || lines[line] {
				continue
			}
			fields[field], lines[line] = true, true
			out = append(out, errors.New(line))
		}
		maps.Copy(said, fields)
	}
	return errors.Join(out...)
}

// within reports whether a field is one of others, or a part of one.
func within(field string, others map[string]bool) bool {
	for other := range others {
		if rest, ok := strings.CutPrefix(field, other); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}
