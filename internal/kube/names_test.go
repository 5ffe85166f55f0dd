package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/api/v1alpha1"
)

// What is accepted fits: the longest name that is made of it has 63 characters,
// and one character more is refused.
func TestTheLongestNamesFit(t *testing.T) {
	controlled := true
	for _, story := range []struct {
		name  string
		most  int // of the target's name
		field string
		edit  func(r *v1alpha1.Release, name string)
	}{
		{"a release", 56, "spec.target.name", func(*v1alpha1.Release, string) {}},
		{"kept warm", 54, "spec.target.name", func(r *v1alpha1.Release, _ string) { r.Spec.KeepWarm.Duration = time.Minute }},
		{"another service", 56, "spec.service.name", func(r *v1alpha1.Release, name string) { r.Spec.Target.Name, r.Spec.Service.Name = "a", name }},
		{"a Canary's", 55, "spec.target.name", func(r *v1alpha1.Release, _ string) {
			r.OwnerReferences = []metav1.OwnerReference{{Kind: "Canary", Controller: &controlled}}
		}},
		{"a worker", 56, "spec.target.name", func(r *v1alpha1.Release, _ string) { r.Spec.Service, r.Spec.Strategy = v1alpha1.Service{}, "Replicas" }},
		{"the Release's own", 63, "metadata.name", func(r *v1alpha1.Release, name string) { r.Name, r.Spec.Target.Name = name, "a" }},
	} {
		t.Run(story.name, func(t *testing.T) {
			check := func(n int) error {
				name := strings.Repeat("a", n)
				r := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "r"}}
				r.Spec.Target.Name, r.Spec.Service.Port = name, 80
				story.edit(r, name)
				return CheckNames(r)
			}
			if err := check(story.most); err != nil {
				t.Errorf("%d characters: %v; want them to fit", story.most, err)
			}
			err := check(story.most + 1)
			if most := fmt.Sprintf("to at most %d", story.most); err == nil || !strings.HasPrefix(err.Error(), story.field+": ") || !strings.HasSuffix(err.Error(), most) {
				t.Errorf("%d characters: %v; want %s refused, and %q", story.most+1, err, story.field, most)
			}
		})
	}
}

func TestTheLongestCandidateFits(t *testing.T) {
	x := &v1alpha1.Experiment{ObjectMeta: metav1.ObjectMeta{Name: "trial"}}
	x.Spec.Target.Name = strings.Repeat("a", 50)
	x.Spec.Candidates = []v1alpha1.Candidate{{Name: "ab"}, {Name: "abcdef"}}
	if object := x.Spec.Target.Name + "-trial-abcdef"; len(object) != longest {
		t.Fatalf("%s has %d characters", object, len(object))
	}
	if err := CheckCandidates(x); err != nil {
		t.Errorf("error %v; want none", err)
	}
	x.Spec.Candidates[1].Name += "g"
	if err := CheckCandidates(x); err == nil || !strings.HasSuffix(err.Error(), "by 1") {
		t.Errorf("error %v; want it to be one character too long", err)
	}
}
