package argo

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
)

// metricTemplate is Flagger's kind, which Serin reads.
type metricTemplate struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        map[string]any `json:"metadata"`
	Spec            struct {
		Provider map[string]any `json:"provider"`
		Query    string         `json:"query"`
	} `json:"spec"`
}

// analyses collects what a Rollout's analyses measure.
type analyses struct {
	converter *converter
	release   *release
	templates []any // MetricTemplates
	limits    []int // failures that end a run, of each metric
	shortest  time.Duration
	uses      []use
}

// use is a template with the arguments that it is given.
type use struct {
	template *node
	given    map[string]string
	dry      map[string]bool // metrics that decide nothing
}

// say notes something of the Rollout.
func (a *analyses) say(path, format string, args ...any) {
	name, _ := a.release.Metadata["name"].(string)
	a.converter.notes = append(a.converter.notes, Note{"Rollout " + name, path, fmt.Sprintf(format, args...)})
}

// add takes over the templates that an analysis names.
func (a *analyses) add(use *node) {
	args := map[string]string{}
	for _, arg := range use.at("args").list() {
		name := arg.at("name").text()
		if from := arg.at("valueFrom"); from.set() {
			from.note("only values that are written out can be kept: give the check a variable %s", variable(name))
			continue
		}
		args[name] = arg.at("value").text()
	}
	dry := map[string]bool{}
	for _, d := range use.at("dryRun").list() {
		dry[d.at("metricName").text()] = true
	}
	use.at("measurementRetention") // what was measured is in the run's record
	use.drop("is the Release's own affair", "analysisRunMetadata")
	for _, ref := range use.at("templates").list() {
		kind := "AnalysisTemplate"
		if ref.at("clusterScope").yes() {
			kind = "ClusterAnalysisTemplate"
		}
		name := ref.at("templateName").text()
		template := a.converter.templates[kind+"/"+name]
		if template == nil {
			ref.note("%s %s is not in the file: nothing that it measures is checked", kind, name)
			continue
		}
		a.use(template, args, dry)
	}
}

// use notes that a template is used. Uses that give no argument two values are
// one, in which a metric decides that decides in one of them.
func (a *analyses) use(template *node, args map[string]string, dry map[string]bool) {
	for _, u := range a.uses {
		if u.template == template && agree(u.given, args) {
			maps.Copy(u.given, args)
			maps.DeleteFunc(u.dry, func(metric string, _ bool) bool { return !dry[metric] })
			return
		}
	}
	a.uses = append(a.uses, use{template, maps.Clone(args), maps.Clone(dry)})
}

// agree reports whether no argument has two values.
func agree(a, b map[string]string) bool {
	for name, value := range a {
		if other, both := b[name]; both && other != value {
			return false
		}
	}
	return true
}

// settle makes the checks, when all uses are known.
func (a *analyses) settle() {
	for _, u := range a.uses {
		a.template(u.template, u.given, u.dry)
	}
}

func (a *analyses) template(t *node, given map[string]string, dry map[string]bool) {
	t.metadata()
	spec := t.at("spec")
	args := map[string]string{}
	for _, arg := range spec.at("args").list() {
		name := arg.at("name").text()
		if arg.at("valueFrom").set() {
			arg.at("valueFrom").note("Secrets are named by a MetricTemplate's provider, whole: see secretRef")
		}
		if v := arg.at("value").text(); v != "" {
			args[name] = v
		}
		if v, ok := given[name]; ok {
			args[name] = v
		}
	}
	for _, d := range spec.at("dryRun").list() {
		dry[d.at("metricName").text()] = true
	}
	spec.at("measurementRetention")
	for _, nested := range spec.at("templates").list() {
		nested.note("name this template in the Rollout: templates within templates are not followed")
	}
	for _, m := range spec.at("metrics").list() {
		a.metric(t.in("metadata", "name").text(), m, args, dry)
	}
	t.rest()
}

