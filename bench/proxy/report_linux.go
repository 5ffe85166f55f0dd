package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"serin.dev/serin/bench/page"
)

// figures are what one round measured. What it did not measure is 0.
type figures struct {
	cpu            float64 // microseconds per request
	rps            float64
	core           float64 // share of its core that the proxy was busy under full load
	p50, p99, p999 float64 // microseconds
	empty, memory  float64 // MB (10^6 bytes), before and with idle connections
}

// report collects rounds and tells their medians.
type report struct {
	origin   page.Origin
	idle     int      // connections
	notes    []string // on each proxy that was measured
	results  []*result
	absences []string
	others   []float64 // share of the cores that was busy between our runs
}

// result is all rounds of one proxy in one case.
type result struct {
	workload, proxy string
	rounds          []figures
}

// missing notes what could not be measured; workload "" stands for all. What
// was measured of it in earlier rounds does not count any more.
func (r *report) missing(proxy, workload string, why error) {
	what := "not measured: " + proxy
	if workload != "" {
		what += " in " + workload
	}
	r.absences = append(r.absences, what+": "+strings.Join(strings.Fields(why.Error()), " "))
	r.results = slices.DeleteFunc(r.results, func(x *result) bool { return x.workload == workload && x.proxy == proxy })
}

func (r *report) add(workload, proxy string, f figures) {
	i := slices.IndexFunc(r.results, func(x *result) bool { return x.workload == workload && x.proxy == proxy })
	if i < 0 {
		i = len(r.results)
		r.results = append(r.results, &result{workload: workload, proxy: proxy})
	}
	r.results[i].rounds = append(r.results[i].rounds, f)
}

// medians takes the median of each figure over the rounds, by itself.
func (x *result) medians() figures {
	of := func(figure func(figures) float64) float64 {
		var all []float64
		for _, f := range x.rounds {
			all = append(all, figure(f))
		}
		return median(all)
	}
	return figures{
		cpu:    of(func(f figures) float64 { return f.cpu }),
		rps:    of(func(f figures) float64 { return f.rps }),
		core:   of(func(f figures) float64 { return f.core }),
		p50:    of(func(f figures) float64 { return f.p50 }),
		p99:    of(func(f figures) float64 { return f.p99 }),
		p999:   of(func(f figures) float64 { return f.p999 }),
		empty:  of(func(f figures) float64 { return f.empty }),
		memory: of(func(f figures) float64 { return f.memory }),
	}
}

// median of any figures; 0 of none.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// of returns the results of a case, the cheapest first.
func (r *report) of(workload string) []*result {
	found := slices.DeleteFunc(slices.Clone(r.results), func(x *result) bool { return x.workload != workload })
	slices.SortStableFunc(found, func(a, b *result) int {
		x, y := a.medians(), b.medians()
		return cmp.Or(cmp.Compare(x.cpu, y.cpu), cmp.Compare(x.memory, y.memory))
	})
	return found
}

// busy is the share of its core from which on a proxy was its own limit.
const busy = 0.95

func (r *report) print(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, w := range workloads {
		results := r.of(w.name)
		if len(results) == 0 {
			continue
		}
		envoy := slices.IndexFunc(results, func(x *result) bool { return x.proxy == "envoy" })
		fmt.Fprintf(t, "\n%s: %s; latency at %d requests/s\n", w.name, w.about, w.rate)
		fmt.Fprintln(t, "proxy\tCPU µs/request\t/ Envoy\t/ best\trequests/s\tcore busy\tp50 µs\tp99 µs\tp99.9 µs\t")
		for _, x := range results {
			f, ofEnvoy, limit := x.medians(), "-", ""
			if envoy >= 0 {
				ofEnvoy = fmt.Sprintf("%.2f", f.cpu/results[envoy].medians().cpu)
			}
			if f.core < busy {
				limit = "≥ "
			}
			fmt.Fprintf(t, "%s\t%.1f\t%s\t%.2f\t%s%.0f\t%.0f %%\t%.0f\t%.0f\t%.0f\t\n",
				x.proxy, f.cpu, ofEnvoy, f.cpu/results[0].medians().cpu, limit, f.rps, 100*f.core, f.p50, f.p99, f.p999)
		}
	}
	if results := r.of(idleCase); len(results) > 0 {
		fmt.Fprintf(t, "\n%s: memory of a fresh process without and with %d idle connections\n", idleCase, r.idle)
		fmt.Fprintln(t, "proxy\tMB without\tMB with\tKB each\t")
		for _, x := range results {
			f := x.medians()
			fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.1f\t\n", x.proxy, f.empty, f.memory, 1000*(f.memory-f.empty)/float64(r.idle))
		}
	}
	fmt.Fprintln(t)
	for _, line := range slices.Concat(r.notes, r.absences) {
		fmt.Fprintln(t, line)
	}
	fmt.Fprintf(t, "between the runs the cores were busy with other things for %.0f %% of the time: on a busy machine latency and requests/s say little, and CPU per request is higher\n", 100*median(r.others))
	fmt.Fprintln(t, "≥: the proxy was not the limit: load generator, backend or neighbours were")
	return t.Flush()
}

// row is one line of proxy.json. What was not measured in its case is left out.
type row struct {
	Case                string  `json:"case"`
	Proxy               string  `json:"proxy"`
	CPUMicrosPerRequest float64 `json:"cpuMicrosPerRequest,omitempty"`
	RequestsPerSecond   float64 `json:"requestsPerSecond,omitempty"`
	P50Micros           float64 `json:"p50Micros,omitempty"`
	P99Micros           float64 `json:"p99Micros,omitempty"`
	P999Micros          float64 `json:"p999Micros,omitempty"`
	MemoryMB            float64 `json:"memoryMB,omitempty"`
}

// write stores the rows with what they depend on.
func (r *report) write(name string) error {
	out := struct {
		page.Origin
		BusyElsewhere float64  `json:"busyElsewhere"` // share of the cores, between our runs
		NotMeasured   []string `json:"notMeasured,omitempty"`
		Rows          []row    `json:"rows"`
	}{r.origin, median(r.others), r.absences, nil}
	for _, x := range r.results {
		f := x.medians()
		out.Rows = append(out.Rows, row{x.workload, x.proxy, f.cpu, f.rps, f.p50, f.p99, f.p999, f.memory})
	}
	return page.Write(name, out)
}
