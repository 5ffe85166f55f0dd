package flagger

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// whole are fields with a row of their own for all that is below.
var whole = map[string]bool{
	"autoscalerRef.primaryScalerQueries": true, "ingressRef": true, "routeRef": true, "upstreamRef": true, "canaryAnalysis": true,
	"service.targetPort": true, "service.gatewayRefs": true, "service.trafficPolicy": true, "service.match": true,
	"service.retries": true, "service.headers": true, "service.mirror": true, "service.corsPolicy": true,
	"service.apex": true, "service.primary": true, "service.canary": true, "analysis.match": true,
	"status.trackedConfigs": true, "status.lastTransitionTime": true, "status.conditions": true,
}

// samples are values of fields whose type does not say what is a good one. The
// part before "|" is what else has to be there.
var samples = map[string]string{
	"autoscalerRef.apiVersion":                        `{autoscalerRef: {kind: HorizontalPodAutoscaler, name: a}}|autoscaling/v1`,
	"autoscalerRef.kind":                              `{autoscalerRef: {kind: HorizontalPodAutoscaler, name: a}}|ScaledObject`,
	"autoscalerRef.name":                              `{autoscalerRef: {kind: HorizontalPodAutoscaler, name: a}}|x`,
	"autoscalerRef.primaryScalerQueries":              `{autoscalerRef: {kind: ScaledObject, name: a}}|{a: b}`,
	"autoscalerRef.primaryScalerReplicas.minReplicas": `{autoscalerRef: {kind: ScaledObject, name: a}}|7`,
	"autoscalerRef.primaryScalerReplicas.maxReplicas": `{autoscalerRef: {kind: ScaledObject, name: a}}|7`,
	"ingressRef":                              `{name: x}`,
	"routeRef":                                `{name: x}`,
	"upstreamRef":                             `{name: x}`,
	"canaryAnalysis":                          `{analysis: null}|{interval: 5m, threshold: 3, stepWeight: 20}`,
	"service.targetPort":                      `web`,
	"service.timeout":                         `7s`,
	"service.gatewayRefs":                     `[{name: x}]`,
	"service.trafficPolicy":                   `{loadBalancer: {simple: RANDOM}}`,
	"service.match":                           `[{uri: {prefix: /x}}]`,
	"service.retries":                         `{attempts: 7}`,
	"service.headers":                         `{request: {add: {a: b}}}`,
	"service.mirror":                          `[{backendRef: {name: x}}]`,
	"service.corsPolicy":                      `{allowMethods: [GET]}`,
	"service.apex":                            `{labels: {a: b}}`,
	"service.primary":                         `{labels: {a: b}}`,
	"service.canary":                          `{annotations: {a: b}}`,
	"analysis.interval":                       `7m`,
	"analysis.mirrorWeight":                   `{analysis: {mirror: true}}|7`,
	"analysis.stepWeights":                    `[3, 5]`,
	"analysis.alerts.severity":                `error`,
	"analysis.metrics.interval":               `7m`,
	"analysis.metrics.threshold":              `{analysis: {metrics: [{name: request-duration}]}}|7`,
	"analysis.metrics.name":                   `request-duration`,
	"analysis.iterations":                     `{analysis: {stepWeight: null}}|7`,
	"analysis.metrics.templateRef.name":       `x`,
	"analysis.metrics.templateRef.namespace":  `{analysis: {metrics: [{name: x, templateRef: {name: x}}]}}|x`,
	"analysis.metrics.templateRef.kind":       `{analysis: {metrics: [{name: x, templateRef: {name: x}}]}}|x`,
	"analysis.metrics.templateRef.apiVersion": `{analysis: {metrics: [{name: x, templateRef: {name: x}}]}}|x`,
	"analysis.metrics.templateVariables":      `{analysis: {metrics: [{name: x, templateRef: {name: x}}]}}|{a: b}`,
	"analysis.webhooks.type":                  `confirm-rollout`,
	"analysis.webhooks.url":                   `http://x.test/`,
	"analysis.webhooks.timeout":               `7s`,
	"analysis.webhooks.metadata":              `{a: b}`,
	"analysis.match":                          `{analysis: {iterations: 3}}|[{headers: {a: {exact: b}}}]`,
	"analysis.sessionAffinity.cookieName":     `x`,
	"analysis.sessionAffinity.maxAge":         `{analysis: {sessionAffinity: {cookieName: x}}}|7`,
}

const plainCanary = `
targetRef: {kind: Deployment, name: podinfo}
service: {port: 80}
analysis:
  interval: 1m
  threshold: 5
  stepWeight: 10
  metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]
  webhooks: [{name: load, url: "http://load.test/"}]
  alerts: [{name: team, providerRef: {name: slack}}]
`

