package kube

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// Who declares replicas will say them again; who scales does not.
func TestADeclarationIsToldFromScaling(t *testing.T) {
	f := func(what, managers, want string, wantClaimed bool) {
		t.Helper()
		dep := read[appsv1.Deployment](t, "metadata: {name: music, managedFields: ["+managers+"]}")
		if got := declarer(dep); got != want || claimed(dep) != wantClaimed {
			t.Errorf("%s: declared by %q, claimed %t; want %q, %t", what, got, claimed(dep), want, wantClaimed)
		}
	}
	const replicas, template = "fieldsV1: {'f:spec': {'f:replicas': {}}}", "fieldsV1: {'f:spec': {'f:template': {}}}"
	f("nobody", "", "", false)
	f("a repository", "{manager: gitops, operation: Apply, "+replicas+"}", "gitops", false)
	f("kubectl apply", "{manager: kubectl-client-side-apply, operation: Update, "+replicas+"}", "kubectl-client-side-apply", false)
	f("kubectl scale", "{manager: kubectl, operation: Update, subresource: scale, "+replicas+"}", "", false)
	f("a repository that leaves them out", "{manager: gitops, operation: Apply, "+template+"}", "", false)
	f("Serin", "{manager: serin, operation: Update, "+replicas+"}", "", true)
	f("what counts Serin's pods", "{manager: serin, operation: Update, subresource: status, fieldsV1: {}}", "", false)
	f("without fields", "{manager: gitops, operation: Apply}", "", false)
}
