// Package proxy is the Go data plane: it accepts requests, routes each under
// the snapshot in force, sends it to one endpoint and records what happened.
//
// A request passes these files in this order:
//
//	listener.go      accept; outbound, gateway or inbound
//	authority.go     which host and port are called
//	table.go         the snapshot compiled: host → route → split
//	pick.go          the draws: a share of the split, an endpoint of the group
//	upstream.go      an endpoint's pool, its requests under way, its drain
//	engine_http1.go  carry one request and its answer (net/http)
//	record.go        one telemetry.Request, however it ended
//
// Only the engine knows how bytes move, so that a faster one can take its
// place; the files around it decide and count, and allocate nothing.
//
// It must never send a request where the snapshot does not allow, wait for a
// recorder, take a lock of its own on a request's path, or know of Kubernetes.
//
// Health probes do not pass here: node sends them to the application itself.
//
// Read next: internal/mesh for the nouns, proxy.go for Apply and Drained.
package proxy
