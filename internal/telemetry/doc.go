// Package telemetry receives one record per request from the proxies and
// turns them into what others look at: counters, windows, tallies for the
// judge.
//
// It never slows a request down: recording does not block and does not fail.
// Metric and label names live in one file. It knows nothing of Kubernetes.
//
// Read next: request.go, the record; hub.go, who hears of it; batch.go, how
// records travel.
package telemetry
