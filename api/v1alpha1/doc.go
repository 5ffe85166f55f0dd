// Package v1alpha1 holds Serin's own API kinds, group serin.dev.
//
// A Release says how a new version of one Deployment reaches its users. The
// types are plain data: they hold no behaviour beyond defaults. The CRD and
// the deep-copy functions are generated from them (make generate), and so is
// docs/reference/release.md, so a field's comment is what users read.
//
// +kubebuilder:object:generate=true
// +groupName=serin.dev
package v1alpha1
