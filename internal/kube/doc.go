// Package kube is the one door to a Kubernetes API, embedded or a cluster's:
// typed reads and watches come in, writes go out.
//
// It speaks the product's nouns to its callers (Workload, Route, Release), so
// that controllers hold no Kubernetes types beyond those of package api. It
// decides nothing.
package kube
