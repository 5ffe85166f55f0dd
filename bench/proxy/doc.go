// Proxy measures our proxy beside others in one run: Envoy, HAProxy, nginx,
// Caddy, and a ReverseProxy of net/http. Each does the same job (route by Host
// to a pool of connections that are kept, set x-request-id) for the same load,
// in front of the same backend, on one core of its own.
//
//	make bench-proxy
//	go run ./bench/proxy -proxies serin,envoy -cases http1 -rounds 5
//
// For each case and proxy there are two runs. Under full load, from wrk or
// h2load, it counts requests and the CPU time of the proxy's process group,
// kernel included, by /proc. That CPU time per request is the figure that
// counts; requests per second are only the proxy's own limit while its core
// was busy, which the table shows: load generator and backend share the other
// core. Then at a load that all bear easily and that is the same for all, it
// takes latency: requests start on a schedule that waits for no answer, so
// that a proxy that stalls cannot hide the requests it held up. Rounds are
// interleaved, in turning order; every figure is the median of the rounds.
//
// Ours is serin proxy as a gateway, which a server in this program feeds and
// hears from of every request, as serin up would. The others are configured in
// config/. All have their defaults, with as few exceptions as the job allows.
// HTTP/2 callers are served from HTTP/1.1 upstreams, as proxies do that stand
// in front of ordinary services; gRPC is HTTP/2 on both sides. No proxy writes
// an access log; each counts what it counts by default.
//
// The program must never turn a figure into a verdict, and never print one of
// a request that failed: a proxy that does not do the whole job in a case is
// named with the reason and not measured there.
package main
