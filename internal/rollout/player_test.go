package rollout

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/analysis"
)

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
	hooks  map[string]string // what a hook answers: yes (if not said), silent, or why not
	made   map[string]bool   // calls, by ID
	shown  string
}

func newPlayer(t *testing.T) *player {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &player{t: t, start: start, holds: map[string]string{}, hooks: map[string]string{}, made: map[string]bool{}}
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
	case "command": // command VERB ID [by=WHO] [gate=NAME] [REASON...]
		p.command(args)
	case "approve", "reject": // approve GATE WHO [ID]: the same answer is never given twice
		a := Approval{Gate: args[0], By: args[1], At: p.in.Now, Reject: words[0] == "reject", ID: fmt.Sprint("answer-", len(p.in.Approvals)+1)}
		if len(args) > 2 {
			a.ID = args[2]
		}
		p.in.Approvals = append(p.in.Approvals, a)
	case "answers": // answers HOOK yes|silent|WHY NOT...
		p.hooks[args[0]] = strings.Join(args[1:], " ")
	case "freeze": // freeze off|REASON...
		p.in.Frozen = strings.TrimPrefix(strings.Join(args, " "), "off")
	case "pause": // pause off|WHO AND HOW IT GOES ON...
		p.in.Paused = strings.TrimPrefix(strings.Join(args, " "), "off")
	case "block": // block off|WHAT...
		p.in.Blocked = strings.TrimPrefix(strings.Join(args, " "), "off")
	case "depends": // depends none|NAMES...: on releases that are not promoted
		p.in.DependsOn = slices.DeleteFunc(args, func(s string) bool { return s == "none" })
	case "member": // member NAME STANDING [WHY...]: another of the set; its run began and was decided now
		p.member(args)
	case "pods": // pods canary=READY/WANTED stable=READY/WANTED warm=ready all=N
		p.pods(args)
	case "scale": // scale canary away|back: somebody takes all of its pods
		p.in.Target.ScaledAway = args[1] == "away"
	case "clock": // clock TIME: it is that late, now that nothing happened
		at, err := time.Parse("2006-01-02T15:04", args[0])
		if err != nil {
			p.t.Fatal(err)
		}
		p.in.Now, p.start = at, at
	case "share": // share N: somebody else writes the route
		p.in.Ack = Ack{OK: true, Traffic: Traffic{Share: p.share(args[0])}, Since: p.in.Now}
		p.holds["acks"] = foreign
	case "copy": // copy REVISION: a stable copy exists already
		p.in.Stable = Workload{Revision: Revision(args[0]), Ready: true}
	case "look": // look [after=D] [times=N] [canary=FAILED/ALL] [stable=FAILED/ALL] [own-canary=FAILED/ALL] [own-stable=FAILED/ALL] [ms=N] [live=N] [value=N|error]; own load comes while it is wanted
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

func (p *player) command(args []string) {
	c := Command{Verb: Verb(args[0]), ID: args[1]}
	for _, arg := range args[2:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "by":
			c.By = value
		case "gate":
			c.Gate = value
		default:
			c.Reason = strings.TrimSpace(c.Reason + " " + arg)
		}
	}
	p.in.Command = c
}

func (p *player) member(args []string) {
	m := Member{Name: args[0], Standing: Standing(args[1]), Why: strings.Join(args[2:], " ")}
	i := slices.IndexFunc(p.in.Set, func(o Member) bool { return o.Name == m.Name })
	if i < 0 {
		i = len(p.in.Set)
		p.in.Set = append(p.in.Set, Member{})
	}
	m.Started = p.in.Set[i].Started
	if m.Standing == Behind {
		m.Started = p.in.Now
	}
	if m.Standing == Failed {
		m.Decided = p.in.Now.Add(time.Millisecond) // after what was decided at the last look
	}
	p.in.Set[i] = m
}

