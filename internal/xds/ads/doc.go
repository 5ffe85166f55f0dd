// Package ads serves snapshots to proxies of other processes and machines over
// Envoy's aggregated discovery service, and takes the records of their requests:
// from an Envoy over its access log service, from our own proxy in batches of
// package telemetry. It is our own proxy's client, too.
//
// What a proxy is sent, package xds makes; this package brings it there in an
// order in which no request is lost, and knows what each proxy has applied.
// A proxy that is slow, stuck or gone must never hold up another one, nor
// whoever sets a snapshot: each has a goroutine and a state of its own, and what
// was not sent yet is replaced by what is newer.
//
// Read next: session.go, which decides what is sent when; server.go; client.go;
// log.go, and records.go, which it talks to.
package ads
