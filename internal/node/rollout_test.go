package node

import (
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kubectl/pkg/util/podutils"

	"serin.dev/serin/test/story"
)

// TestRollouts plays stories about one Deployment. A line is a command; the
// indented lines after it are what followed, recorded with -rewrite.
//
//	deploy replicas=3 maxSurge=1 ...   make or change the Deployment
//	ready [version] [n]                n pods (all) that start become ready
//	unready version [n]                n ready pods become unready
//	gone [n]                           n ending pods (all) are gone
//	wait duration                      time passes
func TestRollouts(t *testing.T) {
	story.Each(t, "testdata/rollout/*.txt", func(t *testing.T, told string) string {
		sim := newSimulation()
		var got strings.Builder
		for line := range strings.Lines(told) {
			if strings.HasPrefix(line, "  ") {
				continue
			}
			got.WriteString(line)
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := sim.do(strings.Fields(line)); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			for _, said := range sim.settle(t) {
				fmt.Fprintf(&got, "  %s\n", said)
			}
		}
		return got.String()
	})
}

// simulation plays API and kubelet for the planner.
type simulation struct {
	now    time.Time
	d      *appsv1.Deployment
	pods   []*corev1.Pod
	serial int
}

func newSimulation() *simulation {
	zero := int32(0)
	return &simulation{
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		d:   &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "music", UID: "d"}, Spec: appsv1.DeploymentSpec{Replicas: &zero}},
	}
}

func (s *simulation) do(words []string) error {
	version, n := "", len(s.pods)
	for _, w := range words[1:] {
		if i, err := strconv.Atoi(w); err == nil {
			n = i
		} else if strings.HasPrefix(w, "v") {
			version = w
		}
	}
	switch words[0] {
	case "deploy":
		return s.deploy(words[1:])
	case "wait":
		d, err := time.ParseDuration(words[1])
		s.now = s.now.Add(d)
		return err
	case "ready", "unready":
		want := words[0] == "ready"
		for _, o := range s.pods {
			if n > 0 && o.DeletionTimestamp == nil && podutils.IsPodReady(o) != want && (version == "" || o.Labels["version"] == version) {
				s.setReady(o, want)
				n--
			}
		}
	case "gone":
		s.pods = slices.DeleteFunc(s.pods, func(o *corev1.Pod) bool {
			gone := o.DeletionTimestamp != nil && n > 0
			if gone {
				n--
			}
			return gone
		})
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

func (s *simulation) deploy(settings []string) error {
	spec := &s.d.Spec
	before := spec.DeepCopy()
	if spec.Strategy.RollingUpdate == nil {
		spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
	}
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		n, err := strconv.Atoi(value)
		number := int32(n)
		amount := intstr.Parse(value)
		switch key {
		case "version":
			spec.Template.Labels = map[string]string{"version": value}
			err = nil
		case "strategy":
			spec.Strategy.Type = appsv1.DeploymentStrategyType(value)
			err = nil
		case "paused":
			spec.Paused = value == "true"
			err = nil
		case "maxSurge":
			spec.Strategy.RollingUpdate.MaxSurge = &amount
			err = nil
		case "maxUnavailable":
			spec.Strategy.RollingUpdate.MaxUnavailable = &amount
			err = nil
		case "replicas":
			spec.Replicas = &number
		case "minReadySeconds":
			spec.MinReadySeconds = number
		case "deadline":
			spec.ProgressDeadlineSeconds = &number
		default:
			return fmt.Errorf("unknown setting %s", key)
		}
		if err != nil {
			return err
		}
	}
	if !cmp.Equal(before, spec) {
		s.d.Generation++
	}
	return nil
}

func (s *simulation) setReady(o *corev1.Pod, ready bool) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	o.Status.Phase = corev1.PodRunning
	o.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(s.now)}}
}

// step does what the planner says, and reports whether that was anything.
func (s *simulation) step() (plan, bool) {
	p := planDeployment(s.d, s.pods, s.now)
	for range p.create {
		o := podFor(s.d, "here")
		s.serial++
		o.Name = fmt.Sprintf("%s-%d", o.Labels["version"], s.serial)
		o.UID = types.UID(o.Name)
		o.CreationTimestamp = metav1.NewTime(s.now)
		s.pods = append(s.pods, o)
	}
	for _, o := range p.remove {
		at := metav1.NewTime(s.now)
		o.DeletionTimestamp = &at
	}
	status, _ := deploymentStatus(s.d, s.pods, nil, s.now)
	s.d.Status = status
	return p, p.create > 0 || len(p.remove) > 0
}

