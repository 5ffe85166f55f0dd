package rollout

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/analysis"
)

var rewrite = flag.Bool("rewrite", false, "record the output of the scripts in testdata")

// TestScripts plays the stories in testdata. A story is a text of blocks:
//
//	# why this matters
//	command args
//	----
//	what happened
//
// separated by empty lines. The commands are the methods of player.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts found: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-recorded +now; -rewrite records):\n%s", file, diff)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	t.Helper()
	p := newPlayer(t)
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(script), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		head, _, _ := strings.Cut(block+"\n", "----\n")
		out.WriteString(head)
		var result strings.Builder
		commands := false
		for line := range strings.Lines(head) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			commands = true
			p.do(&result, strings.Fields(line))
		}
		if commands {
			out.WriteString("----\n" + result.String())
		}
	}
	return out.String()
}

// foreign is why acks do not follow after somebody else wrote the route.
const foreign = "foreign edit"

// player is a small perfect world around the machine: whatever is wanted is so
// at the next look, unless the script holds it back.
type player struct {
	t      *testing.T
	plan   Plan
	stored State // what survives a crash
	state  State
	start  time.Time
	in     Input
	holds  map[string]string // acks, canary, stable: why they do not follow
	shown  string
}

func newPlayer(t *testing.T) *player {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &player{t: t, start: start, holds: map[string]string{}}
	p.in.Now = start
	p.plan = Plan{
		Steps: []Share{10 * Percent, 25 * Percent, 50 * Percent}, Hold: 10 * time.Second, Deadline: time.Minute,
		Policy: analysis.Policy{
			FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, FailureLimit: 1, Interval: 10 * time.Second,
		},
	}
	return p
}

func (p *player) do(out *strings.Builder, words []string) {
	p.t.Helper()
	args := words[1:]
	switch words[0] {
	case "plan":
		p.setPlan(out, args)
	case "target": // target REVISION|none: the user changes the workload
		p.in.Target.Revision = Revision(strings.TrimPrefix(args[0], "none"))
	case "hold": // hold acks|canary|stable WHY...: it does not follow any more
		p.holds[args[0]] = strings.Join(args[1:], " ")
	case "release": // release acks|canary|stable
		delete(p.holds, args[0])
	case "suspend":
		p.in.Suspended = args[0] == "on"
	case "command": // command VERB ID [REASON...]
		p.in.Command = Command{Verb: Verb(args[0]), ID: args[1], Reason: strings.Join(args[2:], " ")}
	case "hook": // hook NAME: it failed
		p.in.FailedHooks = append(p.in.FailedHooks, "webhook "+args[0]+" failed")
	case "share": // share N: somebody else writes the route
		p.in.Ack = Ack{OK: true, Traffic: Traffic{Share: p.share(args[0])}, Since: p.in.Now}
		p.holds["acks"] = foreign
	case "copy": // copy REVISION: a stable copy exists already
		p.in.Stable = Workload{Revision: Revision(args[0]), Ready: true}
	case "look": // look [after=D] [times=N] [canary=FAILED/ALL] [stable=FAILED/ALL] [ms=N] [live=N]
		p.look(out, args)
	case "crash": // crash [lost]: the process dies; what was stored is read again, or was lost
		if len(args) > 0 {
			p.stored, p.in.Ack = State{}, Ack{}
		}
		p.crash()
	case "run": // what the history would say
		p.showRun(out)
	case "evidence":
		p.showEvidence(out)
	default:
		p.t.Fatalf("unknown command %q", words)
	}
}

