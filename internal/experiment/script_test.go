package experiment

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/test/story"
)

// TestScripts plays the stories in testdata, see story.Commands. The commands
// are the methods of player.
func TestScripts(t *testing.T) {
	story.Each(t, "testdata/*.txt", func(t *testing.T, told string) string {
		p := newPlayer(t)
		return story.Commands(told, func(out *strings.Builder, words []string) { p.do(out, words) })
	})
}

// player is a small perfect world around the machine: whatever is wanted is so
// at the next look, unless the script holds it back.
type player struct {
	t             *testing.T
	plan          Plan
	state, stored State
	in            Input
	start         time.Time
	held          map[string]string // what does not follow, and why
	shown         string
}

func newPlayer(t *testing.T) *player {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &player{
		t: t, start: start, held: map[string]string{},
		in: Input{Now: start, Target: "v1"},
		plan: Plan{
			Duration: time.Minute, Deadline: 30 * time.Second,
			Policy: analysis.Policy{FalseAlarm: 0.001, Tolerance: 0.05, Confidence: 0.95, FailureLimit: 1, Interval: 10 * time.Second, LatencyTolerance: 0.05},
		},
	}
}

func (p *player) do(out *strings.Builder, words []string) {
	p.t.Helper()
	args := words[1:]
	switch words[0] {
	case "plan": // plan NAME=SHARE... [duration=D] [metric=M] [warmup=D] [promote]
		p.setPlan(out, args)
	case "hold": // hold NAME|acks|promoted|removed WHY...: it does not follow any more
		p.held[args[0]] = strings.Join(args[1:], " ")
	case "release":
		delete(p.held, args[0])
	case "blocked": // blocked off|WHY...
		p.in.Blocked = strings.TrimPrefix(strings.Join(args, " "), "off")
	case "cancel":
		p.in.Cancel = strings.Join(args, " ")
	case "target": // target REVISION: somebody changes it
		p.in.Target = args[0]
	case "look": // look [times=N] [VERSION=FAILED/ALL[@MS]]...: each second
		p.look(out, args)
	case "crash": // crash [store] [down=D]: the process dies; what was stored is read again
		for _, arg := range args {
			if arg == "store" { // counts were stored a moment before
				p.stored = p.state
				continue
			}
			down, err := time.ParseDuration(strings.TrimPrefix(arg, "down="))
			if err != nil {
				p.t.Fatal(err)
			}
			p.in.Now = p.in.Now.Add(down)
		}
		data, err := json.Marshal(p.stored)
		if err != nil {
			p.t.Fatal(err)
		}
		p.state, p.in.Resumed = State{}, true
		if err := json.Unmarshal(data, &p.state); err != nil {
			p.t.Fatal(err)
		}
	case "clock": // clock back=D, or asleep=D: it is set back, or nobody looks for so long
		key, value, _ := strings.Cut(args[0], "=")
		by, err := time.ParseDuration(value)
		if err != nil {
			p.t.Fatal(err)
		}
		if key == "back" {
			by = -by
		}
		p.in.Now = p.in.Now.Add(by)
	case "versions":
		p.showVersions(out)
	default:
		p.t.Fatalf("unknown command %q", words)
	}
}

func (p *player) setPlan(out *strings.Builder, args []string) {
	p.plan.Candidates = nil
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "duration":
			p.plan.Duration, err = time.ParseDuration(value)
		case "warmup": // as the product has it: and 50 requests
			p.plan.Policy.Warmup, err = time.ParseDuration(value)
			p.plan.Policy.WarmupRequests = 50
		case "metric":
			p.plan.Metric = analysis.Metric(value)
		case "promote":
			p.plan.Promote = true
		default:
			c := Planned{Name: key}
			c.Share, err = rollout.ParseShare(value)
			p.plan.Candidates = append(p.plan.Candidates, c)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	if err := errors.Join(p.plan.Validate(), p.plan.CheckWarmup()); err != nil {
		fmt.Fprintln(out, err)
	}
}

