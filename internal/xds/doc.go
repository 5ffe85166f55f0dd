// Package xds translates snapshots into what Envoy's discovery protocol
// carries, and back.
//
// Encode is a pure function of a snapshot and of the proxy that asks. There are
// two layouts. An Envoy gets ready-made parts: listeners with addresses, one
// virtual host for each host and port, priorities for the place it stands at.
// Our own proxy does all that itself, so it gets the nouns one to one, in the
// same messages; Decode turns them back. Both layouts share the translation
// of each noun, and what Decode gives is exactly View, the part of a snapshot
// that a node sees: so nothing is lost on the way to an Envoy unnoticed.
//
// What Envoy's messages have no field for lies in their metadata under
// "serin.dev".
//
// This package and those below it are the only ones that see Envoy's messages.
// It must not open connections or read files; the package internal/xds/ads
// serves what Encode makes. Read next: node.go, view.go, encode.go.
package xds
