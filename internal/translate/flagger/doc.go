// Package flagger translates Flagger's Canary (flagger.app/v1beta1) into the
// spec of a Release, and the Release's status back into that of the Canary, so
// that manifests and tools made for Flagger work as they are.
//
// Both directions are pure functions. What a Canary asks for and Serin cannot
// do becomes a finding, never silence: an Error where leaving it out could
// let a version through that the author wanted held, or send requests astray;
// a Warning where it cannot.
//
// Which fields there are, and what differs from Flagger by intent and why, is in
// docs/reference/flagger.md, which a test holds to this package.
//
// Field names and rules are Flagger's at v1.36 (docs.flagger.app and package
// pkg/apis/flagger/v1beta1).
//
// Read next: release.go.
package flagger