func (p *player) look(out *strings.Builder, args []string) {
	times, sides := 1, map[string]analysis.Side{}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		if key == "times" {
			times, _ = strconv.Atoi(value)
			continue
		}
		sides[key] = p.side(value)
	}
	for range times {
		p.in.Now = p.in.Now.Add(time.Second)
		p.observe(sides)
		next, events := Step(p.plan, p.state, p.in)
		p.in.Resumed = false
		p.check(next)
		for _, e := range events {
			mark := "-"
			if e.Warning {
				mark = "!"
			}
			fmt.Fprintf(out, "%s %s %s: %s\n", p.clock(p.in.Now), mark, e.Reason, e.Message)
		}
		p.show(out, next)
		if p.state.MustWrite(next) {
			p.stored = next
		}
		p.state = next
	}
}

func (p *player) side(text string) analysis.Side {
	counts, ms, timed := strings.Cut(text, "@")
	var s analysis.Side
	if _, err := fmt.Sscanf(counts, "%d/%d", &s.Failures, &s.Requests); err != nil {
		p.t.Fatalf("%q: %v", text, err)
	}
	base := 20.0
	if timed {
		var err error
		if base, err = strconv.ParseFloat(ms, 64); err != nil {
			p.t.Fatal(err)
		}
	}
	for i := range s.Requests { // spread from three quarters to five quarters
		part := (float64(i) + 0.5) / float64(s.Requests)
		s.Latency.Observe(time.Duration(base * (0.75 + 0.5*part) * float64(time.Millisecond)))
	}
	return s
}

// observe is what the world does after the stored state.
func (p *player) observe(sides map[string]analysis.Side) {
	want := p.state.Want()
	why := func(what string) (string, bool) { w, ok := p.held[what]; return w, ok }
	p.in.Unacked = p.held["acks"]
	_, promoted := why("promoted")
	_, removed := why("removed")
	p.in.Removed = !removed && !slices.Contains(want.Pods, true)
	p.in.Promoted = want.Promote != "" && !promoted
	p.in.Candidates = make([]Observed, len(p.plan.Candidates))
	for i, c := range p.plan.Candidates {
		o := &p.in.Candidates[i]
		message, held := why(c.Name)
		o.Message = "its pods are not ready"
		if held {
			o.Message = message
		}
		o.Ready = !held && i < len(want.Pods) && want.Pods[i]
		if want.Shares != nil && want.Shares[i] > 0 {
			side, stable := sides[c.Name], sides[Stable]
			o.Samples = analysis.Samples{
				Counts: analysis.Counts{
					CanaryRequests: side.Requests, CanaryFailures: side.Failures,
					StableRequests: stable.Requests, StableFailures: stable.Failures,
				},
				CanaryLatency: side.Latency, StableLatency: stable.Latency,
			}
		}
	}
}

// check holds what is true of every step.
func (p *player) check(next State) {
	p.t.Helper()
	checkStep(p.t, p.plan, p.state, next, p.in)
}

func (p *player) clock(at time.Time) string {
	d := at.Sub(p.start)
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// show prints a state where it is another one than what was shown.
func (p *player) show(out *strings.Builder, s State) {
	line := fmt.Sprintf("%s%s: %s", s.Phase, sharesOf(s), s.Reason)
	if !s.Deadline.IsZero() {
		line += " [until " + p.clock(s.Deadline) + "]"
	}
	if line != p.shown {
		p.shown = line
		fmt.Fprintln(out, p.clock(p.in.Now), line)
	}
}

func sharesOf(s State) string {
	shares := s.Want().Shares
	if shares == nil {
		return ""
	}
	text := ", stable " + left(shares).String()
	for i, c := range s.Candidates {
		text += ", " + c.Name + " " + shares[i].String()
	}
	return text
}

func (p *player) showVersions(out *strings.Builder) {
	row := func(name string, s analysis.Side, text string) {
		fmt.Fprintf(out, "%s: %d of %d failed, p50 %v%s\n", name, s.Failures, s.Requests, s.Latency.Quantile(0.5).Round(time.Millisecond), text)
	}
	row(Stable, p.state.Stable, "")
	for _, c := range p.state.Candidates {
		row(c.Name, c.Seen, fmt.Sprintf("; %s: %s", c.Evidence.Verdict, c.Evidence.Reason))
	}
}