// settle steps until nothing is left to do, and tells what was done and the
// status in the end.
func (s *simulation) settle(t *testing.T) []string {
	t.Helper()
	var said []string
	for range 100 {
		p, acted := s.step()
		if !acted {
			st := s.d.Status
			conditions := ""
			for _, c := range st.Conditions {
				conditions += fmt.Sprintf(" %s=%s(%s)", c.Type, c.Status, c.Reason)
			}
			return append(said, fmt.Sprintf("= replicas %d updated %d ready %d available %d unavailable %d%s",
				st.Replicas, st.UpdatedReplicas, st.ReadyReplicas, st.AvailableReplicas, st.UnavailableReplicas, conditions))
		}
		if p.create > 0 {
			said = append(said, fmt.Sprintf("create %d of %s", p.create, s.d.Spec.Template.Labels["version"]))
		}
		for _, o := range p.remove {
			said = append(said, "remove "+o.Name)
		}
	}
	t.Fatal("the planner never settles")
	return nil
}

// Whatever happens to pods while a Deployment changes, a plan keeps its
// limits, and in the end the Deployment is complete.
func TestARolloutKeepsItsLimitsInAnyOrderOfEvents(t *testing.T) {
	for seed := range int64(150) {
		r := rand.New(rand.NewSource(seed))
		s := newSimulation()
		s.d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		for range 60 {
			randomEvent(r, s)
			desired := replicas(s.d)
			surge, unavailable := fenceposts(s.d)
			before := tally(s.d, s.pods, s.now)
			total := len(before.old) + len(before.updated)
			p, _ := s.step()
			if p.create > burst || len(p.remove) > burst {
				t.Fatalf("seed %d: a step makes %d pods and deletes %d; at most %d are allowed", seed, p.create, len(p.remove), burst)
			}
			after := tally(s.d, s.pods, s.now)
			if got, limit := len(after.old)+len(after.updated), max(total, desired+surge); got > limit {
				t.Fatalf("seed %d: %d pods; at most %d are allowed", seed, got, limit)
			}
			if got, limit := after.available, min(before.available, desired-unavailable); got < limit {
				t.Fatalf("seed %d: %d available pods, %d before; the plan must leave %d", seed, got, before.available, limit)
			}
		}
		finish(t, seed, s)
	}
}

func randomEvent(r *rand.Rand, s *simulation) {
	percent := func() string { return []string{"0", "1", "2", "25%", "50%", "100%"}[r.Intn(6)] }
	n := strconv.Itoa(1 + r.Intn(2))
	var words []string
	switch r.Intn(8) {
	case 0:
		words = []string{"deploy", fmt.Sprintf("version=v%d", r.Intn(4))}
	case 1:
		words = []string{"deploy", fmt.Sprintf("replicas=%d", r.Intn(6)*(1+5*r.Intn(2))), "maxSurge=" + percent(), "maxUnavailable=" + percent()}
	case 2, 3, 4:
		words = []string{"ready", n}
	case 5:
		words = []string{"unready", n}
	case 6:
		words = []string{"gone"}
	case 7:
		words = []string{"wait", "7s"}
	}
	if err := s.do(words); err != nil {
		panic(err)
	}
}

// finish lets every pod become ready and checks that the rollout completes.
func finish(t *testing.T, seed int64, s *simulation) {
	t.Helper()
	for range 100 {
		for _, words := range [][]string{{"ready"}, {"gone"}, {"wait", "60s"}} {
			if err := s.do(words); err != nil {
				t.Fatal(err)
			}
		}
		if _, acted := s.step(); !acted {
			break
		}
	}
	c := tally(s.d, s.pods, s.now)
	if len(c.old) != 0 || len(c.updated) != replicas(s.d) || c.available != replicas(s.d) {
		t.Fatalf("seed %d: ends with %d old and %d updated pods, %d available; want %d updated ones", seed, len(c.old), len(c.updated), c.available, replicas(s.d))
	}
}
