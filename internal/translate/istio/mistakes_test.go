package istio_test

import (
	"strings"
	"testing"

	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/internal/translate/istio"
)

// mistake is the spec of an object with the finding that it is refused with, or
// warned of.
type mistake struct{ spec, want string }

func named[T any, O interface {
	*T
	metav1.Object
}](t *testing.T, kind string, all []mistake) {
	t.Helper()
	for _, m := range all {
		o := O(new(T))
		if err := yaml.Unmarshal([]byte("metadata: {name: x, namespace: default}\nspec: "+m.spec), o); err != nil {
			t.Fatalf("%s: %v", m.spec, err)
		}
		severity, rest, _ := strings.Cut(m.want, ": ")
		want := severity + ": " + kind + " default/x: spec." + rest
		if got := lines(istio.Validate(o)); !strings.Contains(got, want) {
			t.Errorf("%s:\ngot  %swant %s", m.spec, got, want)
		}
	}
}

func TestMistakesInRoutesAreNamed(t *testing.T) {
	http := func(rule string) string { return "{hosts: [a], http: [{" + rule + "}]}" }
	with := func(field string) string { return http("route: [{destination: {host: a}}], " + field) }
	named[istiov1.VirtualService](t, "VirtualService", []mistake{
		{http("route: [{destination: {host: a}, weight: 2147483647}, {destination: {host: b}, weight: 2147483647}, {destination: {host: c}, weight: 2}]"),
			"error: http[0].route: the weights sum up to 4294967296, and to 4294967295 at most: only their ratio counts"},
		{with("fault: {}"), "error: http[0].fault: is empty: add a delay or an abort"},
		{with("fault: {delay: {percentage: {value: 5}}}"), "error: http[0].fault.delay.fixedDelay: is not set"},
		{with("fault: {delay: {fixedDelay: 0s}}"), "error: http[0].fault.delay.fixedDelay: 0s is not 1ms or longer"},
		{with("fault: {delay: {fixedDelay: 1s, percentage: {value: 101}}}"), "error: http[0].fault.delay.percentage.value: 101 is not in 0..100"},
		{with("fault: {abort: {httpStatus: 600, percentage: {value: 1}}}"), "error: http[0].fault.abort.httpStatus: 600 is not in 200..599"},
		{with("fault: {abort: {grpcStatus: UNAVAILBLE}}"), `error: http[0].fault.abort.grpcStatus: unknown code "UNAVAILBLE" (did you mean "UNAVAILABLE"?)`},
		{with("timeout: -1s"), "error: http[0].timeout: -1s is not 0s or longer"},
		{with("timeout: 1.5ms"), "error: http[0].timeout: 1.5ms is not 0s or longer in whole milliseconds"},
		{with("retries: {attempts: 0, retryOn: 5xx}"), "error: http[0].retries.attempts: is 0, which switches retries off"},
		{with("retries: {attempts: -1}"), "error: http[0].retries.attempts: -1 is negative"},
		{with("retries: {attempts: 1, retryOn: conect-failure}"), `error: http[0].retries.retryOn: unknown condition "conect-failure" (did you mean "connect-failure"?)`},
		{with("retries: {attempts: 1, retryOn: '99'}"), "error: http[0].retries.retryOn: status 99 is not in 200..599"},
		{with("rewrite: {}"), "error: http[0].rewrite: changes nothing"},
		{with("rewrite: {uri: v2}"), `error: http[0].rewrite: path "v2" does not begin with a slash`},
		{with("rewrite: {uriRegexRewrite: {match: a, rewrite: '\\1'}}"), `error: http[0].rewrite: substitution "\\1": the expression has 0 groups`},
		{with("headers: {request: {set: {content-length: '1'}}}"), `error: http[0].headers: request: set "content-length": is part of the framing`},
		{with(`headers: {response: {add: {a: "x\r\nb: c"}}}`), `error: http[0].headers: answer: add "a": value "x\r\nb: c" has control characters`},
		{with("mirror: {host: a}, mirrors: [{destination: {host: a}}]"), "error: http[0].mirrors: cannot be together with mirror"},
		{with("mirrors: [{percentage: {value: 5}}]"), "error: http[0].mirrors[0].destination.host: is empty"},
		{with("mirror: {host: a}, mirrorPercentage: {value: -1}"), "error: http[0].mirrorPercentage.value: -1 is not in 0..100"},
		{with("corsPolicy: {allowOrigins: [{}]}"), "error: http[0].corsPolicy.allowOrigins[0]: is empty: write exact, prefix or regex"},
		{with("corsPolicy: {allowOrigins: [{exact: a}], allowMethods: ['GET,POST']}"), `error: http[0].corsPolicy: "GET,POST" is not a token`},
		{with("delegate: {name: b}"), "error: http[0]: has a route and a redirect, directResponse or delegate"},
		{http("delegate: {namespace: b}"), "error: http[0].delegate.name: is empty: name a VirtualService without hosts"},
		{http("redirect: {}"), "error: http[0].redirect: changes nothing"},
		{http("redirect: {uri: /a, redirectCode: 304}"), "error: http[0].redirect: code 304 is not 301"},
		{http("redirect: {uri: /a, port: 70000}"), "error: http[0].redirect.port: 70000 is not in 1..65535"},
		{http("redirect: {uri: /a, prefixRewrite: /b}"), "error: http[0].redirect: replaces both the path and its prefix"},
		{http("redirect: {uri: /a}, directResponse: {status: 200}"), "error: http[0]: has a redirect and a directResponse"},
		{http("redirect: {uri: /a}, rewrite: {uri: /b}"), "error: http[0].rewrite: changes what a destination sees"},
		{http("directResponse: {status: 99}"), "error: http[0].directResponse: status 99 is not in 200..599"},
		{with("match: [{queryParams: {'': {exact: a}}}]"), "error: http[0].match[0]: query: a parameter has no name"},
		{with("match: [{headers: {'a b': {exact: a}}}]"), `error: http[0].match[0]: header "a b": name is not a token`},
		{with("match: [{headers: {':path': {exact: /}}}]"), "error: http[0].match[0].headers[:path]: is no header"},
		{"{hosts: [a], tcp: [{}]}", "error: tcp[0].route: is empty: add a destination"},
		{"{hosts: [a], tcp: [{match: [{port: 70000}], route: [{destination: {host: a}}]}]}", "error: tcp[0].match[0].port: 70000 is not in 1..65535"},
		{"{hosts: [a], tls: [{route: [{destination: {host: a}}]}]}", "error: tls[0].match: is empty: name the sniHosts"},
		{"{hosts: [a.test], tls: [{match: [{sniHosts: [b.test]}], route: [{destination: {host: a}}]}]}", `error: tls[0].match[0].sniHosts[0]: "b.test" is none of spec.hosts: add it there`},
	})
}

func TestMistakesInRateLimitsAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"100":             `"100" has no unit of time`,
		"100/d":           `"100/d" has no unit of time`,
		"0/s":             `"0" is no number of requests`,
		"many/s":          `"many" is no number of requests`,
		"1/s burst 0":     `burst "0" is no number of requests`,
		"1/s and more":    `"1/s and more" is no rate`,
		"":                `"" is no rate`,
		"99999999999/s":   `"99999999999" is no number of requests`,
		"100/s burst 200": "",
		"7/m":             "",
	} {
		vs := new(istiov1.VirtualService)
		if err := yaml.Unmarshal([]byte("metadata: {name: x, namespace: default}\nspec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}"), vs); err != nil {
			t.Fatal(err)
		}
		vs.Annotations = map[string]string{istio.AnnotationRateLimit: text}
		got := lines(istio.Validate(vs))
		if want != "" {
			want = "error: VirtualService default/x: metadata.annotations[serin.dev/rate-limit]: " + want + `: write such as "100/s" or "100/s burst 200", with s, m or h` + "\n"
		}
		if got != want {
			t.Errorf("rate limit %q: %q, want %q", text, got, want)
		}
	}
}

func TestMistakesInPoliciesAreNamed(t *testing.T) {
	policy := func(field string) string { return "{host: a, trafficPolicy: {" + field + "}}" }
	hash := func(key string) string { return policy("loadBalancer: {consistentHash: {" + key + "}}") }
	named[istiov1.DestinationRule](t, "DestinationRule", []mistake{
		{"{}", "error: host: is empty"},
		{"{host: 'a.*'}", `error: host: "a.*" a wildcard is allowed at the front only`},
		{hash(""), "error: trafficPolicy.loadBalancer.consistentHash: has no key"},
		{hash("useSourceIp: false"), "error: trafficPolicy.loadBalancer.consistentHash.useSourceIp: is false"},
		{hash("httpHeaderName: 'a b'"), "error: trafficPolicy.loadBalancer: hash: key 0: name is not a token"},
		{hash("httpCookie: {name: ''}"), `error: trafficPolicy.loadBalancer: hash: key 0: "" is not the name of a cookie`},
		{hash("useSourceIp: true, maglev: {tableSize: 65536}"), "error: trafficPolicy.loadBalancer: table size 65536 is no prime"},
		{hash("useSourceIp: true, maglev: {tableSize: 5000012}"), "error: trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 5000012 is larger than 5000011"},
		{hash("useSourceIp: true, ringHash: {minimumRingSize: 9000000}"), "error: trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize: 9000000 is larger than 8388608"},
		{policy("loadBalancer: {warmup: {}}"), "error: trafficPolicy.loadBalancer.warmup.duration: is not set"},
		{policy("loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}"), "warning: trafficPolicy.loadBalancer.warmup: has an effect with LEAST_REQUEST"},
		{policy("loadBalancer: {simple: PASSTHROUGH}"), "warning: trafficPolicy.loadBalancer.simple: PASSTHROUGH is not supported yet"},
		{policy("loadBalancer: {localityLbSetting: {failover: [{from: eu, to: eu}]}}"), `error: trafficPolicy.loadBalancer.localityLbSetting: locality: failover from "eu" to "eu"`},
		{policy("connectionPool: {tcp: {maxConnections: -1}}"), "error: trafficPolicy.connectionPool.tcp.maxConnections: -1 is negative"},
		{policy("connectionPool: {tcp: {connectTimeout: 0s}}"), "error: trafficPolicy.connectionPool.tcp.connectTimeout: 0s is not 1ms or longer"},
		{policy("connectionPool: {tcp: {idleTimeout: 0s}}"), "warning: trafficPolicy.connectionPool.tcp.idleTimeout: 0s, for ever, is not supported yet"},
		{policy("outlierDetection: {maxEjectionPercent: 101}"), "error: trafficPolicy.outlierDetection: outlier: max percent 101 is not in 0..100"},
		{policy("outlierDetection: {outlierDetectionHttpErrorCodes: [429]}"), "warning: trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes: not supported yet"},
		{policy("retryBudget: {percent: 101}"), "error: trafficPolicy.retryBudget.percent: 101 is not in 0..100"},
		{policy("portLevelSettings: [{}]"), "error: trafficPolicy.portLevelSettings[0].port.number: 0 is not in 1..65535"},
		{policy("portLevelSettings: [{port: {number: 1}}, {port: {number: 1}}]"), "error: trafficPolicy.portLevelSettings[1].port.number: 1 is listed twice"},
		{policy("tls: {mode: MUTUAL}"), "error: trafficPolicy.tls.credentialName: is empty"},
		{policy("tls: {mode: SIMPLE, subjectAltNames: ['']}"), "error: trafficPolicy.tls.subjectAltNames[0]: is empty"},
		{"{host: a, subsets: [{name: v1, trafficPolicy: {tunnel: {}}}]}", "warning: subsets[0].trafficPolicy.tunnel: not supported yet"},
	})
}

