// Package argo converts the objects of Argo Rollouts (argoproj.io/v1alpha1) into
// what Serin works with: a Rollout into a Deployment and a Release, the metrics
// of AnalysisTemplates into MetricTemplates and checks. It is used once, by
// people who move; nothing in a running Serin knows these kinds.
//
// Convert is a pure function from YAML to YAML. Every field that is set is
// either converted or in a note with the reason: what nobody has read is found
// at the end (see node), so that nothing gets lost silently.
//
// Field names and rules are those of Argo Rollouts 1.8 (argo-rollouts.readthedocs.io).
//
// Read next: convert.go, docs/argo.md.
package argo
