// Package ads serves snapshots to proxies of other processes and machines over
// Envoy's aggregated discovery service, takes the records of their requests
// over its access log service, and is our own proxy's client of both.
//
// What a proxy is sent, package xds makes; this package brings it there in an
// order in which no request is lost, and knows what each proxy has applied.
// A proxy that is slow, stuck or gone must never hold up another one, nor
// whoever sets a snapshot: each has a goroutine and a state of its own, and what
// was not sent yet is replaced by what is newer.
//
// Read next: session.go, which decides what is sent when; server.go; client.go.
package ads
