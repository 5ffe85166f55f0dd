package flagger

import (
	"fmt"
	"strings"
	"testing"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/test/story"
)

func decode[T any](t *testing.T, data []byte) *T {
	t.Helper()
	v := new(T)
	if err := yaml.UnmarshalStrict(data, v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Each archive holds a Canary, and records the spec that is made of it and the
// findings. A spec is recorded only where there is no error.
func TestCanariesBecomeReleases(t *testing.T) {
	story.EachArchive(t, "testdata/release/*.txtar", func(t *testing.T, a *txtar.Archive) {
		out := &txtar.Archive{Comment: a.Comment, Files: a.Files[:1]}
		spec, findings := Release(decode[flaggerv1.Canary](t, a.Files[0].Data))
		var text strings.Builder
		failed := false
		for _, f := range findings {
			failed = failed || f.Severity == Error
			fmt.Fprintf(&text, "%s: %s\n", map[Severity]string{Error: "error", Warning: "warning"}[f.Severity], f)
		}
		if len(findings) > 0 {
			out.Files = append(out.Files, txtar.File{Name: "findings", Data: []byte(text.String())})
		}
		if !failed {
			data, err := yaml.Marshal(spec)
			if err != nil {
				t.Fatal(err)
			}
			out.Files = append(out.Files, txtar.File{Name: "release.yaml", Data: data})
		}
		*a = *out
	})
}

// Each archive tells a story: the status of a Release as time goes by
// ("release"), after what of its spec matters ("spec"), a problem with the
// Canary, or when it was deleted, and what the Canary's status says then
// ("canary").
func TestCanariesShowWhatTheirReleasesDo(t *testing.T) {
	story.EachArchive(t, "testdata/status/*.txtar", func(t *testing.T, a *txtar.Archive) {
		out := &txtar.Archive{Comment: a.Comment}
		canary := &flaggerv1.Canary{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: at(t, "2026-11-02T10:00:00Z")}}
		var spec v1alpha1.ReleaseSpec
		for _, f := range a.Files {
			var status flaggerv1.CanaryStatus
			var now func() flaggerv1.CanaryStatus
			switch f.Name {
			case "spec":
				spec = *decode[v1alpha1.ReleaseSpec](t, f.Data)
				out.Files = append(out.Files, f)
				continue
			case "deleted":
				when := at(t, strings.TrimSpace(string(f.Data)))
				canary.DeletionTimestamp = &when
				out.Files = append(out.Files, f)
				continue
			case "release":
				r := &v1alpha1.Release{
					ObjectMeta: metav1.ObjectMeta{CreationTimestamp: at(t, "2026-11-02T10:00:01Z")},
					Spec:       spec,
					Status:     *decode[v1alpha1.ReleaseStatus](t, f.Data),
				}
				now = func() flaggerv1.CanaryStatus { return Status(canary, r, "") }
			case "problem":
				now = func() flaggerv1.CanaryStatus { return Status(canary, nil, strings.TrimSpace(string(f.Data))) }
			default:
				continue // recorded output
			}
			status = now()
			canary.Status = status
			if diff := cmp.Diff(status, now()); diff != "" {
				t.Errorf("the same Release a second time changes the status:\n%s", diff)
			}
			out.Files = append(out.Files, f, txtar.File{Name: "canary", Data: []byte(brief(status))})
		}
		*a = *out
	})
}

func at(t *testing.T, s string) metav1.Time {
	t.Helper()
	var out metav1.Time
	if err := out.UnmarshalJSON([]byte(`"` + s + `"`)); err != nil {
		t.Fatal(err)
	}
	return out
}

func brief(s flaggerv1.CanaryStatus) string {
	clock := func(t metav1.Time) string { return t.UTC().Format("15:04:05") }
	c := s.Conditions[0]
	more := ""
	if s.Iterations > 0 {
		more += fmt.Sprintf(" iterations=%d", s.Iterations)
	}
	if s.SessionAffinityCookie+s.PreviousSessionAffinityCookie != "" {
		more += fmt.Sprintf(" cookie=%q before=%q", s.SessionAffinityCookie, s.PreviousSessionAffinityCookie)
	}
	return fmt.Sprintf("%s %s weight=%d failed=%d applied=%s promoted=%s%s\n%s %s=%s reason=%s: %s\n",
		clock(s.LastTransitionTime), s.Phase, s.CanaryWeight, s.FailedChecks, s.LastAppliedSpec, s.LastPromotedSpec, more,
		clock(c.LastTransitionTime), c.Type, c.Status, c.Reason, c.Message)
}

// For every pair of a step and a maximum the weights are those that Flagger's
// documentation describes: multiples of the step up to the first that reaches
// the maximum, at most 100.
func TestStepsReachTheMaximum(t *testing.T) {
	for step := 1; step <= 100; step++ {
		for limit := 1; limit <= 100; limit++ {
			var fs findings
			got := steps(&flaggerv1.CanaryAnalysis{StepWeight: step, MaxWeight: limit}, "", &fs)
			n := (limit + step - 1) / step
			if len(fs) != 0 || len(got) != n {
				t.Fatalf("steps of %d up to %d: %v, %v; want %d steps", step, limit, got, fs, n)
			}
			for i, w := range got {
				if want := min((i+1)*step, 100); w.IntValue() != want {
					t.Fatalf("steps of %d up to %d: %v; want %d as number %d", step, limit, got, want, i+1)
				}
			}
		}
	}
}

func TestStatusKeepsWhatItDoesNotKnow(t *testing.T) {
	configs := map[string]string{"configmap/reviews": "1234"}
	canary := &flaggerv1.Canary{Status: flaggerv1.CanaryStatus{TrackedConfigs: &configs, PreviousSessionAffinityCookie: "c=1"}}
	got := Status(canary, nil, "")
	if got.TrackedConfigs == nil || (*got.TrackedConfigs)["configmap/reviews"] != "1234" || got.PreviousSessionAffinityCookie != "c=1" {
		t.Errorf("status %+v; want the tracked configs and the cookie kept", got)
	}
	(*got.TrackedConfigs)["configmap/reviews"] = "changed"
	if configs["configmap/reviews"] != "1234" {
		t.Error("the result shares the Canary's map")
	}
}

// A bad edit of a Canary must not hide what its Release still does.
func TestProblemIsShownBesideARunningRelease(t *testing.T) {
	r := &v1alpha1.Release{Status: v1alpha1.ReleaseStatus{
		Phase: "Progressing", Canary: v1alpha1.Version{Revision: "r2"}, Split: v1alpha1.Split{Asked: "10"},
	}}
	got := Status(&flaggerv1.Canary{}, r, "spec.analysis: is missing")
	if got.Phase != flaggerv1.CanaryPhaseProgressing || got.CanaryWeight != 10 || got.Conditions[0].Message != "The Canary as it was before goes on: spec.analysis: is missing" {
		t.Errorf("status %+v; want Progressing at 10 with the problem as message", got)
	}
}

func TestZeroFindingIsAnError(t *testing.T) {
	if (Finding{}).Severity != Error {
		t.Error("a finding without a severity must hold the Canary back")
	}
}

func TestUnreadableJournalIsNoFailedChecks(t *testing.T) {
	r := &v1alpha1.Release{Status: v1alpha1.ReleaseStatus{
		Phase: "Progressing", Canary: v1alpha1.Version{Revision: "r2"},
		Journal: v1alpha1.Raw([]byte(`{"state":[]}`)), Split: v1alpha1.Split{Asked: "10"},
	}}
	if got := Status(&flaggerv1.Canary{}, r, ""); got.FailedChecks != 0 || got.CanaryWeight != 10 {
		t.Errorf("status %+v; want no failed checks and a weight of 10", got)
	}
}
