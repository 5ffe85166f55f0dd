package archtest

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// room is what one package, and those below it without a row of their own, may
// import beyond the standard library. Tests may import more, except programs.
type room struct {
	own    []string // packages of this project; "..." at the end includes what is below
	others []string // prefixes of foreign import paths
	why    string   // printed when the wall is broken
}

// The prefixes by which the table names foreign code.
var (
	kubernetes = []string{"k8s.io/", "sigs.k8s.io/"}
	istio      = []string{"istio.io/"}
	flagger    = []string{"github.com/fluxcd/flagger/pkg/apis/"}
	protobuf   = []string{"google.golang.org/protobuf/"} // of which Istio's types are made
	etcd       = []string{"go.etcd.io/", "go.uber.org/zap"}
	envoy      = []string{"github.com/envoyproxy/go-control-plane/"}
	grpc       = []string{"google.golang.org/grpc/"}
)

// rooms is the architecture as a table, in the order data flows. A package
// that is not here does not belong to the product yet: give it a row and say
// why it may see what it sees.
var rooms = map[string]room{
	"api/v1alpha1": {
		others: []string{"k8s.io/api/", "k8s.io/apimachinery/"},
		why:    "kinds are plain data that clients outside of this project import",
	},
	"internal/mesh": {
		why: "the nouns are what every dialect and every data plane agree on; with a dependency they would agree on that, too",
	},
	"internal/mesh/meshtest": {
		own: []string{"internal/mesh"},
		why: "random snapshots are for tests of every room, so it must not bring them anything",
	},
	"internal/translate/istio": {
		own:    []string{"internal/mesh"},
		others: slices.Concat(istio, kubernetes, protobuf),
		why:    "a translation is a pure function from one dialect to the nouns; it must be testable without an API or a proxy",
	},
	"internal/translate/flagger": {
		own:    []string{"api/v1alpha1"},
		others: slices.Concat(flagger, kubernetes),
		why:    "a translation is a pure function from Flagger's kind to ours and back; it must be testable without an API",
	},
	"internal/translate/argo": {
		own:    []string{"api/v1alpha1"},
		others: kubernetes,
		why:    "a conversion is a pure function from files to files, made once by people who move; nothing that runs knows Argo's kinds",
	},
	"internal/telemetry": {
		own: []string{"internal/analysis", "internal/mesh"},
		why: "it is fed on the request path and must work where there is no Kubernetes",
	},
	"internal/proxy": {
		own:    []string{"internal/mesh", "internal/telemetry", "internal/proxy/..."},
		others: []string{"github.com/cespare/xxhash/"},
		why:    "the data plane obeys snapshots alone, so that a remote machine can run it without any API",
	},
	"internal/proxy/loop": {
		others: []string{"golang.org/x/sys/"},
		why:    "it moves bytes and tells time; what the bytes mean is for others",
	},
	"internal/proxy/wire": {
		why: "the form of a message depends on nothing, least of all on connections",
	},
	"internal/proxy/http1": {
		own: []string{"internal/proxy/loop", "internal/proxy/wire"},
		why: "a codec knows messages and connections; routing, policies and records are the exchange's",
	},
	"internal/proxy/http2": {
		own:    []string{"internal/proxy/loop", "internal/proxy/wire"},
		others: []string{"golang.org/x/net/http2/hpack", "golang.org/x/net/http/httpguts"},
		why:    "a codec knows messages and connections; routing, policies and records are the exchange's",
	},
	"internal/xds": {
		own:    []string{"internal/mesh", "internal/telemetry"},
		others: slices.Concat(envoy, protobuf),
		why:    "it is the one place that knows Envoy's messages: pure functions from the nouns to them and back, testable without a connection",
	},
	"internal/xds/ads": {
		own:    []string{"internal/mesh", "internal/telemetry", "internal/xds"},
		others: slices.Concat(envoy, protobuf, grpc),
		why:    "it carries snapshots to proxies and records back, whatever is in them",
	},
	"internal/xds/xdstest": {
		own: []string{"internal/mesh", "internal/telemetry", "internal/xds", "internal/xds/ads", "test/parts"},
		why: "it runs an Envoy and a server for tests and knows no more than how to start them",
	},
	"internal/analysis": {
		why: "statistics must replay: no clock, no I/O, no dependency",
	},
	"internal/rollout": {
		own: []string{"internal/analysis", "internal/mesh"},
		why: "decisions are pure functions of state and input; a dependency that does I/O would end that",
	},
	"internal/rollout/sim": {
		own: []string{"internal/analysis", "internal/mesh", "internal/rollout"},
		why: "a simulated world is as deterministic as what it proves",
	},
	"internal/experiment": {
		own: []string{"internal/analysis", "internal/rollout"},
		why: "what becomes of a candidate is as pure as what becomes of a release, whose shares it speaks in",
	},
	"internal/traffic": {
		own: []string{"internal/analysis"},
		why: "it draws counts in the judge's words; what is decided by them must not change what is drawn",
	},
	"internal/record": {
		own: []string{"internal/analysis", "internal/experiment", "internal/rollout"},
		why: "a record is replayed on a machine that has neither the API nor the proxies; all it needs is what decides",
	},
	"internal/forecast": {
		own: []string{"internal/analysis", "internal/rollout", "internal/traffic"},
		why: "a forecast is made by the engine itself on imagined requests; with more to see it would predict something else",
	},
	"internal/kube": {
		own: []string{
			"api/v1alpha1", "internal/mesh", "internal/analysis", "internal/metric", "internal/notify", "internal/rollout",
			"internal/translate/...",
		},
		others: slices.Concat(kubernetes, istio, flagger, protobuf),
		why:    "it is the one door to a Kubernetes API and speaks the product's nouns on its inner side",
	},
	"internal/metric": {
		others: []string{
			"k8s.io/client-go/util/jsonpath", "sigs.k8s.io/yaml",
			"github.com/prometheus/client_model/go", "github.com/prometheus/common/", // what applications show
		},
		why: "it asks other systems over HTTP and knows neither an API nor a release; of Kubernetes it has the language of paths alone",
	},
	"internal/notify": {
		why: "it writes to chat systems over HTTP and knows neither an API nor how a release is decided",
	},
	"internal/controller": {
		own: []string{
			"api/v1alpha1", "internal/analysis", "internal/experiment", "internal/kube", "internal/load", "internal/mesh", "internal/metric",
			"internal/notify", "internal/proxy", "internal/record", "internal/rollout", "internal/telemetry", "internal/translate/...",
		},
		others: []string{"golang.org/x/net/http/httpguts", "github.com/prometheus/client_golang/"}, // what a header may be; how metrics are written
		why:    "the loops ask, decide and act in the product's nouns; objects of others pass from kube's door to a translation unopened",
	},
	"internal/apiserver": {
		own:    []string{"api/v1alpha1", "internal/apiserver/..."},
		others: slices.Concat(kubernetes, etcd, protobuf, []string{"github.com/google/gnostic-models/"}),
		why:    "the embedded API knows nothing of releases beyond their kind: it must behave as any cluster's",
	},
	"internal/node": {
		own:    []string{"internal/kube"},
		others: slices.Concat(kubernetes, []string{"golang.org/x/sys/"}),
		why:    "it runs Deployments as any kubelet would and must not know why they change",
	},
	"internal/live": {
		own:    []string{"api/v1alpha1", "internal/rollout"},
		others: []string{"golang.org/x/"},
		why:    "what people see is a pure function of a Release; it reads no API",
	},
	"internal/load": {
		why: "a load generator is any client: it meets services over HTTP alone",
	},
	"internal/demoapp": {
		why: "the demo applications are somebody else's programs: they meet Serin over HTTP alone",
	},
	"examples": {
		why: "they are files for people and tests; the package only embeds them",
	},
	"internal/docgen": {
		why: "it reads sources as text; what it imported it could not describe",
	},
	"bench": {
		others: slices.Concat(kubernetes),
		why:    "it measures the program as people meet it, and speaks to its API as a client",
	},
	"bench/page": {
		why: "it says where figures come from, whatever they are of",
	},
	"bench/proxy": {
		own:    []string{"bench/page", "internal/mesh", "internal/xds/ads"},
		others: []string{"golang.org/x/", "google.golang.org/grpc/"},
		why:    "it treats our proxy as it treats the others: a program with a configuration, which a server hands it, and ports",
	},
	"bench/decision": {
		own: []string{"bench/page", "internal/analysis", "internal/traffic"},
		why: "it plays our judge as it plays the policies of others: from counts alone",
	},
	"test/equivalence": {
		why: "it is tests alone: they meet both data planes as their callers and their endpoints do",
	},
	"test/parts": {
		why: "tests of every room use it, so it must not bring them anything",
	},
	"test/ports": {
		others: []string{"golang.org/x/sys/"},
		why:    "tests of every room use it, so it must not bring them anything",
	},
	"test/story": {
		others: []string{"github.com/google/go-cmp/", "golang.org/x/tools/txtar"},
		why:    "tests of every room are told with it, so it must not bring them anything",
	},
	"test/e2e": {
		why: "it meets the program as people do: by command line, API and HTTP",
	},
	"internal/archtest": {
		why: "it must not depend on what it judges",
	},
	"cmd/serin": {
		own: []string{"api/v1alpha1", "examples", "internal/...", "cmd/serin/..."},
		others: slices.Concat(kubernetes, istio, flagger, []string{
			"github.com/spf13/", "golang.org/x/term",
		}),
		why: "the program is the one place that sees all and wires it by hand",
	},
}

