// Package mesh holds the nouns of the data plane: services, endpoints, routes,
// splits and the Snapshot that carries them to the proxies.
//
// Every dialect (Istio, Gateway API, Consul) is translated into these types,
// and every data plane (our proxy, Envoy) is fed from them. The package
// imports the standard library alone, does no I/O and keeps no state. A
// Snapshot is never changed after it was published.
//
// Read next: internal/translate/istio (who makes snapshots) and
// internal/proxy (who obeys them).
package mesh
