package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// The marks between which a page has the tables.
const (
	tablesBegin = "<!-- tables of bench/decision -->\n"
	tablesEnd   = "<!-- end -->\n"
)

// readReport takes up the rows that an earlier run wrote.
func readReport(name string) (*report, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := &report{}
	if err := json.Unmarshal(data, &r.page); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range policies() {
		if r.any(func(x row) bool { return x.Policy == p.name }) {
			r.policies = append(r.policies, p)
		}
	}
	for _, s := range scenarios() {
		if r.any(func(x row) bool { return x.Scenario == s.name }) {
			r.scenarios = append(r.scenarios, s)
		}
	}
	return r, nil
}

// intoPage replaces the tables of a page.
func (r *report) intoPage(name string) error {
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(page, []byte(tablesBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(tablesEnd))
	if !ok || !ok2 {
		return fmt.Errorf("%s: there is no %q with %q after it", name, tablesBegin, tablesEnd)
	}
	var out bytes.Buffer
	out.Write(before)
	out.WriteString(tablesBegin)
	out.WriteString(r.markdown())
	out.WriteString(tablesEnd)
	out.Write(after)
	return os.WriteFile(name, out.Bytes(), 0o644)
}

// markdown writes one table for each kind of harm.
func (r *report) markdown() string {
	var b strings.Builder
	table := func(title string, of harm, cell func(row) string) {
		fmt.Fprintf(&b, "\n%s\n\n| scenario |", title)
		for _, p := range r.policies {
			fmt.Fprintf(&b, " %s |", p.name)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(r.policies)) + "\n")
		for _, s := range r.scenarios {
			if s.harm != of {
				continue
			}
			fmt.Fprintf(&b, "| **%s** %s |", s.name, s.about)
			for _, p := range r.policies {
				if x := r.row(s.name, p.name); x != nil {
					fmt.Fprintf(&b, " %s |", cell(*x))
				} else {
					b.WriteString(" - |")
				}
			}
			b.WriteString("\n")
		}
	}
	harmed := func(x row) string {
		text := fmt.Sprintf("%s · %s", short(x.FailedMean), clock(x.SecondsP50))
		if x.MissedRate > 0 {
			text += fmt.Sprintf(" · missed %s", share(x.MissedRate))
		}
		if x.Policy == ours && x.RatioToLimit > 0 {
			text += fmt.Sprintf(" · %.2f N*", x.RatioToLimit)
		}
		return text
	}
	table("Worse versions: failed requests (mean) · time to decide (median) · runs in which it was missed · for ours, requests to decide / N\\*.", fails, harmed)
	table("Slower versions: requests that met one (mean) · time to decide (median) · runs in which it was missed.", slows, harmed)
	table("Equal versions: false rollbacks.", none, func(x row) string { return share(x.FalseRollbackRate) })
	b.WriteString("\n" + r.peers())
	for _, line := range r.page.NotReached {
		fmt.Fprintf(&b, "Not reached: %s.\n\n", line)
	}
	fmt.Fprintf(&b, "%s.\n\n", r.page.Origin)
	return b.String()
}

// peers says which policies are a measure for ours, and how often those expose
// fewer failed users.
func (r *report) peers() string {
	var measures []string
	worst := r.worstFalseRollbacks()
	for _, p := range r.policies {
		if rate, known := worst[p.name]; p.name != ours && known && rate < tooMany {
			measures = append(measures, p.name)
		}
	}
	if len(measures) == 0 {
		return ""
	}
	fewer := 0
	for _, s := range r.scenarios {
		fewer += len(r.better(s, worst))
	}
	return fmt.Sprintf("Policies with false rollbacks below %s in each of these: %s. Worse and slower versions of which one of them exposes fewer users than ours: %d.\n\n",
		share(tooMany), strings.Join(measures, ", "), fewer)
}

func (r *report) any(is func(row) bool) bool {
	for _, x := range r.page.Rows {
		if is(x) {
			return true
		}
	}
	return false
}

// short writes a mean with what digits it is worth.
func short(x float64) string {
	if x < 100 {
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// share writes a rate in percent.
func share(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x >= 0.1:
		return fmt.Sprintf("%.0f %%", 100*x)
	}
	return fmt.Sprintf("%.2g %%", 100*x)
}

// clock writes seconds as people say them.
func clock(seconds float64) string {
	if seconds < 100 {
		return fmt.Sprintf("%.2g s", seconds)
	}
	d := time.Duration(seconds) * time.Second
	if d < 100*time.Minute {
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}