// metric makes a check and what measures it.
func (a *analyses) metric(template string, m *node, args map[string]string, dry map[string]bool) {
	name := m.at("name").text()
	full := template + "-" + strings.ToLower(name)
	low, high, ok := a.bounds(m)
	limit := 1
	if n, set := m.at("failureLimit").number(); set {
		limit = n + 1
	}
	check := v1alpha1.Check{Metric: name, Min: low, Max: high, Template: &v1alpha1.ObjectRef{Name: full}}
	if text := m.at("interval").text(); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			m.at("interval").note("%q is no time that is known here: write it out", text)
		}
		check.Interval = metav1.Duration{Duration: d}
		if d > 0 && (a.shortest == 0 || d < a.shortest) {
			a.shortest = d
		}
	}
	switch {
	case dry[name] || dry[".*"] || limit <= 0:
		check.Severity = "warn"
	case limit == 1:
		check.Severity = "abort"
	default:
		a.limits = append(a.limits, limit)
	}
	m.drop("looks go on as long as the canary is judged", "count", "initialDelay")
	m.drop("a look that says nothing is no failure: the canary waits, up to spec.stepDeadline", "inconclusiveLimit", "consecutiveErrorLimit")
	m.drop("a check has to hold at every look", "consecutiveSuccessLimit")
	query := a.provider(full, m.at("provider"), args)
	if !ok || query == "" {
		return
	}
	used := map[string]string{}
	for _, found := range argument.FindAllStringSubmatch(query, -1) {
		value, known := args[found[1]]
		if !known {
			m.note("the argument %s has no value: give the check a variable %s", found[1], variable(found[1]))
		}
		used[variable(found[1])] = value
	}
	if len(used) > 0 {
		check.Variables = used
	}
	a.release.Spec.Judge.Checks = append(a.release.Spec.Judge.Checks, check)
}

// decide reports whether a version fails by one of the metrics.
func (a *analyses) decide() bool {
	return slices.ContainsFunc(a.release.Spec.Judge.Checks, func(c v1alpha1.Check) bool { return c.Severity != "warn" })
}

// judge settles what the metrics say together.
func (a *analyses) judge(r *release) {
	j := &r.Spec.Judge
	switch {
	case j.Interval.Duration > 0: // said otherwise
	case a.shortest > 0:
		j.Interval = metav1.Duration{Duration: a.shortest}
	default:
		j.Interval = duration(10)
	}
	if len(a.limits) == 0 {
		return
	}
	least, most := a.limits[0], a.limits[0]
	for _, l := range a.limits {
		least, most = min(least, l), max(most, l)
	}
	j.FailureLimit = int32(least)
	if least != most || len(a.limits) > 1 {
		a.say("spec.strategy", "failures are counted over all checks that count, not for each: %d of them roll back", least)
	}
}

// argument is a placeholder of Argo's.
var argument = regexp.MustCompile(`\{\{\s*args\.([\w.-]+)\s*\}\}`)

// variable is an argument's name as a template's placeholder can have it.
func variable(name string) string { return strings.NewReplacer("-", "_", ".", "_").Replace(name) }

func placeholders(text string) string {
	return argument.ReplaceAllStringFunc(text, func(found string) string {
		return "{{ variables." + variable(argument.FindStringSubmatch(found)[1]) + " }}"
	})
}

