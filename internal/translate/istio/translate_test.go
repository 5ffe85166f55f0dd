package istio_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
	"serin.dev/serin/internal/translate/istio"
	"serin.dev/serin/test/story"
)

// TestStories translates the objects of each story and asks where requests go.
//
// A story is a txtar archive: before.yaml (optional) runs first and is what
// Previous knows; objects.yaml is what is there now; endpoints has lines
// "service port dial-address key=value…"; snapshot, findings and ask are
// recorded. A question is "from CALLER METHOD host[:port]/path header=value…"
// or "gateway PORT METHOD host/path …", and for connections "connect CALLER
// host:port" or "connect gateway:PORT NAME" with the name asked for by TLS or
// "-"; "→" begins the answer. CALLER is "workload" or "workload.namespace" and
// has the label app=workload. In Secrets "$www.crt", "$www.key" and "$ca.crt"
// stand for certificates. Where there is a section refused, the proxies take no
// snapshot whose text has one of its lines, as if they could not run it.
func TestStories(t *testing.T) {
	story.EachArchive(t, "testdata/*.txtar", func(t *testing.T, told *txtar.Archive) {
		in := story.Section(told, "endpoints")
		var previous istio.Good
		if before := story.Section(told, "before.yaml"); before != "" {
			previous = istio.Translate(input(t, before, in, nil)).Good
		}
		given := input(t, story.Section(told, "objects.yaml"), in, previous)
		accept := refusing(story.Section(told, "refused"))
		out, err := istio.TranslateFor(given, accept)
		story.SetSection(told, "error", text(err))
		if err != nil {
			out.Snapshot = &mesh.Snapshot{Version: 1}
		}
		if err := out.Snapshot.Validate(); err != nil {
			t.Errorf("the snapshot is not valid: %v", err)
		}
		shuffled, err := istio.TranslateFor(shuffle(given), accept)
		if err != nil {
			shuffled.Snapshot = out.Snapshot
		}
		if diff := cmp.Diff(out.Snapshot.String(), shuffled.Snapshot.String()); diff != "" {
			t.Errorf("the order of the objects matters (-given +shuffled):\n%s", diff)
		}
		if diff := cmp.Diff(out.Findings, shuffled.Findings); diff != "" {
			t.Errorf("the order of the objects matters for findings (-given +shuffled):\n%s", diff)
		}
		story.SetSection(told, "snapshot", out.Snapshot.String())
		story.SetSection(told, "findings", lines(out.Findings))
		story.SetSection(told, "ask", answers(t, out.Snapshot, story.Section(told, "ask")))
	})
}

// refusing is what proxies say that cannot run some lines of snapshots.
func refusing(text string) func(*mesh.Snapshot) error {
	return func(s *mesh.Snapshot) error {
		for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
			if line != "" && strings.Contains(s.String(), line) {
				return fmt.Errorf("%q is more than proxies can do", line)
			}
		}
		return s.Validate()
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error() + "\n"
}

