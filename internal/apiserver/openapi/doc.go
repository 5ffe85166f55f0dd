// Package openapi describes the built-in kinds of package apiserver: the
// generated definitions are what server-side apply merges by and what `kubectl
// explain` shows. Nothing else belongs here.
//
// Read next: internal/apiserver/crds/gen, which generates it.
package openapi