func TestMistakesInGatewaysAndEntriesAreNamed(t *testing.T) {
	server := func(port, more string) string {
		return "{servers: [{port: {number: 443, name: x, protocol: " + port + "}, hosts: ['*'], " + more + "}]}"
	}
	named[istiov1.Gateway](t, "Gateway", []mistake{
		{server("HTTP", "tls: {mode: SIMPLE}"), "error: servers[0].tls: is set on a port without TLS"},
		{server("HTTPS", "tls: {mode: SIMPLE, credentialName: a, httpsRedirect: true}"), "error: servers[0].tls.httpsRedirect: is set on a port with TLS"},
		{server("HTTPS", "tls: {mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}"), "error: servers[0].tls.maxProtocolVersion: is below the least version, TLS 1.3"},
		{server("HTTPS", "tls: {mode: AUTO_PASSTHROUGH}"), "warning: servers[0].tls.mode: AUTO_PASSTHROUGH is not supported yet"},
		{server("GRPC-WEB", ""), "warning: servers[0].port.protocol: GRPC-WEB is passed on as HTTP"},
	})
	named[istiov1.ServiceEntry](t, "ServiceEntry", []mistake{
		{"{hosts: [a.test], ports: [{number: 80, name: http}], subjectAltNames: ['']}", "error: subjectAltNames[0]: is empty"},
		{"{hosts: [a.test], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: 1.2.3.4, weight: 70000}]}", "error: endpoints[0].weight: 70000 is not in 0..65535"},
		{"{hosts: ['*.test'], ports: [{number: 80, name: http}], resolution: DYNAMIC_DNS}", "warning: hosts[0]: wildcards are not supported yet"},
	})
	named[istiov1.WorkloadEntry](t, "WorkloadEntry", []mistake{
		{"{address: 'a_b..c'}", `error: address: "a_b..c" is not an IP address or host name`},
		{"{address: 1.2.3.4, locality: a/b/c/d}", `error: locality: "a/b/c/d" is not region/zone/subzone`},
	})
}