func (p *player) pods(args []string) {
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		ready, wanted, _ := strings.Cut(value, "/")
		switch key {
		case "canary":
			p.in.Target.Pods, p.in.Target.Wanted = int32(p.number(ready)), int32(p.number(wanted))
		case "stable":
			p.in.Stable.Pods, p.in.Stable.Wanted = int32(p.number(ready)), int32(p.number(wanted))
		case "all":
			p.in.Pods = int32(p.number(value))
		default:
			p.t.Fatalf("unknown argument %q", arg)
		}
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
	plan := &p.plan
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "strategy":
			plan.Strategy = Strategy(value)
		case "steps":
			plan.Steps = p.shares(value)
		case "promotion":
			plan.PromotionSteps = p.shares(value)
		case "abort":
			plan.AbortSteps = p.shares(value)
		case "mirror":
			plan.Mirror = p.share(value)
		case "iterations":
			plan.Iterations = int(p.number(value))
		case "worker":
			plan.Worker = value == "on"
		case "skip":
			plan.Skip = value == "on"
		case "hold":
			plan.Hold = p.duration(value)
		case "abort-hold":
			plan.AbortHold = p.duration(value)
		case "keep-warm":
			plan.KeepWarm = p.duration(value)
		case "deadline":
			plan.Deadline = p.duration(value)
		case "load": // load=RATE[:UPTO]
			rate, upTo, _ := strings.Cut(value+":0", ":")
			plan.Load = Load{Rate: float64(p.number(rate)), UpTo: p.number(strings.TrimSuffix(upTo, ":0"))}
		case "step-deadline":
			plan.StepDeadline = p.duration(value)
		case "hook": // hook=TYPE:NAME[:EXPIRES]
			parts := append(strings.Split(value, ":"), "0s")
			plan.Hooks = append(plan.Hooks, Hook{Type: HookType(parts[0]), Name: parts[1], Expires: p.duration(parts[2])})
		case "gate":
			plan.Gates = append(plan.Gates, p.gate(value))
		default:
			p.setPolicy(key, value)
		}
	}
	if err := plan.Validate(); err != nil {
		fmt.Fprintln(out, err)
	}
}

func (p *player) setPolicy(key, value string) {
	policy := &p.plan.Policy
	switch key {
	case "interval":
		policy.Interval = p.duration(value)
		return
	case "warm-up":
		policy.Warmup = p.duration(value)
		return
	case "check": // check=METRIC:LEAST:SEVERITY, of a provider
		parts := strings.Split(value, ":")
		least := float64(p.number(parts[1]))
		c := analysis.Check{Metric: analysis.Metric(parts[0]), External: true, Min: &least}
		if err := c.Severity.UnmarshalText([]byte(parts[2])); err != nil {
			p.t.Fatal(err)
		}
		policy.Checks = append(policy.Checks, c)
		return
	}
	f, err := strconv.ParseFloat(value, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	switch key {
	case "tolerance":
		policy.Tolerance = f / 100
	case "latency":
		policy.LatencyTolerance = f / 100
	case "limit":
		policy.FailureLimit = int(f)
	case "budget":
		policy.Budget = int64(f)
	case "success-rate":
		policy.Checks = append(policy.Checks, analysis.Check{Metric: analysis.SuccessRate, Min: &f})
	case "restarts":
		policy.Checks = append(policy.Checks, analysis.Check{Metric: "restarts", External: true, Max: &f})
	case "to-stable":
		policy.Checks = append(policy.Checks, analysis.Check{Metric: analysis.ErrorRate, ToStable: analysis.Margin{Max: &f}})
	case "duration-p99":
		policy.Checks = append(policy.Checks, analysis.Check{Metric: analysis.DurationP99, Max: &f})
	default:
		p.t.Fatalf("unknown plan field %q", key)
	}
}

func (p *player) shares(list string) []Share {
	var out []Share
	for s := range strings.SplitSeq(list, ",") {
		out = append(out, p.share(s))
	}
	return out
}

// gate reads NAME@POINT[,step=N][,by=WHO+WHO][,expires=D][,window=DAY+DAY/FROM-TO[/ZONE]];
// it is manual unless it has a window alone.
func (p *player) gate(text string) Gate {
	p.t.Helper()
	parts := strings.Split(text, ",")
	name, at, _ := strings.Cut(parts[0], "@")
	g := Gate{Name: name, At: Point(at), Manual: true}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "step":
			g.Step = int(p.number(value))
		case "by":
			g.Approvers = strings.Split(value, "+")
		case "expires":
			g.Expires = p.duration(value)
		case "manual":
			g.Manual = value == "on"
		case "window":
			g.Manual, g.Window = false, p.window(value)
		default:
			p.t.Fatalf("unknown part %q of a gate", part)
		}
	}
	return g
}

