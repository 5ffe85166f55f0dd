package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"serin.dev/serin/bench/page"
)

// report is what the runs showed.
type report struct {
	policies  []policy
	scenarios []scenario
	page      table
}

// table is decision.json.
type table struct {
	page.Origin
	NotReached []string `json:"notReached,omitempty"`
	Rows       []row    `json:"rows"`
}

// begin notes what the rows depend on. Asked to continue, it takes the rows
// over that are there, if they are of the same commit.
func (r *report) begin(o options) error {
	var err error
	if r.page.Origin, err = page.Here(); err != nil || !o.resume {
		return err
	}
	before, err := readReport(o.out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if before.page.Commit != r.page.Commit {
		return fmt.Errorf("%s is of commit %s, this is %s: its rows are not continued", o.out, before.page.Commit, r.page.Commit)
	}
	r.page.Rows = before.page.Rows
	return nil
}

// has reports whether all rows of the scenario are there, of that many runs;
// what there is of it is dropped otherwise.
func (r *report) has(s scenario, runs int) bool {
	missing := func(p policy) bool {
		x := r.row(s.name, p.name)
		return x == nil || x.Runs != runs
	}
	if !slices.ContainsFunc(r.policies, missing) {
		return true
	}
	r.page.Rows = slices.DeleteFunc(r.page.Rows, func(x row) bool { return x.Scenario == s.name })
	return false
}

// print writes a table for people.
func (r *report) print(out io.Writer) error {
	for _, p := range r.policies {
		fmt.Fprintf(out, "%s: %s\n", p.name, p.about)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range r.scenarios {
		fmt.Fprintf(t, "\n%s: %s\n", s.name, s.about)
		if !s.harm.real() {
			fmt.Fprintln(t, "  policy\tfalse rollbacks\truns\tdecided after p50\t")
		} else {
			harmed := "failed"
			if s.harm == slows {
				harmed = "slowed"
			}
			fmt.Fprintf(t, "  policy\tmissed\t%s mean\t%s p90\tdecided after p50\trequests mean\t/ N*\t\n", harmed, harmed)
		}
		for _, x := range r.page.Rows {
			if x.Scenario != s.name {
				continue
			}
			fmt.Fprintln(t, "  "+x.text(s.harm))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, line := range r.page.NotReached {
		fmt.Fprintln(out, "not reached: "+line)
	}
	_, err := fmt.Fprintln(out, r.page.Origin)
	return err
}

func (x row) text(h harm) string {
	after := (time.Duration(x.SecondsP50*10) * time.Second / 10).String()
	if !h.real() {
		return fmt.Sprintf("%s\t%.3g %%\t%d\t%s\t", x.Policy, 100*x.FalseRollbackRate, x.Runs, after)
	}
	ratio := "-"
	if x.RatioToLimit > 0 {
		ratio = fmt.Sprintf("%.2f", x.RatioToLimit)
	}
	return fmt.Sprintf("%s\t%.3g %%\t%.1f\t%.0f\t%s\t%.0f\t%s\t", x.Policy, 100*x.MissedRate, x.FailedMean, x.FailedP90, after, x.RequestsMean, ratio)
}

const ours = "serin"

// shortfalls are the numbers that ours does not reach, beyond what chance
// explains (three standard errors).
func (r *report) shortfalls() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	worst := r.worstFalseRollbacks()
	for _, s := range r.scenarios {
		x := r.row(s.name, ours)
		if x == nil {
			continue
		}
		switch s.harm {
		case none:
			noise := 3 * math.Sqrt(falseAlarm*(1-falseAlarm)/float64(x.Runs))
			if x.FalseRollbackRate > falseAlarm+noise {
				say("%s: %.3g %% false rollbacks, promised are %g %%", s.name, 100*x.FalseRollbackRate, 100*falseAlarm)
			}
			continue
		case fails, slows:
		}
		if limit := s.day.Limit(s.share, falseAlarm); limit > 0 {
			most := 1.4 * limit
			if limit <= 500 {
				most = 2*limit + 20
			}
			if x.RequestsMean > most+3*x.RequestsError {
				say("%s: %.0f requests to decide, %.2f times the limit of %.0f; want at most %.0f", s.name, x.RequestsMean, x.RatioToLimit, limit, most)
			}
		}
		for _, y := range r.better(s, worst) {
			say("%s: %s exposes fewer failed users: %.1f, ours %.1f", s.name, y.Policy, y.FailedMean, x.FailedMean)
		}
	}
	return out
}

// tooMany is the rate of false rollbacks from which on a policy is no measure
// for ours: who rolls back most versions rolls back most bad ones early.
const tooMany = 0.05

// better are the rows of policies that expose fewer failed users than ours,
// beyond what chance explains, and roll back good versions in no scenario too
// often.
func (r *report) better(s scenario, worst map[string]float64) []row {
	x := r.row(s.name, ours)
	if x == nil || !s.harm.real() {
		return nil
	}
	var out []row
	for _, p := range r.policies {
		y := r.row(s.name, p.name)
		if rate, known := worst[p.name]; p.name == ours || y == nil || !known || rate >= tooMany {
			continue
		}
		if noise := 3 * math.Hypot(x.FailedError, y.FailedError); x.FailedMean > y.FailedMean+noise {
			out = append(out, *y)
		}
	}
	return out
}

// worstFalseRollbacks is each policy's highest rate in any scenario in which
// nothing is wrong; a policy is not there that was played in none.
func (r *report) worstFalseRollbacks() map[string]float64 {
	worst := map[string]float64{}
	for _, s := range r.scenarios {
		for _, x := range r.page.Rows {
			if x.Scenario == s.name && !s.harm.real() {
				worst[x.Policy] = max(worst[x.Policy], x.FalseRollbackRate)
			}
		}
	}
	return worst
}

func (r *report) row(scenario, policy string) *row {
	for i := range r.page.Rows {
		if x := &r.page.Rows[i]; x.Scenario == scenario && x.Policy == policy {
			return x
		}
	}
	return nil
}