func (p *player) number(s string) int64 {
	p.t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// share reads a number of percent, right or wrong.
func (p *player) share(s string) Share {
	p.t.Helper()
	percent, err := strconv.ParseFloat(s, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return Share(math.Round(percent * float64(Percent)))
}

func (p *player) duration(s string) time.Duration {
	p.t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

func (p *player) setPlan(out *strings.Builder, args []string) {
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		percent := func() *float64 {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return &f
		}
		switch key {
		case "steps":
			p.plan.Steps = nil
			for s := range strings.SplitSeq(value, ",") {
				p.plan.Steps = append(p.plan.Steps, p.share(s))
			}
		case "hold":
			p.plan.Hold = p.duration(value)
		case "deadline":
			p.plan.Deadline = p.duration(value)
		case "tolerance":
			p.plan.Policy.Tolerance = *percent() / 100
		case "limit":
			p.plan.Policy.FailureLimit = int(p.number(value))
		case "success-rate":
			p.plan.Policy.Checks = append(p.plan.Policy.Checks, analysis.Check{Metric: analysis.SuccessRate, Min: percent()})
		case "duration-p99":
			p.plan.Policy.Checks = append(p.plan.Policy.Checks, analysis.Check{Metric: analysis.DurationP99, Max: percent()})
		default:
			p.t.Fatalf("unknown plan field %q", key)
		}
	}
	if err := p.plan.Validate(); err != nil {
		fmt.Fprintln(out, err)
	}
}

// observe fills in what follows from the world.
func (p *player) observe() {
	want := p.stored.Want()
	in := &p.in
	in.Target.Ready, in.Target.Message = want.CanaryScaled && in.Target.Revision != "", ""
	if why, held := p.holds["canary"]; held {
		in.Target.Ready, in.Target.Message = false, why
	}
	if why, held := p.holds["stable"]; held {
		in.Stable.Ready, in.Stable.Message = false, why
		if want.StableRevision != "" {
			in.Stable.Revision = want.StableRevision
		}
	} else if want.StableRevision != "" {
		in.Stable = Workload{Revision: want.StableRevision, Ready: true}
	}
	if why, held := p.holds["acks"]; held && why != foreign && in.Ack.Traffic != want.Traffic {
		in.Ack = Ack{} // the route was written and one proxy does not answer
	} else if !held && want.Split && (!in.Ack.OK || in.Ack.Traffic != want.Traffic) {
		in.Ack = Ack{OK: true, Traffic: want.Traffic, Since: in.Now.Add(-100 * time.Millisecond)}
	}
}

func (p *player) look(out *strings.Builder, args []string) {
	after, times := time.Second, int64(1)
	var samples analysis.Samples
	live := int64(-1)
	latency := 10 * time.Millisecond
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		failed, all, _ := strings.Cut(value, "/")
		switch key {
		case "after":
			after = p.duration(value)
		case "times":
			times = p.number(value)
		case "canary":
			samples.CanaryFailures, samples.CanaryRequests = p.number(failed), p.number(all)
		case "stable":
			samples.StableFailures, samples.StableRequests = p.number(failed), p.number(all)
		case "ms":
			latency = time.Duration(p.number(value)) * time.Millisecond
		case "live":
			live = p.number(value)
		default:
			p.t.Fatalf("unknown argument %q", arg)
		}
	}
	for range samples.CanaryRequests {
		samples.CanaryLatency.Observe(latency)
	}
	for range times {
		p.in.Now = p.in.Now.Add(after)
		p.observe()
		p.in.Samples = samples
		p.in.Arrived = max(samples.Requests(), live)
		p.in.Served = max(samples.StableRequests, live)
		if samples.CanaryRequests > 0 && p.in.FirstCanary.IsZero() {
			p.in.FirstCanary = p.in.Now
		}
		next, events := Step(p.plan, p.state, p.in)
		checkStep(p.t, p.plan, p.state, next, p.in, events)
		p.in.FailedHooks = nil
		if next.Run.Number != p.state.Run.Number {
			p.in.FirstCanary = time.Time{}
		}
		if p.state.MustWrite(next) {
			p.stored = next
		}
		p.state = next
		p.show(out, events)
	}
}

func (p *player) clock() string {
	d := p.in.Now.Sub(p.start)
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// show prints events, and the state when it changed by more than numbers.
func (p *player) show(out *strings.Builder, events []Event) {
	for _, e := range events {
		mark := "-"
		if e.Warning {
			mark = "!"
		}
		fmt.Fprintf(out, "%s %s %s: %s\n", p.clock(), mark, e.Reason, e.Message)
	}
	w := p.state.Want()
	line := fmt.Sprintf("%s, canary %v", p.state.Phase, w.Traffic.Share)
	if w.StableRevision != "" {
		line += ", stable " + string(w.StableRevision)
	}
	if !w.Split {
		line += ", traffic untouched"
	}
	if !w.CanaryScaled {
		line += ", canary scaled away"
	}
	line += ": " + p.state.Reason
	if !p.state.Deadline.IsZero() {
		line += fmt.Sprintf(" [until %02d:%02d]", int(p.state.Deadline.Sub(p.start).Minutes()), int(p.state.Deadline.Sub(p.start).Seconds())%60)
	}
	// Numbers alone are progress, not news.
	shape := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' {
			return -1
		}
		return r
	}, line)
	if shape == p.shown && len(events) == 0 {
		return
	}
	p.shown = shape
	fmt.Fprintf(out, "%s %s\n", p.clock(), line)
}

func (p *player) crash() {
	data, err := json.Marshal(p.stored)
	if err != nil {
		p.t.Fatal(err)
	}
	p.state = State{}
	if err := json.Unmarshal(data, &p.state); err != nil {
		p.t.Fatal(err)
	}
	p.stored = p.state
}

func (p *player) showRun(out *strings.Builder) {
	r := p.state.Run
	fmt.Fprintf(out, "run %d: %s → %s %s: %s\n", r.Number, r.From, r.To, r.Outcome, r.Reason)
	fmt.Fprintf(out, "canary %d/%d stable %d/%d", r.Counts.CanaryFailures, r.Counts.CanaryRequests, r.Counts.StableFailures, r.Counts.StableRequests)
	if !r.FirstCanary.IsZero() && !r.Decided.IsZero() {
		fmt.Fprintf(out, ", decided after %v", r.Decided.Sub(r.FirstCanary))
	}
	if !r.Effective.IsZero() {
		fmt.Fprintf(out, ", effective after %v", r.Effective.Sub(r.Decided))
	}
	fmt.Fprintln(out)
}

func (p *player) showEvidence(out *strings.Builder) {
	e := p.state.Evidence
	fmt.Fprintf(out, "%v, e-value %.3g of %.3g, must exclude %.3g, excluded %.3g, needed %d: %s\n",
		e.Verdict, exp(e.LogE), 1/e.FalseAlarm, e.Delta, e.Excluded, e.Needed, e.Reason)
}
