package kube

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"serin.dev/serin/api/v1alpha1"
)

func TestTwoReleasesShareWhatBothWouldWrite(t *testing.T) {
	f := func(target, service, want string) {
		t.Helper()
		music := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Target: v1alpha1.Target{Name: "music"}}}
		other := &v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{
			Target: v1alpha1.Target{Name: target}, Service: v1alpha1.Service{Name: service},
		}}
		for _, pair := range [][2]*v1alpha1.Release{{music, other}, {other, music}} {
			if got := shared(NamesOf(pair[0]), NamesOf(pair[1])); got != want {
				t.Errorf("target %s, service %q: share %q, want %q", target, service, got, want)
			}
		}
	}
	f("music", "", "deployment music")
	f("music", "songs", "deployment music")
	f("music-stable", "", "deployment music-stable")
	f("user", "music", "service music")
	f("user", "music-canary", "service music-canary")
	f("user", "", "")
	f("music-v2", "", "")
}

// The order must be the same whoever asks, or two Releases would both yield, or
// both go on.
func TestAReleaseThatWasBegunKeepsItsObjects(t *testing.T) {
	at := func(name string, second int64, begun bool) *v1alpha1.Release {
		r := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(second, 0)}}
		if begun {
			r.Status.Journal = v1alpha1.Raw([]byte("{}"))
		}
		return r
	}
	f := func(first, second *v1alpha1.Release) {
		t.Helper()
		if earlier(first, second) >= 0 || earlier(second, first) <= 0 {
			t.Errorf("%s does not come before %s", first.Name, second.Name)
		}
	}
	f(at("b", 1, false), at("a", 2, false)) // the older one
	f(at("a", 1, false), at("b", 1, false)) // of the same second: by name
	f(at("b", 1, true), at("a", 1, false))  // but the one that was begun
}

func TestTheStableCopyIsToldFromAnotherDeployment(t *testing.T) {
	yes := true
	canary := []metav1.OwnerReference{{Kind: "Canary", Name: "reviews", UID: types.UID("c"), Controller: &yes}}
	f := func(owners []metav1.OwnerReference, dep appsv1.Deployment, want bool) {
		t.Helper()
		r := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "reviews", UID: "r", OwnerReferences: owners, CreationTimestamp: metav1.NewTime(time.Unix(1, 0))}}
		if got := isCopyOf(r, &dep); got != want {
			t.Errorf("labels %v, owners %v: %v, want %v", dep.Labels, dep.OwnerReferences, got, want)
		}
	}
	labelled := func(release string) appsv1.Deployment {
		return appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{LabelRelease: release}}}
	}
	f(nil, labelled("reviews"), true)
	f(nil, labelled("ratings"), false)
	f(nil, appsv1.Deployment{}, false)
	// The copy of another kind's, with our label; and one whose Release was another
	// object of the same name.
	labelledAs := func(kind string) appsv1.Deployment {
		dep := labelled("reviews")
		dep.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: "reviews", UID: "old", Controller: &yes}}
		return dep
	}
	f(nil, labelledAs("Helm"), false)
	f(nil, labelledAs("Release"), true)
	// Somebody took its label away.
	unlabelled := labelledAs("Release")
	unlabelled.Labels, unlabelled.OwnerReferences[0].UID = nil, "r"
	f(nil, unlabelled, true)
	unlabelled.OwnerReferences[0].UID = "another"
	f(nil, unlabelled, false)
	// Flagger's own primary is taken over with its Canary.
	primary := appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{OwnerReferences: canary}}
	f(canary, primary, true)
	f(nil, primary, false)
}
