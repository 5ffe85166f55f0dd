package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/internal/telemetry"
)

func spec(t *testing.T, text string) *v1alpha1.ReleaseSpec {
	t.Helper()
	out := &v1alpha1.ReleaseSpec{}
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	out.Service.Port = 80 // the API asks for one
	return out
}

const goodSpec = `
target: {name: music}
steps: [10, 50]
hold: 5s
progressDeadline: 10m
judge: {falseAlarm: "0.001", tolerance: "1", confidence: "95", failureLimit: 1, interval: 10s}
`

func TestPlanReadsPercentsAsShares(t *testing.T) {
	p, err := planOf(spec(t, goodSpec))
	if err != nil {
		t.Fatal(err)
	}
	if p.Policy.Tolerance != 0.01 || p.Policy.Confidence != 0.95 || p.Policy.FalseAlarm != 0.001 {
		t.Errorf("policy = %+v, want tolerance 0.01, confidence 0.95, false alarm 0.001", p.Policy)
	}
}

func TestAPlanThatCannotWorkNamesTheField(t *testing.T) {
	f := func(old, new, want string) {
		t.Helper()
		r := &v1alpha1.Release{Spec: *spec(t, strings.Replace(goodSpec, old, new, 1))}
		err := Check(r)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %s: error = %v, want one that says %q", new, err, want)
		}
	}
	f("[10, 50]", "[50, 10]", "steps")
	f("[10, 50]", "[10, 100]", "spec.steps[1]: at 100 % there is no stable version to compare with")
	f("steps:", "strategy: ABTest\niterations: 1\nmatch: [{headers: {a: {exact: b}}}]\nsteps:", "spec.judge.checks: nothing tells a bad version, for the strategy ABTest")
	f(`tolerance: "1"`, `tolerance: "x"`, "tolerance")
	f(`confidence: "95"`, `confidence: "120"`, "confidence")
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: success-rate}]`, "checks[0]")
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: success-rate, min: "120"}]`, "checks[0].min: no success-rate is above 100 %")
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: duration-p99, max: "0"}]`, "checks[0].max: no duration is as short as that")
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: cpu, max: "NaN"}]`, `checks[0].max: "NaN" is not a number`)
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: cpu, max: "Inf"}]`, `checks[0].max: "Inf" is not a number`)
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: sold, min: "1", scrape: {name: 'sold{a="b"}', port: 80}}]`, "checks[0].scrape.name: \"sold{a=\\\"b\\\"}\" is not the name of a metric")
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: sold, min: "1", scrape: {name: sold, per: 1st, port: 80}}]`, `checks[0].scrape.per: "1st" is not the name of a metric`)
	f("steps:", "service: {gateways: [public], match: [{urii: {prefix: /}}]}\nsteps:", `spec.service.match[0]: unknown field "urii"`)
	f("steps:", "service: {gateways: [public], match: [{uri: {regex: '('}}]}\nsteps:", "spec.service.match[0].uri.regex: ")
	f("steps:", "service: {gateways: [public], hosts: ['a b']}\nsteps:", `spec.service.hosts[0]: "a b"`)
	f("steps:", "dependsOn: [a/b/c]\nsteps:", `spec.dependsOn[0]: "a/b/c" is no name of a Release`)
	f("steps:", "dependsOn: [catalog, catalog]\nsteps:", "spec.dependsOn[1]: catalog is there already")
	f(`failureLimit: 1`, `failureLimit: 1, checks: [{metric: sales, min: "1"}]`, `checks[0].metric: "sales" is unknown`)
	f("steps:", "service: {gateways: [a/b/c]}\nsteps:", `spec.service.gateways[0]: "a/b/c" is no reference to a Gateway`)
	f("steps:", "strategy: Replicas\nservice: {gateways: [public]}\nsteps:", "spec.service.gateways: the strategy Replicas makes no route")
	f("steps:", "strategy: Replicas\nservice: {match: [{uri: {prefix: /}}]}\nsteps:", "spec.service.match: the strategy Replicas makes no route")
	f("steps:", "webhooks: [{name: a, type: rollout, url: 'http://'}]\nsteps:", `spec.webhooks[0].url: "http://" names no host`)
	f("steps:", "webhooks: [{name: a, type: rollout, url: 'http://a', timeout: -1s}]\nsteps:", "spec.webhooks[0].timeout: -1s is negative")
	f("interval: 10s", "interval: 1ms", "spec.judge.interval: 1ms is shorter than 250ms")
	f("steps:", "sessionAffinity: {cookieName: 'a b;', maxAge: 1}\nsteps:", `spec.sessionAffinity.cookieName: "a b;" is not the name of a cookie`)
	f("steps:", "service: {port: 80}\npreview: [{}]\nsteps:", "spec.preview[0]: holds for every request")
	f("steps:", "service: {port: 80}\npreview: [{name: all, uri: {prefix: /}}]\nsteps:", "spec.preview[0]: holds for every request")
	f("steps:", "service: {port: 80}\nstrategy: ABTest\niterations: 1\nmatch: [{headers: {a: {exact: b}}}, {uri: {regex: '.*'}}]\nsteps:", "spec.match[1]: holds for every request")
	f("steps:", "service: {port: 80, match: [{uri: {prefix: /}}], gateways: [public]}\npreview: [{}]\nsteps:", "spec.preview[0]: holds for every request")
	f("{name: music}", "{name: "+strings.Repeat("a", 60)+"}", "spec.target.name: 60 characters are too many")
	f("interval: 10s", "interval: 10s, checks: [{metric: success-rate, min: NaN}]", `checks[0].min: "NaN" is not a number`)
	f("interval: 10s", "interval: 10s, checks: [{metric: duration-p99, max: Inf}]", `checks[0].max: "Inf" is not a number`)
	f("steps:", "gates: [{name: a b, at: Start, manual: {}}]\nsteps:", `spec.gates[0].name: "a b" has a space in it`)
	f("steps:", "gates: [{name: a, at: Start, manual: {approvers: ['']}}]\nsteps:", "spec.gates[0].manual.approvers[0]: is empty")
}

func TestAReleaseWithoutUsersNamesWhatNeedsThem(t *testing.T) {
	f := func(more, want string) {
		t.Helper()
		s := spec(t, more+goodSpec)
		s.Service = v1alpha1.Service{}
		if err := Check(&v1alpha1.Release{Spec: *s}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %s: error = %v, want one that says %q", more, err, want)
		}
	}
	f("", "spec.service: is missing: say at which port users call it")
	f("strategy: Replicas", `spec.judge.checks: nothing tells a bad version`)
	f("strategy: Replicas\npreview: [{uri: {prefix: /}}]", "spec.service: is missing, and without it nobody's requests are routed")
}

// TestAnErrorIsSaidOnceAndOfTheFieldThatItIsIn: the routes are made of several
// fields, and each is in more than one of them.
func TestAnErrorIsSaidOnceAndOfTheFieldThatItIsIn(t *testing.T) {
	f := func(old, new, want string) {
		t.Helper()
		r := &v1alpha1.Release{Spec: *spec(t, strings.Replace(goodSpec, old, new, 1))}
		r.Spec.Service.Name, r.Spec.Service.Port = "music", 80
		err := Check(r)
		if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), want) {
			t.Errorf("with %s:\n%v\nwant one line, with %q", new, err, want)
		}
	}
	const service = "service: {gateways: [public], match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}]}\n"
	const wrong = "{headers: {x: {regex: '('}}}"
	f("steps:", service+"preview: ["+wrong+"]\nsteps:", "spec.preview[0].headers[x].regex: ")
	f("steps:", service+"preview: [{headers: {y: {exact: a}}}, "+wrong+"]\nsteps:", "spec.preview[1].headers[x].regex: ")
	f("steps:", service+"strategy: ABTest\niterations: 1\nwebhooks: [{name: a, type: rollout, url: 'http://a'}]\nmatch: ["+wrong+"]\nsteps:", "spec.match[0].headers[x].regex: ")
	f("steps:", "service: {gateways: [public], match: [{uri: {prefix: /a}}, "+wrong+"]}\npreview: [{headers: {y: {exact: a}}}]\nsteps:", "spec.service.match[1].headers[x].regex: ")
	f("steps:", "service: {delegation: true}\npreview: ["+wrong+"]\nsteps:", "spec.preview[0].headers[x].regex: ")
	f("steps:", "cohort: {header: 'a b'}\nsteps:", "spec.cohort.header: ")
	f("steps:", "cohort: {cookie: 'a b'}\nsteps:", "spec.cohort.cookie: ")
	f("steps:", "cohort: {}\nsteps:", "spec.cohort: set header or cookie")
	f("[10, 50]", `["abc"]`, `spec.steps[0]: share "abc"`)
	f("steps:", "strategy: Mirror\niterations: 1\nmirror: {share: x}\nsteps:", `spec.mirror.share: share "x"`)
}

func TestTheMirrorCopiesAllRequestsUnlessTold(t *testing.T) {
	p, err := planOf(spec(t, strings.Replace(goodSpec, "steps:", "strategy: Mirror\niterations: 1\nsteps:", 1)))
	if err != nil || p.Mirror != rollout.All {
		t.Errorf("mirror = %v, %v; want all", p.Mirror, err)
	}
}

func TestWhatHasNoEffectIsAWarning(t *testing.T) {
	f := func(old, new, want string) {
		t.Helper()
		got := strings.Join(Warnings(&v1alpha1.Release{Spec: *spec(t, strings.Replace(goodSpec, old, new, 1))}), "\n")
		if want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("with %s: warnings %q, want %q", new, got, want)
		}
	}
	f("steps: [10, 50]", "steps: [10, 50]", "")
	f("steps: [10, 50]", "strategy: BlueGreen\nsteps: [10, 25, 50]", "")
	f("interval: 10s", "interval: 10s, skip: true, checks: [{metric: success-rate, min: '99'}]", "spec.judge.checks: spec.judge.skip promotes every version at once")
	f("interval: 10s", "interval: 10s, skip: true", "")
	const unasked = "judge: {falseAlarm: '0.001', tolerance: '0', confidence: '95', failureLimit: 1, interval: 10s}\n"
	f(goodSpec, "target: {name: music}\nsteps: [50, 100]\nprogressDeadline: 10m\n"+unasked, "spec.steps[1]: at 100 % there is no stable version to compare with")
	f(goodSpec, "target: {name: music}\nsteps: [50, 99]\nprogressDeadline: 10m\n"+unasked, "")
	f("steps: [10, 50]", "strategy: BlueGreen\nsteps: [10, 50]", "spec.steps: the strategy BlueGreen has no steps")
	f("steps:", "strategy: Canary\niterations: 3\nsteps:", "spec.iterations: the strategy Canary counts none")
	f("steps:", "iterations: 3\nmirror: {}\nsteps:", "")
	f("interval: 10s", "interval: 10s, latency: {warmUp: 1h}", "")
	f("interval: 10s", "interval: 10s, latency: {warmUp: 2h}", "spec.judge.latency.warmUp: for 2h0m0s nobody is told")
	f("steps:", "webhooks: [{name: a, url: 'http://a', timeout: 0s}]\nsteps:", "spec.webhooks[0].timeout: 0s stands for the default, 10s")
}

func TestCauseNamesEndpointRatesAndAnExample(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 1, 0, time.UTC)
	c := causeOf(v1alpha1.Version{Label: "v2", Revision: "r2"}, []telemetry.Endpoint{{
		Name:    "GET /songs/{id}",
		Canary:  telemetry.Count{Requests: 8, Failures: 4},
		Stable:  telemetry.Count{Requests: 90},
		Example: &telemetry.Request{Start: at, Method: "GET", Path: "/songs/7", Code: 500},
	}})
	want := "in the whole run v2 fails 50.0 % of GET /songs/{id} (4 of 8 requests), stable 0.0 % (0 of 90); for example GET /songs/7 answered 500 at 12:00:01.000Z"
	if c.Summary != want {
		t.Errorf("summary = %q\nwant      %q", c.Summary, want)
	}
	c = causeOf(v1alpha1.Version{Label: "v2", Revision: "r2"}, []telemetry.Endpoint{{
		Name:   "GET /songs/{id}",
		Canary: telemetry.Count{Requests: 8, Failures: 4},
		Stable: telemetry.Count{Requests: 90},
		Example: &telemetry.Request{
			Start: at, Method: "GET", Path: "/songs/7", Code: 200, Masked: "music", Destination: mesh.Workload{Pod: "music-2"},
		},
	}})
	want = "in the whole run v2 fails 50.0 % of GET /songs/{id} (4 of 8 requests), stable 0.0 % (0 of 90); for example a try of GET /songs/7 at 12:00:01.000Z, which a retry masked"
	if c.Summary != want || c.Example.Pod != "" {
		t.Errorf("summary = %q of pod %q\nwant      %q of none: the pod that answered did not fail", c.Summary, c.Example.Pod, want)
	}
}

// TestACauseIsNotGivenForSomethingElse: a slow version may have failed requests
// as well, which are not why it was rolled back.
func TestACauseIsNotGivenForSomethingElse(t *testing.T) {
	endpoints := []telemetry.Endpoint{{Name: "GET /", Canary: telemetry.Count{Requests: 9, Failures: 1}}}
	for kind, want := range map[analysis.Kind]bool{
		analysis.Failures: true, analysis.Budget: true, analysis.Latency: false, analysis.Checked: false, analysis.Hook: false,
	} {
		if got := explains(kind, v1alpha1.Version{Label: "v2"}, endpoints); (got != nil) != want {
			t.Errorf("decided by %s: cause %+v; want one: %v", kind, got, want)
		}
	}
}

func TestNoFailedRequestNoCause(t *testing.T) {
	if c := causeOf(v1alpha1.Version{}, []telemetry.Endpoint{{Canary: telemetry.Count{Requests: 9}}}); c != nil {
		t.Errorf("cause = %+v, want none: a deadline is no fault of a request", c)
	}
}

func snapshotOf(version mesh.SnapshotVersion, generation int64, revisions ...string) *mesh.Snapshot {
	svc := &mesh.Service{Name: "music-canary.default"}
	for _, r := range revisions {
		svc.Endpoints = append(svc.Endpoints, mesh.Endpoint{Workload: mesh.Workload{Revision: r}})
	}
	return &mesh.Snapshot{
		Version:  version,
		Services: map[mesh.ServiceName]*mesh.Service{svc.Name: svc},
		Origins:  map[mesh.Origin]int64{{Kind: "VirtualService", Name: "music"}: generation},
	}
}

func TestAnAckKeepsTheFirstSnapshotOfAGeneration(t *testing.T) {
	route := mesh.Origin{Kind: "VirtualService", Name: "music"}
	t0 := time.Unix(1000, 0)
	var a Acks
	if got := a.Route(route); got != (RouteAck{}) {
		t.Errorf("before any ack: %+v", got)
	}
	woken := 0
	a.OnChange(func() { woken++ })
	run := func(s *mesh.Snapshot, at time.Time) {
		a.publish(s)
		a.report([]ProxyState{{Version: s.Version, At: at}})
	}
	run(snapshotOf(4, 1), t0)
	run(snapshotOf(5, 1), t0.Add(time.Second))
	if diff := cmp.Diff(RouteAck{1, 4, t0}, a.Route(route)); diff != "" {
		t.Errorf("same generation (-want +got):\n%s", diff)
	}
	run(snapshotOf(6, 2, "r1", "r2", "r2"), t0.Add(2*time.Second))
	if diff := cmp.Diff(RouteAck{2, 6, t0.Add(2 * time.Second)}, a.Route(route)); diff != "" {
		t.Errorf("next generation (-want +got):\n%s", diff)
	}
	if of, all := a.Endpoints("music-canary.default", "r2"); of != 2 || all != 3 {
		t.Errorf("endpoints = %d of %d, want 2 of 3", of, all)
	}
	if woken != 3 {
		t.Errorf("told of %d acks, want 3", woken)
	}
}

func TestAnAckIsThatOfTheSlowestProxy(t *testing.T) {
	route := mesh.Origin{Kind: "VirtualService", Name: "music"}
	t0 := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return t0.Add(time.Duration(seconds) * time.Second) }
	var a Acks
	woken := 0
	a.OnChange(func() { woken++ })
	for v := mesh.SnapshotVersion(1); v <= 4; v++ {
		a.publish(snapshotOf(v, int64(v+1)/2)) // generations 1 1 2 2
	}
	steps := []struct {
		name    string
		proxies []ProxyState
		want    RouteAck
		woken   int
	}{
		{"nobody is connected", nil, RouteAck{}, 0},
		{"one that has said nothing yet is not waited for", []ProxyState{{Version: 2, At: at(1)}, {Version: 0}}, RouteAck{1, 1, at(1)}, 1},
		{"the fast one alone proves nothing", []ProxyState{{Version: 4, At: at(2)}, {Version: 1, At: at(1)}}, RouteAck{1, 1, at(1)}, 2},
		{"the slow one follows", []ProxyState{{Version: 4, At: at(2)}, {Version: 3, At: at(5)}}, RouteAck{2, 3, at(5)}, 3},
		{"one that comes back with an old version takes nothing back", []ProxyState{{Version: 4, At: at(2)}, {Version: 1, At: at(6)}}, RouteAck{2, 3, at(5)}, 4},
		{"one whose connection has ended is not waited for", []ProxyState{{Version: 4, At: at(2)}, {Version: 1, At: at(6), Lost: true}}, RouteAck{2, 3, at(5)}, 5},
		{"one that left is not waited for", []ProxyState{{Version: 4, At: at(2)}}, RouteAck{2, 3, at(5)}, 6},
	}
	for _, s := range steps {
		a.report(s.proxies)
		if got := a.Route(route); got != s.want || woken != s.woken {
			t.Errorf("%s: ack %+v after %d changes, want %+v after %d", s.name, got, woken, s.want, s.woken)
		}
	}
}

func TestAnObjectStandsAsItsProxiesSay(t *testing.T) {
	route := mesh.Origin{Kind: "VirtualService", Name: "music"}
	var a Acks
	a.publish(snapshotOf(5, 1))
	a.publish(snapshotOf(6, 2))
	a.publish(snapshotOf(7, 2))
	local := ProxyState{Name: "this process", Version: 7}
	tests := []struct {
		proxies []ProxyState
		want    kube.Standing
	}{
		{nil, kube.Standing{Generation: 2, Reason: "Waiting", Message: "no proxy is connected"}},
		{[]ProxyState{local}, kube.Standing{Generation: 2, InForce: true, Reason: "InForce", Message: "1 of 1 proxies run it"}},
		{
			[]ProxyState{local, {Name: "edge", Version: 6, Refused: 7, Reason: "no such thing"}},
			kube.Standing{Generation: 2, InForce: true, Reason: "InForce", Message: "2 of 2 proxies run it"},
		},
		{
			[]ProxyState{local, {Name: "edge", Version: 5}, {Name: "vm", Version: 5}, {Name: "new"}},
			kube.Standing{Generation: 2, Reason: "Waiting", Message: "1 of 4 proxies run it; waiting for edge, new, vm"},
		},
		{
			[]ProxyState{local, {Name: "edge", Version: 5, Lost: true}, {Name: "vm", Version: 6}},
			kube.Standing{Generation: 2, InForce: true, Reason: "InForce", Message: "2 of 2 proxies run it; edge is not connected any more"},
		},
		{
			[]ProxyState{local, {Name: "edge", Version: 5, Refused: 6, Reason: "no such\nthing"}, {Name: "vm", Version: 5}},
			kube.Standing{Generation: 2, Reason: "Refused", Message: "1 of 3 proxies run it; edge refuses: no such thing; waiting for vm"},
		},
	}
	for _, test := range tests {
		a.report(test.proxies)
		if diff := cmp.Diff(map[mesh.Origin]kube.Standing{route: test.want}, a.standings()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.proxies, diff)
		}
	}
}

func TestAReleaseIsLeftWhenNoProxySendsToItsStableCopy(t *testing.T) {
	r := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Target: v1alpha1.Target{Name: "music"}, Service: v1alpha1.Service{Port: 80}}}
	r.Namespace = "default"
	rel := &kube.Delivery{Release: r, Names: kube.NamesOf(r)}
	route := map[mesh.Origin]int64{{Kind: "VirtualService", Namespace: "default", Name: "music"}: 1}
	f := func(origins map[mesh.Origin]int64, workload string, want bool) {
		t.Helper()
		var a Acks
		a.record(&mesh.Snapshot{
			Version: 1, Origins: origins,
			Services: map[mesh.ServiceName]*mesh.Service{
				"music.default": {Endpoints: []mesh.Endpoint{{Workload: mesh.Workload{Name: workload}}}},
			},
		}, time.Unix(1, 0))
		if got := a.Left(rel); got != want {
			t.Errorf("routes %v, service on %s: left = %v, want %v", origins, workload, got, want)
		}
	}
	f(route, "music-stable", false)
	f(route, "music", false)
	f(nil, "music-stable", false)
	f(nil, "music", true)
	f(nil, "another", true)
	if !new(Acks).Left(rel) {
		t.Error("without any snapshot the release is not left")
	}
}

func TestTheMainListenerAnswersForItsOwnPortToo(t *testing.T) {
	host := func(name string) []mesh.VirtualHost { return []mesh.VirtualHost{{Hosts: []string{name}}} }
	got := onMainPort([]mesh.Gateway{
		{Name: "default/a", Port: 80, VirtualHosts: host("x")},
		{Name: "default/a", Port: 8080, VirtualHosts: append([]mesh.VirtualHost{{Hosts: []string{"x", "x2"}}}, host("y")...)},
		{Name: "default/a", Port: 9090, VirtualHosts: host("z")},
		{Name: "default/b", Port: 8080, VirtualHosts: host("w")},
	}, 8080)
	want := []mesh.Gateway{
		{Name: "default/a", Port: 80, VirtualHosts: slices.Concat(host("x"), host("x2"), host("y"))},
		{Name: "default/a", Port: 9090, VirtualHosts: host("z")},
		{Name: "default/b", Port: 80, VirtualHosts: host("w")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("gateways (-want +got):\n%s", diff)
	}
}