func (p *player) window(text string) *Window {
	p.t.Helper()
	parts := strings.Split(text, "/")
	w := &Window{}
	for day := range strings.SplitSeq(parts[0], "+") {
		for d := time.Sunday; d <= time.Saturday; d++ {
			if d.String()[:3] == day {
				w.Days = append(w.Days, d)
			}
		}
	}
	from, to, _ := strings.Cut(parts[1], "-")
	w.From, w.To = p.duration(from), p.duration(to)
	if len(parts) > 2 {
		w.Zone = strings.ReplaceAll(parts[2], ".", "/")
		where, err := time.LoadLocation(w.Zone)
		if err != nil {
			p.t.Fatal(err)
		}
		w.Location = where
	}
	return w
}

// observe fills in what follows from the world.
func (p *player) observe() {
	want := p.stored.Want()
	in := &p.in
	in.Target.Ready, in.Target.Message = want.CanaryScaled && in.Target.Revision != "", ""
	if why, held := p.holds["canary"]; held {
		in.Target.Ready, in.Target.Message = false, why
	}
	if want.Warm != "" {
		_, held := p.holds["warm"]
		in.Warm = Workload{Revision: want.Warm, Ready: !held}
	}
	p.answer(want.Hooks)
	if why, held := p.holds["stable"]; held {
		in.Stable.Ready, in.Stable.Message = false, why
		if want.StableRevision != "" {
			in.Stable.Revision = want.StableRevision
		}
	} else if want.StableRevision != "" {
		in.Stable.Revision, in.Stable.Ready, in.Stable.Message = want.StableRevision, true, ""
	}
	if why, held := p.holds["acks"]; held && why != foreign && in.Ack.Traffic != want.Traffic {
		in.Ack = Ack{} // the route was written and one proxy does not answer
	} else if !held && want.Split && (!in.Ack.OK || in.Ack.Traffic != want.Traffic) {
		in.Ack = Ack{OK: true, Traffic: want.Traffic, Since: in.Now.Add(-100 * time.Millisecond)}
	}
}

// answer makes the calls that are wanted, each once, and gives back the results
// twice: the second time they must not matter.
func (p *player) answer(calls []HookCall) {
	for _, c := range calls {
		says := p.hooks[c.Name]
		if says == "silent" || p.made[c.ID] {
			continue
		}
		p.made[c.ID] = true
		res := HookResult{ID: c.ID, OK: says == "" || says == "yes", Reason: strings.TrimPrefix(says, "yes")}
		p.in.Hooks = append(p.in.Hooks, res, res)
	}
}

func (p *player) look(out *strings.Builder, args []string) {
	after, times := time.Second, int64(1)
	var samples analysis.Samples
	var own analysis.Own
	live := int64(-1)
	var mirrored Mirrored
	latency, stableLatency := 10*time.Millisecond, time.Duration(0)
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
		case "own-canary":
			own.CanaryFailures, own.CanaryRequests = p.number(failed), p.number(all)
		case "own-stable":
			own.StableFailures, own.StableRequests = p.number(failed), p.number(all)
		case "direct":
			samples.DirectFailures, samples.DirectRequests = p.number(failed), p.number(all)
		case "differ": // differ=N/COMPARED
			mirrored = Mirrored{Differ: p.number(failed), Compared: p.number(all), Example: "header x-a"}
		case "ms":
			latency = time.Duration(p.number(value)) * time.Millisecond
		case "stable-ms":
			stableLatency = time.Duration(p.number(value)) * time.Millisecond
		case "value": // value=N|error: what the first check measures
			m := analysis.Measured{At: p.in.Now, Err: "no answer"}
			if value != "error" {
				m = analysis.Measured{At: p.in.Now, Canary: analysis.Value(p.number(value)), HasCanary: true}
			}
			samples.Measured = append(samples.Measured, m)
		case "live":
			live = p.number(value)
		default:
			p.t.Fatalf("unknown argument %q", arg)
		}
	}
	for range samples.CanaryRequests {
		samples.CanaryLatency.Observe(latency)
	}
	for range samples.StableRequests {
		if stableLatency > 0 { // otherwise nobody compares
			samples.StableLatency.Observe(stableLatency)
		}
	}
	for range samples.DirectRequests {
		samples.DirectLatency.Observe(latency)
	}
	p.in.Mirrored = mirrored
	for range times {
		p.in.Now = p.in.Now.Add(after)
		p.observe()
		p.in.Samples = samples
		if p.stored.Want().Load && own.Requests() > 0 {
			p.in.Samples.Own = own
		}
		p.in.Arrived = max(samples.Requests(), live)
		p.in.Served = max(samples.StableRequests, live)
		if (samples.CanaryRequests > 0 || p.in.Samples.Own.CanaryRequests > 0) && p.in.FirstCanary.IsZero() {
			p.in.FirstCanary = p.in.Now
		}
		next, events := Step(p.plan, p.state, p.in)
		checkStep(p.t, p.plan, p.state, next, p.in, events)
		p.in.Hooks = nil
		if next.Run.Number != p.state.Run.Number {
			p.in.FirstCanary = time.Time{}
		}
		if p.state.MustWrite(next) {
			p.stored = next
		}
		was := p.state
		p.state = next
		p.show(out, was, events)
	}
}