// provider makes the MetricTemplate of a metric, and returns the query as Argo
// has it; "" = it cannot be kept.
//
// The provider's address and headers have the arguments' values, where these
// are known.
func (a *analyses) provider(name string, p *node, args map[string]string) string {
	t := metricTemplate{
		TypeMeta: metav1.TypeMeta{APIVersion: "flagger.app/v1beta1", Kind: "MetricTemplate"},
		Metadata: map[string]any{"name": name},
	}
	if ns, ok := a.release.Metadata["namespace"]; ok {
		t.Metadata["namespace"] = ns
	}
	query := ""
	switch {
	case p.has("prometheus"):
		from := p.at("prometheus")
		t.Spec.Provider = map[string]any{"type": "prometheus", "address": from.at("address").text()}
		from.drop("write the credentials into a Secret that the MetricTemplate names", "authentication", "headers")
		from.drop("an answer may take 5 s", "timeout")
		from.at("insecure").only(t.Spec.Provider, "insecureSkipVerify")
		from.drop("each look is one number", "rangeQuery")
		query = from.at("query").text()
	case p.has("datadog"):
		from := p.at("datadog")
		t.Spec.Provider = map[string]any{"type": "datadog"}
		from.note("name a Secret with the keys datadog_api_key and datadog_application_key in the MetricTemplate")
		from.drop("one query makes a check", "queries", "formula", "aggregator")
		from.at("interval")
		from.at("apiVersion")
		query = from.at("query").text()
	case p.has("newRelic"):
		from := p.at("newRelic")
		t.Spec.Provider = map[string]any{"type": "newrelic"}
		from.note("name a Secret with the keys newrelic_account_id and newrelic_api_key in the MetricTemplate")
		from.at("profile")
		query = from.at("query").text()
	case p.has("graphite"):
		from := p.at("graphite")
		t.Spec.Provider = map[string]any{"type": "graphite", "address": from.at("address").text()}
		if q := from.at("query").text(); q != "" {
			query = graphiteQuery(q)
		}
	case p.has("influxdb"):
		from := p.at("influxdb")
		t.Spec.Provider = map[string]any{"type": "influxdb"}
		from.note("write the address, and a Secret with the keys token and org, into the MetricTemplate")
		from.at("profile")
		query = from.at("query").text()
	case p.has("web"):
		t.Spec.Provider, query = web(p.at("web"))
	default:
		p.note("cannot be kept: Serin asks prometheus, datadog, newrelic, cloudwatch, graphite, influxdb, dynatrace and web; a Job can be a webhook of type rollout")
		p.read = map[string]bool{} // as a whole
		return ""
	}
	if query == "" {
		p.note("has no query that can be kept")
		return ""
	}
	t.Spec.Query = strings.TrimSpace(placeholders(query)) + "\n" // a block, in YAML
	if address, ok := t.Spec.Provider["address"].(string); ok {
		t.Spec.Provider["address"] = filled(p, "address", address, args)
	}
	if headers, ok := t.Spec.Provider["headers"].(map[string]any); ok {
		for _, h := range slices.Sorted(maps.Keys(headers)) {
			if values, ok := headers[h].([]string); ok && len(values) == 1 {
				values[0] = filled(p, "header "+h, values[0], args)
			}
		}
	}
	if !a.converter.measured[name] {
		a.converter.measured[name] = true
		a.templates = append(a.templates, t)
	}
	return query
}

// filled has the values of arguments in their places.
func filled(p *node, what, text string, args map[string]string) string {
	return argument.ReplaceAllStringFunc(text, func(found string) string {
		name := argument.FindStringSubmatch(found)[1]
		if value, ok := args[name]; ok {
			return value
		}
		p.note("the %s has the argument %s, whose value is not in the file: write it out in the MetricTemplate, or, if it is secret, name a Secret there", what, name)
		return found
	})
}

// graphiteQuery is the query of a render request: Argo's is one, or its target
// alone.
func graphiteQuery(q string) string {
	if !strings.Contains(q, "target=") {
		q = "target=" + q
	}
	if !strings.Contains(q, "&from=") && !strings.HasPrefix(q, "from=") {
		q += "&from=-5min"
	}
	return q
}

// only takes a truth value over.
func (n *node) only(into map[string]any, name string) {
	if n.yes() {
		into[name] = true
	}
}

// web splits an address into the provider's and the query's part; "" = it cannot
// be kept.
func web(from *node) (provider map[string]any, query string) {
	text := from.at("url").text()
	split := strings.Index(text, "://")
	path := "/"
	address := text
	if split >= 0 {
		if i := strings.IndexByte(text[split+3:], '/'); i >= 0 {
			address, path = text[:split+3+i], text[split+3+i:]
		}
	}
	if _, err := url.Parse(argument.ReplaceAllString(address, "x")); err != nil || split < 0 {
		from.at("url").note("%q is no address", text)
		return nil, ""
	}
	out := map[string]any{"type": "web", "address": address}
	headers := map[string]any{}
	for _, h := range from.at("headers").list() {
		headers[h.at("key").text()] = []string{h.at("value").text()}
	}
	if len(headers) > 0 {
		out["headers"] = headers
	}
	from.at("insecure").only(out, "insecureSkipVerify")
	if method := from.at("method").text(); method != "" && method != "GET" {
		from.at("method").note("only GET is asked")
		return nil, ""
	}
	from.drop("only GET is asked", "body", "jsonBody")
	from.drop("an answer may take 5 s", "timeoutSeconds")
	from.drop("write the credentials into a Secret that the MetricTemplate names", "authentication")
	fields := map[string]string{"path": path}
	if p := from.at("jsonPath").text(); p != "" {
		fields["jsonPath"] = p
	}
	data, err := yaml.Marshal(fields)
	if err != nil {
		from.note("%v", err) // texts marshal
	}
	return out, string(data)
}

func rawOf(v any, at *node) runtime.RawExtension {
	data, err := json.Marshal(v)
	if err != nil {
		at.note("%v", err)
	}
	return runtime.RawExtension{Raw: data}
}