// TestTheReferenceHasEveryField: the page that says what of Flagger is
// understood has a row for each field of a Canary, and says of each what the
// translation makes of a Canary that has it.
func TestTheReferenceHasEveryField(t *testing.T) {
	page, err := os.ReadFile("../../../docs/reference/flagger.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for title, prefix := range map[string]string{"Canary spec": "", "Canary status": "status."} {
		_, section, _ := strings.Cut(string(page), "\n## "+title+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\w+) \\|").FindAllStringSubmatch(section, -1) {
			rows[prefix+m[1]] = m[2]
		}
	}
	var paths []string
	leaves(reflect.TypeFor[flaggerv1.CanarySpec](), "", &paths)
	for _, path := range paths {
		word, ok := rows[path]
		if !ok {
			t.Errorf("the page has no row for %s", path)
			continue
		}
		delete(rows, path)
		probe(t, path, word)
	}
	paths = nil
	leaves(reflect.TypeFor[flaggerv1.CanaryStatus](), "status.", &paths)
	for _, path := range paths {
		if _, ok := rows[path]; !ok {
			t.Errorf("the page has no row for %s", path)
		}
		delete(rows, path)
	}
	for path := range rows {
		t.Errorf("the page has a row for %s, which is no field or is covered by another row", path)
	}
}

// leaves collects the fields of a type that have rows, by their paths in YAML.
func leaves(t reflect.Type, above string, out *[]string) {
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		path, of := above+name, t.Field(i).Type
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() == reflect.Struct && !whole[path] {
			leaves(of, path+".", out)
			continue
		}
		*out = append(*out, path)
	}
}

// probe compares a Canary with and without a field.
func probe(t *testing.T, path, word string) {
	t.Helper()
	sample, ok := samples[path]
	if !ok {
		sample = map[reflect.Kind]string{reflect.Bool: "true", reflect.String: "x"}[kindOf(path)]
		if sample == "" {
			sample = "7"
		}
	}
	more, value, both := strings.Cut(sample, "|")
	if !both {
		more, value = "{}", sample
	}
	before := merge(t, tree(t, plainCanary), tree(t, more)).(map[string]any)
	after := set(tree(t, string(marshal(t, before))), strings.Split(path, "."), reflect.TypeFor[flaggerv1.CanarySpec](), parse(t, value)).(map[string]any)
	was, had := Release(canaryOf(t, before))
	is, has := Release(canaryOf(t, after))
	changed := !cmp.Equal(was, is)
	told := false
	for _, f := range has {
		at := regexp.MustCompile(`\[\d+\]`).ReplaceAllString(f.Path, "")
		told = told || strings.HasPrefix(at+".", "spec."+path+".") || strings.HasPrefix("spec."+path+".", at+".")
	}
	good := map[string]bool{
		"yes": changed && len(has) <= len(had), "partly": changed || told, "other": changed || told,
		"none": !changed, "no": told && len(has) > len(had),
	}
	if !good[word] {
		t.Errorf("the page says %q of %s; setting it to %s changes the Release: %t, findings %v before, %v after", word, path, value, changed, had, has)
	}
}

// kindOf is that of the field at a path.
func kindOf(path string) reflect.Kind {
	t := reflect.TypeFor[flaggerv1.CanarySpec]()
	for _, name := range strings.Split(path, ".") {
		t = field(t, name)
	}
	return t.Kind()
}

// field is the type of a field, or of what it holds or points to.
func field(t reflect.Type, name string) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	for i := range t.NumField() {
		if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag == name {
			t = t.Field(i).Type
			break
		}
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// set returns a tree with a value at a path; of lists the first element is
// meant, if a type says that there is one.
func set(at any, path []string, t reflect.Type, value any) any {
	if len(path) == 0 {
		if t.Kind() == reflect.Slice {
			if _, list := value.([]any); !list {
				return []any{value}
			}
		}
		return value
	}
	if t.Kind() == reflect.Slice {
		list, _ := at.([]any)
		if len(list) == 0 {
			list = []any{map[string]any{}}
		}
		list[0] = set(list[0], path, t.Elem(), value)
		return list
	}
	fields, _ := at.(map[string]any)
	if fields == nil {
		fields = map[string]any{}
	}
	fields[path[0]] = set(fields[path[0]], path[1:], field(t, path[0]), value)
	return fields
}

// merge lays one tree over another; null removes.
func merge(t *testing.T, under, over any) any {
	a, okA := under.(map[string]any)
	b, okB := over.(map[string]any)
	if !okA || !okB {
		return over
	}
	for key, value := range b {
		if a[key] = merge(t, a[key], value); a[key] == nil {
			delete(a, key)
		}
	}
	return a
}

func tree(t *testing.T, text string) map[string]any {
	t.Helper()
	out, ok := parse(t, text).(map[string]any)
	if !ok {
		t.Fatalf("%s is no object", text)
	}
	return out
}

func parse(t *testing.T, text string) (out any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func canaryOf(t *testing.T, spec map[string]any) *flaggerv1.Canary {
	t.Helper()
	return decode[flaggerv1.Canary](t, marshal(t, map[string]any{"spec": spec}))
}
