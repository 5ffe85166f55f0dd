package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"serin.dev/serin/bench/page"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench/decision: %v\n", err)
		os.Exit(1)
	}
}

type options struct {
	scenarios, policies string
	runs, nullRuns      int
	out, from, docs     string
	resume              bool
}

func run(args []string) error {
	var o options
	flags := flag.NewFlagSet("bench/decision", flag.ExitOnError)
	flags.StringVar(&o.scenarios, "scenarios", "", "only scenarios with one of these `words`, comma between them, in their name")
	flags.StringVar(&o.policies, "policies", "", "only policies with one of these `words` in their name")
	flags.IntVar(&o.runs, "runs", 1000, "runs of each scenario in which something is wrong")
	flags.IntVar(&o.nullRuns, "null-runs", 20000, "runs of each scenario in which nothing is")
	flags.StringVar(&o.out, "out", "bench/out/decision.json", "where the rows are written")
	flags.BoolVar(&o.resume, "continue", false, "play only the scenarios that -out does not have yet from this commit")
	flags.StringVar(&o.from, "from", "", "play nothing: show the rows of this `file`")
	flags.StringVar(&o.docs, "docs", "", "write the tables into this `page`, too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var r *report
	var err error
	if o.from != "" {
		r, err = readReport(o.from)
	} else {
		r, err = compare(o)
	}
	if err != nil {
		return err
	}
	if o.docs != "" {
		err = r.intoPage(o.docs)
	}
	return errors.Join(err, r.print(os.Stdout))
}

// compare plays all that was chosen, and writes the rows of each scenario when
// it was played: whoever stops it keeps what there is.
func compare(o options) (*report, error) {
	if o.runs < 1 || o.nullRuns < 1 {
		return nil, errors.New("-runs and -null-runs must be at least 1")
	}
	r := &report{}
	r.policies = choose(policies(), o.policies, func(p policy) string { return p.name })
	chosen := choose(scenarios(), o.scenarios, func(s scenario) string { return s.name })
	if len(chosen) == 0 || len(r.policies) == 0 {
		return nil, errors.New("no scenario or no policy has such a name")
	}
	if err := r.begin(o); err != nil {
		return nil, err
	}
	began := time.Now()
	for i, s := range chosen {
		r.scenarios = append(r.scenarios, s)
		runs := o.runs
		if !s.harm.real() {
			runs = o.nullRuns
		}
		if !r.has(s, runs) {
			results := s.playShown(r.policies, runs)
			for k, p := range r.policies {
				r.page.Rows = append(r.page.Rows, s.sum(p, k, results))
			}
		}
		r.page.NotReached = r.shortfalls()
		if err := page.Write(o.out, r.page); err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%2d of %d: %s, %.0f s\n", i+1, len(chosen), s.name, time.Since(began).Seconds())
	}
	return r, nil
}

// playShown plays all runs and says every ten seconds how many are done.
func (s *scenario) playShown(all []policy, runs int) [][]outcome {
	var done atomic.Int64
	every := time.NewTicker(10 * time.Second)
	defer every.Stop()
	var results [][]outcome
	over := make(chan struct{})
	go func() {
		defer close(over)
		results = s.playCounted(all, runs, &done)
	}()
	for {
		select {
		case <-over:
			return results
		case <-every.C:
			fmt.Fprintf(os.Stderr, "   %s: %d of %d runs\n", s.name, done.Load(), runs)
		}
	}
}

// choose keeps what has one of the words, comma between them, in its name.
func choose[T any](all []T, words string, name func(T) string) []T {
	var out []T
	for _, x := range all {
		for word := range strings.SplitSeq(words, ",") {
			if strings.Contains(name(x), word) {
				out = append(out, x)
				break
			}
		}
	}
	return out
}
