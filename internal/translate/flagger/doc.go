// Package flagger translates Flagger's Canary (flagger.app/v1beta1) into the
// spec of a Release, and the Release's status back into that of the Canary, so
// that manifests and tools made for Flagger work as they are.
//
// Both directions are pure functions. What a Canary asks for and Serin cannot
// do yet becomes a finding, never silence: an Error where leaving it out could
// let a version through that the author wanted held, or send requests astray;
// a Warning where it cannot.
//
// What differs from Flagger by intent:
//
//   - Besides the Canary's checks the canary is compared with the primary on
//     the same traffic, so a bad version is mostly rolled back long before
//     the threshold of failed checks.
//   - A look at a check that finds no requests is not a failed check: the
//     canary waits at its weight for evidence.
//   - Each look covers the requests since the last one, so a metric's interval
//     need not be set; longer ones than the analysis interval get a Warning.
//
// Field names and rules are Flagger's at v1.36 (docs.flagger.app and package
// pkg/apis/flagger/v1beta1).
//
// Read next: release.go.
package flagger
