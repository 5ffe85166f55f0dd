package load

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHeyCommandsBecomeSpecs(t *testing.T) {
	const u = "http://reviews-canary.default:9080/health"
	html := http.Header{"Content-Type": {"text/html"}} // hey's default
	for command, want := range map[string]Spec{
		"hey -z 1m -q 10 -c 2 " + u: {
			URLs: []string{u}, Method: "GET", Header: html, Rate: 20, Duration: time.Minute, Concurrency: 2, Timeout: 20 * time.Second,
		},
		"hey " + u: {
			URLs: []string{u}, Method: "GET", Header: html, Count: 200, Concurrency: 50, Timeout: 20 * time.Second,
		},
		"hey -n 101 -c 10 -t 0 -disable-keepalive -disable-compression=true --disable-redirects " + u: {
			URLs: []string{u}, Method: "GET", Header: html, Count: 100, Concurrency: 10, Timeout: 24 * time.Hour,
			DisableKeepAlive: true, DisableCompression: true, DisableRedirects: true,
		},
		`hey -n 1 -c 1 -m post -T application/json -A text/plain -U me -host shop.example -H 'End-User: jason' -H "X-A: 1" -H x-a:2 -d '{"a": "b c"}' -a u:p ` + u: {
			URLs: []string{u}, Method: "POST", Count: 1, Concurrency: 1, Timeout: 20 * time.Second, Host: "shop.example", Body: []byte(`{"a": "b c"}`),
			Header: http.Header{
				"Content-Type": {"application/json"}, "Accept": {"text/plain"}, "User-Agent": {"me"},
				"End-User": {"jason"}, "X-A": {"1", "2"}, "Authorization": {"Basic dTpw"},
			},
		},
		"hey -c 1 -H 'Host: a' -H 'Content-Type: b' " + u: {
			URLs: []string{u}, Method: "GET", Count: 200, Concurrency: 1, Timeout: 20 * time.Second, Host: "a", Header: http.Header{"Content-Type": {"b"}},
		},
		"hey \\\n  -z 10s \\\n  '" + u + "?a=b&c=d'\n": {
			URLs: []string{u + "?a=b&c=d"}, Method: "GET", Header: html, Duration: 10 * time.Second, Concurrency: 50, Timeout: 20 * time.Second,
		},
	} {
		got, err := ParseHey(command)
		if err != nil {
			t.Errorf("%s: %v", command, err)
			continue
		}
		if len(got.Body) == 0 {
			got.Body = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", command, diff)
		}
	}
}

func TestHeyProxyFlag(t *testing.T) {
	spec, err := ParseHey("hey -x 127.0.0.1:15001 http://a/")
	if err != nil {
		t.Fatal(err)
	}
	u, err := spec.Proxy(&http.Request{})
	if err != nil || u.String() != "http://127.0.0.1:15001" {
		t.Errorf("proxy %v, %v; want http://127.0.0.1:15001", u, err)
	}
}

func TestOtherCommandsAreRefusedWithAReason(t *testing.T) {
	for command, want := range map[string]string{
		"":                              "only hey can be run: write a command such as hey -z 1m -q 10 -c 2 http://host:port/path",
		"wrk http://a/":                 "only hey can be run: write a command such as hey -z 1m -q 10 -c 2 http://host:port/path",
		"hey":                           "hey: want one URL after the flags, got []",
		"hey http://a/ -z 1m":           `hey: want one URL after the flags, got ["http://a/" "-z" "1m"]`,
		"hey -z 1m a:80":                `hey: URL "a:80": want one such as http://music.default:30001/api/v1/music/1`,
		"hey -z 1 http://a/":            `hey: invalid value "1" for flag -z: parse error: supported are -A -H -T -U -a -c -d -disable-compression -disable-keepalive -disable-redirects -host -m -n -q -t -x -z`,
		"hey -h2 http://a/":             `hey: flag provided but not defined: -h2: supported are -A -H -T -U -a -c -d -disable-compression -disable-keepalive -disable-redirects -host -m -n -q -t -x -z`,
		"hey -n 5 http://a/":            "hey: -n 5: want at least as many requests as workers (-c 50)",
		"hey -c 0 http://a/":            "hey: -c 0: want 1 or more workers",
		"hey -z -1s http://a/":          "hey: -z -1s: want a time such as 1m",
		"hey -t -1 http://a/":           "hey: -t -1: want seconds",
		"hey -q -1 http://a/":           "hey: rate -50: want 0 to 1000000 requests per second",
		"hey -c 20000 -z 1s http://a/":  "hey: concurrency 20000: want 1 to 10000",
		"hey -a me http://a/":           "hey: -a: want user:password",
		"hey -x localhost http://a/":    "hey: -x localhost: want host:port",
		"hey -m 'A B' http://a/":        `hey: net/http: invalid method "A B"`,
		"hey -z 1m http://a/ | tee log": `'|' is shell syntax, and no shell is run: give one plain command, quote it if it is meant literally`,
		"hey -z 1m http://a/ && true":   `'&' is shell syntax, and no shell is run: give one plain command, quote it if it is meant literally`,
		"hey http://$HOST/":             `'$' is shell syntax, and no shell is run: give one plain command, quote it if it is meant literally`,
		`hey -H "A: $B" http://a/`:      `'$' in double quotes is shell syntax, and no shell is run: use single quotes`,
		"hey 'http://a/":                `the quote ' at "'http://a/" is not closed`,
		`hey -d "a`:                     `the quote " at "\"a" is not closed`,
		`hey http://a/ \`:               "the command ends in a backslash",
	} {
		if _, err := ParseHey(command); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", command, err, want)
		}
	}
}

func TestWordsAreSplitAsByAShell(t *testing.T) {
	for s, want := range map[string][]string{
		" a  b\tc\n":     {"a", "b", "c"},
		`a'b c'd`:        {"ab cd"},
		`'' ""`:          {"", ""},
		`"a\"b\\c\d"`:    {`a"b\c\d`},
		`a\ b \'`:        {"a b", "'"},
		"a\\\nb":         {"ab"},
		`"it's" 'a "b"'`: {"it's", `a "b"`},
		"":               nil,
	} {
		got, err := splitWords(s)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", s, got, err, want)
		}
	}
}

// Whatever words there are: quoted, they come back as they were.
func FuzzQuotedWordsComeBack(f *testing.F) {
	f.Add("hey", "a b", `it's "so" \n $HOME`)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		single := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
		double := func(s string) string {
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
		}
		got, err := splitWords(single(a) + " " + double(b) + "\t" + single(c))
		if want := []string{a, b, c}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	})
}

// Whatever the command: it is refused, or makes a Spec that can be run.
func FuzzParseHey(f *testing.F) {
	for _, seed := range []string{
		"hey -z 1m -q 10 -c 2 http://reviews-canary.default:9080/health",
		`hey -n 10 -c 1 -m POST -H 'a: b' -d "x\"y" -host h -disable-keepalive -t 3 http://a/?b=c`,
		"hey -x :1 -a u:p -q 1e9 http://[::1]:80/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, command string) {
		spec, err := ParseHey(command)
		if err != nil {
			return
		}
		if _, err := spec.withDefaults(); err != nil {
			t.Errorf("%q: accepted, but cannot be run: %v", command, err)
		}
		if spec.Duration == 0 && spec.Count == 0 {
			t.Errorf("%q: would never end", command)
		}
		if _, err := http.NewRequestWithContext(t.Context(), spec.Method, spec.URLs[0], nil); err != nil {
			t.Errorf("%q: accepted, but no request can be made: %v", command, err)
		}
	})
}
