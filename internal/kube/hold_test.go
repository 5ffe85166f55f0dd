package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestFinalizersLeaveThoseOfOthers(t *testing.T) {
	for _, c := range []struct {
		have []string
		on   bool
		want []string
	}{
		{nil, true, []string{targetFinalizer}},
		{[]string{"a", "b"}, true, []string{"a", "b", targetFinalizer}},
		{[]string{"a", targetFinalizer, "b"}, true, []string{"a", "b", targetFinalizer}},
		{[]string{"a", targetFinalizer, "b"}, false, []string{"a", "b"}},
		{[]string{targetFinalizer}, false, []string{}},
	} {
		o := &metav1.ObjectMeta{Finalizers: c.have, ResourceVersion: "7"}
		want := map[string]any{"metadata": map[string]any{"finalizers": c.want, "resourceVersion": "7"}}
		if diff := cmp.Diff(want, finalizers(o, targetFinalizer, c.on)); diff != "" {
			t.Errorf("%v, %v (-want +got):\n%s", c.have, c.on, diff)
		}
	}
}
