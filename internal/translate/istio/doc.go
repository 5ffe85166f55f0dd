// Package istio translates Istio's traffic objects, with the Services they
// speak of, into a mesh.Snapshot.
//
// Translate is a pure function: the same objects in any order give the same
// snapshot and findings. It must never fail as a whole, panic on any input, or
// leave out silently what has an effect in Istio: whatever it does not
// translate is a Warning with the field's path, found by walking the object
// rather than by a list of what is missing.
//
// An object that is wrong (Error) does not reach the proxies as long as its
// last good version is known; everything else goes on. See Input.Previous.
//
// Where Istio leaves a choice, or one machine has no use for it:
//   - every Gateway is served, whatever its selector: there is one gateway;
//   - a host between services belongs to one VirtualService, the oldest; at a
//     gateway several are merged: first that with the most specific host, then
//     the oldest, routes without a match last;
//   - a destination that does not exist answers 503 for its share alone;
//   - a route that cannot be served answers 404; its requests never fall
//     through to a later route;
//   - users of a service that hashes keep their share of a split, which Istio
//     draws for each request;
//   - what would let in callers who should be refused is not served at all.
//
// docs/reference/istio.md has every field, and a test holds it to fields.go.
//
// Read next: translate.go (the order of things), virtualservice.go and route.go
// (routes), policy.go (DestinationRules), internal/mesh (what comes out).
package istio
