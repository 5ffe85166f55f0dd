// Package apiserver serves a Kubernetes-compatible API from one process.
//
// It is what stands in for a cluster when there is none: kubectl, Flagger, and
// Serin's own controllers speak to it exactly as to kube-apiserver. It holds
// the few built-in kinds that a release touches (Namespace, Pod, Service,
// Deployment and so on, listed in resources.go), the CustomResourceDefinitions
// of package crds, and any further CRD a user applies. Objects live in an
// etcd inside this process, which listens nowhere and syncs to the data directory
// before a write is answered, or in an etcd cluster of the user's.
//
// Two controllers that belong to the API itself run here, because clients rely
// on what they do as part of "delete": the garbage collector follows
// ownerReferences (gc.go) and the namespace sweeper empties a namespace before
// it goes (sweep.go). Everything else that acts on objects, running pods above
// all, is somebody else's.
//
// Who may do what: there is no RBAC. The token in the kubeconfig belongs to
// system:masters and may do everything; the file is readable by its owner
// alone. Requests without a token are refused, except for /healthz, /livez,
// /readyz and /version.
//
// The package must never decide anything about releases or traffic, and must
// not know the dialects: validation that needs such knowledge comes in through
// Config.Admit.
//
// What differs from a cluster: OpenAPI describes kinds in version 3 only (kubectl
// 1.27 or newer), there is no watch cache (a watch reads etcd directly, which
// is faster and smaller for the handful of watchers one machine has), and
// kinds that nothing here would act on (ReplicaSet, Job, Node, ...) are absent
// rather than accepted and ignored.
//
// Read next: server.go for the order in which the parts are put together,
// resources.go for the table of kinds.
package apiserver