func (p *player) clock() string {
	return p.since(p.in.Now)
}

func (p *player) since(at time.Time) string {
	d := at.Sub(p.start)
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// show prints events, and the state when it changed by more than numbers.
func (p *player) show(out *strings.Builder, was State, events []Event) {
	for _, e := range events {
		mark := "-"
		if e.Warning {
			mark = "!"
		}
		fmt.Fprintf(out, "%s %s %s: %s\n", p.clock(), mark, e.Reason, e.Message)
	}
	for _, c := range p.state.Calls {
		if !slices.ContainsFunc(was.Calls, func(b HookCall) bool { return b.ID == c.ID }) {
			fmt.Fprintf(out, "%s call %s\n", p.clock(), c.ID)
		}
	}
	line := world(p.state) + ": " + p.state.Reason
	if at := p.state.Deadline; !at.IsZero() {
		line += fmt.Sprintf(" [until %s]", p.since(at))
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

// world says in short what a state wants.
func world(s State) string {
	w := s.Want()
	line := string(s.Phase)
	switch {
	case w.ByPods:
		line += fmt.Sprintf(", pods %d canary", w.CanaryPods)
		if w.StablePods > 0 {
			line += fmt.Sprintf(" %d stable", w.StablePods)
		}
	case w.Traffic.Match:
		line += fmt.Sprintf(", canary %v of the matched", w.Traffic.Share)
	default:
		line += fmt.Sprintf(", canary %v", w.Traffic.Share)
	}
	if w.Traffic.Mirror > 0 {
		line += fmt.Sprintf(", copies of %v", w.Traffic.Mirror)
	}
	if w.StableRevision != "" {
		line += ", stable " + string(w.StableRevision)
	}
	if w.Warm != "" {
		line += ", warm " + string(w.Warm)
	}
	if w.Traffic.Warm {
		line += " with the traffic"
	}
	if !w.ByPods && (w.CanaryPods > 0 || w.StablePods > 0) {
		line += fmt.Sprintf(", at least %d and %d pods", w.CanaryPods, w.StablePods)
	}
	if w.Load {
		line += ", own load"
	}
	if !w.Split {
		line += ", traffic untouched"
	}
	if !w.CanaryScaled && !w.ByPods {
		line += ", canary scaled away"
	}
	return line
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
	if own := p.state.Evidence.Own; own != (analysis.Counts{}) {
		fmt.Fprintf(out, "of them own load: canary %d/%d stable %d/%d\n", own.CanaryFailures, own.CanaryRequests, own.StableFailures, own.StableRequests)
	}
	if cost := p.state.Cost(); cost >= 0.5 {
		fmt.Fprintf(out, "it cost about %.0f failed requests\n", cost)
	}
	if m := r.Mirrored; m.Compared > 0 {
		fmt.Fprintf(out, "%d of %d answers to copies differ, such as by %s\n", m.Differ, m.Compared, m.Example)
	}
	for _, c := range r.Commands {
		fmt.Fprintf(out, "%s by %s at %s (%s, step %d)\n", c.Verb, orElse(c.By, "somebody"), p.since(c.At), c.Phase, c.Step)
	}
}

func (p *player) showEvidence(out *strings.Builder) {
	e := p.state.Evidence
	fmt.Fprintf(out, "%v, e-value %.3g of %.3g, must exclude %.3g, excluded %.3g, needed %d: %s\n",
		e.Verdict, exp(e.LogE), 1/e.FalseAlarm, e.Delta, e.Excluded, e.Needed, e.Reason)
}