func TestPackagesImportWhatTheirWallsAllow(t *testing.T) {
	tr := load(t)
	for _, f := range tr.files {
		if f.tool || f.test() {
			continue
		}
		r, ok := roomOf(f.dir())
		if !ok {
			t.Errorf("%s: package %s is in no room: add a row to internal/archtest/walls_test.go and to the rooms of ARCHITECTURE.md, with the reason", f.path, f.dir())
			continue
		}
		for _, imported := range f.imports() {
			if !r.allows(imported) {
				t.Errorf("%s: must not import %s: %s", f.path, imported, r.why)
			}
		}
	}
}

// roomOf finds the row of a package: its own or the nearest above.
func roomOf(dir string) (room, bool) {
	for ; dir != "."; dir = path.Dir(dir) {
		if r, ok := rooms[dir]; ok {
			return r, true
		}
	}
	return room{}, false
}

func (r room) allows(imported string) bool {
	if own, ok := strings.CutPrefix(imported, module+"/"); ok {
		return slices.ContainsFunc(r.own, func(p string) bool { return within(own, p) })
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	return slices.ContainsFunc(r.others, func(prefix string) bool { return strings.HasPrefix(imported+"/", prefix) })
}

// within reports whether a package is the one that pattern names, or lies
// below it when the pattern ends in "...".
func within(pkg, pattern string) bool {
	if above, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(pkg+"/", above)
	}
	return pkg == pattern
}