func TestOfFieldsThatExcludeEachOtherOneIsKept(t *testing.T) {
	f := func(o metav1.Object, spec string, want string) {
		t.Helper()
		var decoded map[string]any
		if err := yaml.Unmarshal([]byte(spec), &decoded); err != nil {
			t.Fatal(err)
		}
		if got := lines(istio.Ambiguities(o, decoded)); got != want {
			t.Errorf("%s:\ngot  %swant %s", spec, got, want)
		}
	}
	vs, dr := &istiov1.VirtualService{}, &istiov1.DestinationRule{}
	vs.Name, dr.Name = "x", "x"
	f(vs, "{http: [{match: [{}, {uri: {prefix: /a, exact: /}}]}]}", "error: VirtualService /x: spec.http[0].match[1].uri: has exact and prefix: keep one\n")
	f(vs, "{http: [{match: [{headers: {agent: {regex: a, exact: b}}}]}]}", "error: VirtualService /x: spec.http[0].match[0].headers[agent]: has exact and regex: keep one\n")
	f(dr, "{trafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true, httpHeaderName: a}}}}",
		"error: DestinationRule /x: spec.trafficPolicy.loadBalancer.consistentHash: has httpHeaderName and useSourceIp: keep one\n"+
			"error: DestinationRule /x: spec.trafficPolicy.loadBalancer: has consistentHash and simple: keep one\n")
	f(vs, "{hosts: a, http: [{match: [{uri: {exact: /, prefix: null}, headers: 5}], timeout: 5s, nonsense: {}}, null, 7]}", "")
	f(&istiov1.WorkloadEntry{}, "{address: 1.2.3.4}", "")
}
