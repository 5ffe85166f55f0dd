// Package load sends HTTP requests at a steady rate and reports what came back.
//
// It is open loop: requests start when they are due, whatever became of those
// before them, as users do. Where a limit on concurrency makes one wait, the
// wait counts as its latency, so that a slow server cannot hide by slowing its
// clients down ("coordinated omission"; Tene, "How NOT to Measure Latency").
//
// Server offers the same to Flagger's load-test webhooks. It never runs a
// shell: a command is read as one of hey's, or refused.
//
// Run is also what a release's own load is sent by, where users are too few.
//
// The package judges nothing, and sends nothing that its caller did not spell
// out. It imports the standard library alone.
//
// Read next: run.go.
package load