func TestNothingImportsAProgram(t *testing.T) {
	for _, f := range load(t).files {
		for _, imported := range f.imports() {
			below, ok := strings.CutPrefix(imported, module+"/cmd/")
			program, _, _ := strings.Cut(below, "/")
			if ok && !strings.HasPrefix(f.path, "cmd/"+program+"/") {
				t.Errorf("%s: must not import %s: a program wires packages; what two need belongs into a package of its own", f.path, imported)
			}
		}
	}
}

func TestEveryRoomExists(t *testing.T) {
	packages := load(t).packages()
	for dir := range rooms {
		if packages[dir] == nil {
			t.Errorf("walls_test.go has a room %s, but there is no such package: remove the row", dir)
		}
	}
}

func TestEveryRoomIsOnTheMap(t *testing.T) {
	page := string(load(t).texts["ARCHITECTURE.md"])
	for dir := range rooms {
		if !strings.Contains(page, "]("+dir+")") {
			t.Errorf("ARCHITECTURE.md does not link to %s: say in its table of rooms what the package does and must never do", dir)
		}
	}
}

// The deep copies and the CRDs of our kinds come from one generator.
func TestGeneratorIsPinnedOnce(t *testing.T) {
	tr := load(t)
	const tool = "sigs.k8s.io/controller-tools"
	want := tool + "/cmd/controller-gen@" + required(tr.texts["tools/controller-gen/go.mod"], tool)
	const caller = "internal/apiserver/crds/gen/main.go"
	i := slices.IndexFunc(tr.files, func(f *goFile) bool { return f.path == caller })
	if i < 0 || !strings.Contains(string(tr.files[i].src), want) {
		t.Errorf("%s does not run %s, which tools/controller-gen/go.mod pins: give both the same version", caller, want)
	}
}

// required returns the version of a module that a go.mod file requires.
func required(file []byte, module string) string {
	for line := range strings.Lines(string(file)) {
		if f := strings.Fields(strings.TrimPrefix(line, "require ")); len(f) >= 2 && f[0] == module {
			return f[1]
		}
	}
	return ""
}

func TestModuleInstallsWithoutReplace(t *testing.T) {
	for number, line := range strings.Split(string(load(t).texts["go.mod"]), "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "require ")
		if strings.HasPrefix(line, "replace") || strings.HasPrefix(line, "exclude") {
			t.Errorf("go.mod:%d: %q: `go install %s/cmd/serin@latest` refuses modules with replace or exclude", number+1, line, module)
		}
		if strings.HasPrefix(line, "k8s.io/kubernetes ") {
			t.Errorf("go.mod:%d: k8s.io/kubernetes is not a library: it needs 33 replaced modules; use k8s.io/apiserver and client-go", number+1)
		}
	}
}