func lines(findings []istio.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

// input decodes objects as the API gives them; the namespace is "default"
// where none is said.
func input(t testing.TB, objects, endpoints string, previous istio.Good) istio.Input {
	t.Helper()
	in := istio.Input{Version: 1, Endpoints: map[mesh.ServiceName][]mesh.Endpoint{}, Previous: previous}
	for i, doc := range strings.Split(objects, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		if err := add(&in, []byte(doc)); err != nil {
			t.Fatalf("object %d: %v\n%s", i, err, doc)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(endpoints), "\n") {
		if line == "" {
			continue
		}
		name, e := endpoint(t, line)
		in.Endpoints[name] = append(in.Endpoints[name], e)
	}
	return in
}

func endpoint(t testing.TB, line string) (mesh.ServiceName, mesh.Endpoint) {
	t.Helper()
	words := strings.Fields(line)
	if len(words) < 3 {
		t.Fatalf("endpoint %q: want service, port, address", line)
	}
	port, err := strconv.ParseUint(words[1], 10, 16)
	if err != nil {
		t.Fatalf("endpoint %q: %v", line, err)
	}
	address, err := netip.ParseAddrPort(words[2])
	if err != nil {
		t.Fatalf("endpoint %q: %v", line, err)
	}
	e := mesh.Endpoint{Port: uint16(port), Address: address, Labels: mesh.Labels{}}
	for _, w := range words[3:] {
		key, value, _ := strings.Cut(w, "=")
		e.Labels[key] = value
	}
	e.Workload = mesh.Workload{Namespace: "default", Name: e.Labels["app"], Version: e.Labels["version"]}
	return mesh.ServiceName(mesh.CanonicalHost(words[0], "default")), e
}

// add decodes one YAML document into the list of its kind.
func add(in *istio.Input, doc []byte) error {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &meta); err != nil {
		return err
	}
	var err error
	switch meta.Kind {
	case "Service":
		in.Services, err = decode(in.Services, doc)
	case "VirtualService":
		in.VirtualServices, err = decode(in.VirtualServices, doc)
	case "DestinationRule":
		in.DestinationRules, err = decode(in.DestinationRules, doc)
	case "Gateway":
		in.Gateways, err = decode(in.Gateways, doc)
	case "ServiceEntry":
		in.ServiceEntries, err = decode(in.ServiceEntries, doc)
	case "WorkloadEntry":
		in.WorkloadEntries, err = decode(in.WorkloadEntries, doc)
	case "AuthorizationPolicy":
		in.AuthorizationPolicies, err = decode(in.AuthorizationPolicies, doc)
	case "Secret":
		if in.Secrets, err = decode(in.Secrets, doc); err == nil {
			fill(in.Secrets[len(in.Secrets)-1])
		}
	default:
		err = fmt.Errorf("unknown kind %q", meta.Kind)
	}
	return err
}

// fill puts certificates in the place of their names.
func fill(s *corev1.Secret) {
	all := meshtest.Snapshot(rand.New(rand.NewPCG(1, 1)), meshtest.Features{TLS: true}).Certificates
	known := map[string][]byte{
		"$www.crt": all["default/www"].Chain, "$www.key": all["default/www"].Key,
		"$test.crt": all["default/test"].Chain, "$test.key": all["default/test"].Key,
		"$ca.crt": all["default/ca"].CA,
	}
	s.Data = map[string][]byte{}
	for name, value := range s.StringData {
		s.Data[name] = []byte(value)
		if data, ok := known[value]; ok {
			s.Data[name] = data
		}
	}
}

func decode[T any, O interface {
	*T
	metav1.Object
}](list []O, doc []byte) ([]O, error) {
	o := O(new(T))
	if err := yaml.Unmarshal(doc, o); err != nil {
		return list, err
	}
	if o.GetNamespace() == "" {
		o.SetNamespace("default")
	}
	return append(list, o), nil
}

func shuffle(in istio.Input) istio.Input {
	r := rand.New(rand.NewPCG(1, 2))
	in.Services = shuffled(r, in.Services)
	in.VirtualServices = shuffled(r, in.VirtualServices)
	in.DestinationRules = shuffled(r, in.DestinationRules)
	in.Gateways = shuffled(r, in.Gateways)
	in.ServiceEntries = shuffled(r, in.ServiceEntries)
	in.WorkloadEntries = shuffled(r, in.WorkloadEntries)
	in.AuthorizationPolicies = shuffled(r, in.AuthorizationPolicies)
	in.Secrets = shuffled(r, in.Secrets)
	return in
}

func shuffled[T any](r *rand.Rand, list []T) []T {
	out := slices.Clone(list)
	slices.Reverse(out)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// answers fills in the answer of each question.
func answers(t *testing.T, s *mesh.Snapshot, questions string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(questions) {
		question, _, _ := strings.Cut(strings.TrimSpace(line), " → ")
		if question == "" || strings.HasPrefix(question, "#") {
			fmt.Fprintln(&b, question)
			continue
		}
		if strings.HasPrefix(question, "connect ") {
			fmt.Fprintf(&b, "%s → %s\n", question, streamAnswer(s.ResolveStream(connectionOf(t, question))))
			continue
		}
		fmt.Fprintf(&b, "%s → %s\n", question, answer(s.Resolve(callOf(t, question))))
	}
	return b.String()
}

func callOf(t *testing.T, question string) mesh.Call {
	t.Helper()
	words := strings.Fields(question)
	if len(words) < 4 {
		t.Fatalf("question %q: too short", question)
	}
	c := mesh.Call{Method: words[2], Headers: map[string]string{}, Query: map[string]string{}}
	authority, path, _ := strings.Cut(words[3], "/")
	path, query, _ := strings.Cut(path, "?")
	c.Path, c.Authority = "/"+path, authority
	if query != "" {
		name, value, _ := strings.Cut(query, "=")
		c.Query[name] = value
	}
	host, port, found := strings.Cut(authority, ":")
	c.Host, c.Port = host, 80
	if found {
		c.Port = number(t, port)
	}
	switch words[0] {
	case "from":
		c.Namespace, c.Labels = callerOf(words[1])
	case "gateway":
		c.Gateway = number(t, words[1])
	default:
		t.Fatalf("question %q: begins with neither from nor gateway", question)
	}
	for _, w := range words[4:] {
		name, value, _ := strings.Cut(w, "=")
		c.Headers[name] = value
	}
	return c
}

func callerOf(word string) (namespace string, labels mesh.Labels) {
	workload, namespace, found := strings.Cut(word, ".")
	if !found {
		namespace = "default"
	}
	return namespace, mesh.Labels{"app": workload}
}

func number(t *testing.T, s string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		t.Fatalf("%q is no port: %v", s, err)
	}
	return uint16(n)
}

func connectionOf(t *testing.T, question string) mesh.Connection {
	t.Helper()
	words := strings.Fields(question)
	if len(words) != 3 {
		t.Fatalf("question %q: want connect, caller or gateway, host or name", question)
	}
	if port, ok := strings.CutPrefix(words[1], "gateway:"); ok {
		return mesh.Connection{Gateway: number(t, port), SNI: strings.TrimPrefix(words[2], "-")}
	}
	host, port, _ := strings.Cut(words[2], ":")
	c := mesh.Connection{Host: host, Port: number(t, port)}
	c.Namespace, c.Labels = callerOf(words[1])
	return c
}

func streamAnswer(o mesh.StreamOutcome) string {
	switch {
	case o.Outside:
		return "outside of the mesh"
	case o.TLS != nil && o.Stream == nil:
		return "ends TLS with " + o.TLS.Certificate
	case len(o.Ways) == 0:
		return "closed"
	}
	text := ways(o.Ways)
	if o.TLS != nil {
		text = "ends TLS with " + o.TLS.Certificate + ", " + text
	}
	return text
}

func answer(o mesh.Outcome) string {
	switch {
	case o.Outside:
		return "outside of the mesh"
	case o.Route != nil && o.Route.Redirect != nil:
		return "redirect " + o.Route.Redirect.String()
	case o.Route != nil && o.Route.Direct != nil:
		return strconv.Itoa(o.Route.Direct.Status) + " at once"
	case len(o.Ways) == 0:
		return "404"
	}
	return ways(o.Ways)
}

func ways(all []mesh.Way) string {
	var sum uint32
	for _, s := range all {
		sum += s.Weight
	}
	var parts []string
	for _, s := range all {
		part := ""
		if len(all) > 1 {
			part = fmt.Sprintf("%d%% ", s.Weight*100/sum)
		}
		part += s.Destination.String()
		switch {
		case s.Unknown:
			part += " (does not exist: 503)"
		case len(s.Endpoints) == 0:
			part += " (no endpoint: 503)"
		default:
			for i, e := range s.Endpoints {
				part += [...]string{" at ", " or "}[min(i, 1)] + e.DialAddress()
			}
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// FuzzTranslate: whatever the objects say, the translation ends in a snapshot
// that a proxy accepts, and validation at apply time knows every error that
// the object has by itself.
func FuzzTranslate(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range []string{"objects.yaml", "before.yaml"} {
			f.Add([]byte(story.Section(a, name)))
		}
	}
	f.Fuzz(func(t *testing.T, objects []byte) {
		in := istio.Input{Version: 1, Endpoints: map[mesh.ServiceName][]mesh.Endpoint{}}
		for doc := range bytes.SplitSeq(objects, []byte("\n---\n")) {
			if err := add(&in, doc); err != nil {
				continue
			}
		}
		in.VirtualServices = append(in.VirtualServices, nil)
		out := istio.Translate(in)
		if err := out.Snapshot.Validate(); err != nil {
			t.Fatalf("Translate gives a snapshot that is refused: %v", err)
		}
		bad := map[mesh.Origin]bool{}
		for _, finding := range istio.Errors(out.Findings) {
			bad[finding.Origin] = true
		}
		for _, o := range in.VirtualServices {
			check(t, o, bad)
		}
		for _, o := range in.Gateways {
			check(t, o, bad)
		}
		for _, o := range in.ServiceEntries {
			check(t, o, bad)
		}
		for _, o := range in.WorkloadEntries {
			check(t, o, bad)
		}
		for _, o := range in.DestinationRules {
			check(t, o, bad)
		}
		again := in
		again.Version, again.Previous = 2, out.Good
		if err := istio.Translate(again).Snapshot.Validate(); err != nil {
			t.Fatalf("Translate with Previous gives a snapshot that is refused: %v", err)
		}
	})
}

func check[T any, O interface {
	*T
	metav1.Object
}](t *testing.T, o O, bad map[mesh.Origin]bool) {
	if o == nil {
		return
	}
	for _, f := range istio.Errors(istio.Validate(o)) {
		if !bad[f.Origin] {
			t.Fatalf("Validate refuses what Translate accepts: %v", f)
		}
	}
}

// TestValidateLooksAtNothingElse: an object may be applied before those that
// it refers to.
func TestValidateLooksAtNothingElse(t *testing.T) {
	in := input(t, `
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  gateways: [not-yet]
  http:
  - route:
    - destination: {host: not-yet, subset: nor-this}
`, "", nil)
	if got := istio.Validate(in.VirtualServices[0]); len(got) > 0 {
		t.Errorf("Validate = %v, want nothing", got)
	}
	if got := istio.Validate(&corev1.Service{}); len(got) > 0 {
		t.Errorf("Validate of a Service = %v, want nothing", got)
	}
}

// TestBadVirtualServices: each mistake is named by its path with what to change.
func TestBadVirtualServices(t *testing.T) {
	const good = `{destination: {host: a}}`
	tests := []struct{ name, spec, want string }{
		{"no host", `{gateways: [mesh], http: [{route: [` + good + `]}]}`,
			"error: VirtualService default/x: spec.hosts: is empty: name the hosts to route, such as the Service's name"},
		{"no host, as a delegate has none", `{http: [{route: [` + good + `]}]}`, ""},
		{"no route", `{hosts: [a], http: [{}]}`,
			"error: VirtualService default/x: spec.http[0].route: is empty: add a destination"},
		{"nothing", `{hosts: [a]}`,
			"error: VirtualService default/x: spec.http: is empty: add a route with a destination"},
		{"sum", `{hosts: [a], http: [{route: [{destination: {host: a}, weight: 50}, {destination: {host: b}, weight: 40}]}]}`,
			"warning: VirtualService default/x: spec.http[0].route: the weights sum up to 90: each is a share of that, and no percentage"},
		{"negative", `{hosts: [a], http: [{route: [{destination: {host: a}, weight: 110}, {destination: {host: b}, weight: -10}]}]}`,
			"error: VirtualService default/x: spec.http[0].route[1].weight: -10 is negative: write the share of the requests, 0 or more"},
		{"no destination", `{hosts: [a], http: [{route: [{weight: 100}]}]}`,
			"error: VirtualService default/x: spec.http[0].route[0].destination.host: is empty: name a Service or the host of a ServiceEntry"},
		{"twice", `{hosts: [a], http: [{route: [{destination: {host: a}, weight: 50}, {destination: {host: a.default}, weight: 50}]}]}`,
			"warning: VirtualService default/x: spec.http[0].route[1].destination: is the same as spec.http[0].route[0]: it gets both shares"},
		{"regex", `{hosts: [a], http: [{match: [{uri: {regex: "a)(b"}}], route: [` + good + `]}]}`,
			"error: VirtualService default/x: spec.http[0].match[0].uri.regex: error parsing regexp: unexpected ): `a)(b`"},
		{"host twice", `{hosts: [a, a.default.svc.cluster.local], http: [{route: [` + good + `]}]}`,
			`error: VirtualService default/x: spec.hosts[1]: "a.default.svc.cluster.local" is listed twice: remove one`},
		{"wildcard", `{hosts: ["a.*"], http: [{route: [` + good + `]}]}`,
			`error: VirtualService default/x: spec.hosts[0]: "a.*" a wildcard is allowed at the front only`},
		{"gateway elsewhere", `{hosts: [a], http: [{match: [{gateways: [edge]}], route: [` + good + `]}]}`,
			`error: VirtualService default/x: spec.http[0].match[0].gateways[0]: "default/edge" is not in spec.gateways: add it there`},
		{"unreachable", `{hosts: [a], http: [{route: [` + good + `]}, {match: [{uri: {prefix: /b}}], route: [` + good + `]}]}`,
			"warning: VirtualService default/x: spec.http[1]: is never reached: spec.http[0] has no match and takes every request; move that to the end"},
		{"redirect and route", `{hosts: [a], http: [{redirect: {uri: /b}, route: [` + good + `]}]}`,
			"error: VirtualService default/x: spec.http[0]: has a route and a redirect, directResponse or delegate: keep one"},
		{"no share", `{hosts: [a], http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}`,
			"error: VirtualService default/x: spec.http[0].route: the weights sum up to 0: say which share each destination gets"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			vs := new(istiov1.VirtualService)
			if err := yaml.Unmarshal([]byte("metadata: {name: x, namespace: default}\nspec: "+test.spec), vs); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, strings.TrimSpace(lines(istio.Validate(vs)))); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
