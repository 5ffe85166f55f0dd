package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/apiserver/crds"
	"serin.dev/serin/internal/controller"
	"serin.dev/serin/internal/forecast"
	"serin.dev/serin/internal/translate/flagger"
)

func newSimulateCmd(opts *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "simulate -f FILE",
		Short: "Predict what a release's plan would do, before you release",
		Long: `Predict what the plan of a Release, or of a Flagger Canary, would do: how soon a
bad version is found and how many requests fail until then, how often a good one
is rolled back, how long a good one takes, and which part of the plan waits for
nothing.

Many runs of the plan are played on imagined requests by the engine that plays
the real ones. Pods are ready and proxies obey at once. Nothing is read or
changed but the file.

Unless --runs is given, it ends after about 10 s with the runs that there are, at
least 100 of each version. Ctrl-C and SIGTERM end it at once, and it prints what
the runs so far say. The first line, or "runs", says how many there were; --runs
with that number prints the same again.`,
		Example: `  serin simulate -f release.yaml --rps 50 --baseline-errors 0.1% --regression 1%
  serin simulate -f release.yaml --rps 5 --regression 0 --latency 20% -o json`,
		Args: cobra.NoArgs,
	}
	output := addOutputFlag(cmd, "json", "yaml")
	var file string
	rates := struct{ baseline, regression, latency, matched percentFlag }{baseline: 0.001, regression: 0.01, matched: 0.1}
	var c forecast.Case
	flags := cmd.Flags()
	flags.StringVarP(&file, "filename", "f", "", "file with the Release or Canary; - for standard input")
	flags.Float64Var(&c.Rate, "rps", 50, "requests per second to the service")
	flags.Var(&rates.baseline, "baseline-errors", "how many of the stable version's requests fail")
	flags.Var(&rates.regression, "regression", "how many more of a bad version's requests fail")
	flags.Var(&rates.latency, "latency", "how much longer a bad version's requests take")
	flags.Var(&rates.matched, "matched", "how many of the requests come from users whom strategy ABTest matches")
	flags.Float64Var(&c.Tests, "test-rps", 5, "requests per second that test the canary in strategy BlueGreen, such as a load test's")
	flags.IntVar(&c.Runs, "runs", usualRuns, "runs of each version; unless it is given, fewer if they take long")
	flags.Uint64Var(&c.Seed, "seed", 1, "the same seed gives the same prediction")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if file == "" {
			return usageErrorf("name the file with -f (see 'serin simulate --help')")
		}
		c.Errors, c.Regression, c.Slower = float64(rates.baseline), float64(rates.regression), float64(rates.latency)
		c.Matched = float64(rates.matched)
		name, spec, err := releaseIn(opts, file)
		if err != nil {
			return err
		}
		if c.Plan, err = controller.Plan(spec); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		ctx, stop := interruptible(cmd.Context(), 0)
		defer stop()
		p := newPacing(opts.ErrOut, c.Runs, flags.Changed("runs"))
		f, err := c.Play(ctx, p.more)
		p.close()
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", file, err), context.Cause(ctx))
		}
		if output.structured() {
			err = output.print(opts.Out, newPrediction(name, c, f))
		} else {
			err = printForecast(opts.Out, name, c, f, context.Cause(ctx) != nil)
		}
		return errors.Join(err, context.Cause(ctx))
	}
	return cmd
}

// percentFlag is a share, written in percent: "0.1%" or "0.1".
type percentFlag float64

func (p *percentFlag) String() string { return percentText(float64(*p)) }
func (p *percentFlag) Type() string   { return "percent" }

func (p *percentFlag) Set(text string) error {
	v, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "%")), 64)
	if err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return errors.New("write percent, such as 0.1%")
	}
	*p = percentFlag(v / 100)
	return nil
}

// percentText writes a share.
func percentText(share float64) string { return strconv.FormatFloat(100*share, 'g', 3, 64) + "%" }

// releaseIn reads the first Release or Canary of a file, with the defaults that
// the API would give it.
func releaseIn(opts *options, file string) (string, *v1alpha1.ReleaseSpec, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(opts.In)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return "", nil, err
	}
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
		doc, err := reader.Read()
		switch {
		case errors.Is(err, io.EOF):
			return "", nil, fmt.Errorf("%s has no Release and no Canary", file)
		case err != nil:
			return "", nil, fmt.Errorf("%s: %w", file, err)
		}
		var object map[string]any
		if err := yaml.Unmarshal(doc, &object); err != nil {
			return "", nil, fmt.Errorf("%s: %w", file, err)
		}
		switch object["kind"] {
		case "Release":
			r, err := defaultedRelease(object)
			if err != nil {
				return "", nil, fmt.Errorf("%s: %w", file, err)
			}
			return "Release " + r.Name, &r.Spec, leftOut(opts, reader)
		case "Canary":
			var c flaggerv1.Canary
			if err := yaml.Unmarshal(doc, &c); err != nil {
				return "", nil, fmt.Errorf("%s: %w", file, err)
			}
			spec, findings := flagger.Release(&c)
			for _, f := range findings {
				if f.Severity == flagger.Error {
					return "", nil, fmt.Errorf("%s: %s", file, f)
				}
			}
			return "Canary " + c.Name, &spec, leftOut(opts, reader)
		}
	}
}

// leftOut warns of the plans that stand in a file behind the one that is played.
func leftOut(opts *options, rest *utilyaml.YAMLReader) error {
	for {
		doc, err := rest.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var object metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(doc, &object); err != nil {
			return err
		}
		if object.Kind == "Release" || object.Kind == "Canary" {
			fmt.Fprintf(opts.ErrOut, "Warning: %s %s is left out: the first plan of a file is played\n", object.Kind, object.Name)
		}
	}
}

// defaultedRelease reads a Release as the API would, without one.
func defaultedRelease(object map[string]any) (*v1alpha1.Release, error) {
	if err := crds.SetDefaults("releases.serin.dev", object); err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(object)
	if err != nil {
		return nil, err
	}
	var r v1alpha1.Release
	if err := yaml.UnmarshalStrict(text, &r); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: json: "))
	}
	return &r, nil
}

// printForecast tells people. A forecast that was stopped is one of fewer runs than
// were asked for.
func printForecast(w io.Writer, name string, c forecast.Case, f *forecast.Forecast, stopped bool) error {
	bad := []string{percentText(c.Regression) + " more of its requests fail"}
	if c.Slower > 0 {
		bad = append(bad, "they take "+percentText(c.Slower)+" longer")
	}
	runs := fmt.Sprintf("%d runs each", f.Runs)
	switch {
	case f.Runs == c.Runs:
	case stopped:
		runs = fmt.Sprintf("stopped after %d of %d runs each", f.Runs, c.Runs)
	default:
		runs += " (--runs asks for more)"
	}
	fmt.Fprintf(w, "%s at %g req/s, of which %s fail; %s\n\n", name, c.Rate, percentText(c.Errors), runs)
	fmt.Fprintf(w, "a bad version: %s\n", strings.Join(bad, " and "))
	printOutlook(w, &f.Bad)
	fmt.Fprint(w, "\na version as good as stable\n")
	printOutlook(w, &f.Good)
	if len(f.Steps) > 0 {
		fmt.Fprintln(w)
		t := newTable(w)
		t.row("STEP", "SHARE", "EVIDENCE AFTER", "OVER AFTER", "CANARY REQUESTS")
		for i, s := range f.Steps {
			t.row(strconv.Itoa(i+1), s.Name, forecast.Words(s.Evidence), forecast.Words(s.Took), strconv.FormatInt(s.Requests, 10))
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	for _, line := range f.Advice {
		fmt.Fprintf(w, "\n- %s", line)
	}
	for _, line := range f.Omitted {
		fmt.Fprintf(w, "\n(not played: %s)", line)
	}
	if len(f.Advice)+len(f.Omitted) > 0 {
		fmt.Fprintln(w)
	}
	return nil
}

func printOutlook(w io.Writer, o *forecast.Outlook) {
	line := func(share float64, what string, took forecast.Spread) {
		text := percentText(share) + " " + what
		if took.P50 > 0 {
			text += fmt.Sprintf(", after %s (p50), %s (p90)", forecast.Words(took.P50), forecast.Words(took.P90))
		}
		fmt.Fprintf(w, "  %s\n", text)
	}
	back := "rolled back"
	if o.Why != "" {
		back += " (mostly by: " + o.Why + ")"
	}
	line(o.RolledBack, back, o.RollbackTook)
	line(o.Promoted, "promoted", o.PromotionTook)
	if o.Open > 0 {
		line(o.Open, "neither within "+forecast.Words(forecast.Longest), forecast.Spread{})
	}
	fmt.Fprintf(w, "  %.1f requests to it fail (mean), %.0f (p90)\n", o.Failed.Mean, o.Failed.P90)
}

// prediction is the forecast for programs. Shares are 0 to 1.
type prediction struct {
	Release        string  `json:"release"`
	RPS            float64 `json:"rps"`
	BaselineErrors float64 `json:"baselineErrors"`
	Regression     float64 `json:"regression"`
	Latency        float64 `json:"latency,omitempty"`
	Runs           int     `json:"runs"` // that were played
	Seed           uint64  `json:"seed"`

	Bad       predictedOutlook `json:"bad"`
	Good      predictedOutlook `json:"good"`
	Steps     []predictedStep  `json:"steps,omitempty"`
	Advice    []string         `json:"advice,omitempty"`
	NotPlayed []string         `json:"notPlayed,omitempty"`
}

type predictedOutlook struct {
	RolledBack          float64 `json:"rolledBack"`
	Promoted            float64 `json:"promoted"`
	Open                float64 `json:"open"`
	Why                 string  `json:"why,omitempty"`
	RollbackSecondsP50  float64 `json:"rollbackSecondsP50,omitempty"`
	RollbackSecondsP90  float64 `json:"rollbackSecondsP90,omitempty"`
	PromotionSecondsP50 float64 `json:"promotionSecondsP50,omitempty"`
	PromotionSecondsP90 float64 `json:"promotionSecondsP90,omitempty"`
	FailedMean          float64 `json:"failedMean"`
	FailedP90           float64 `json:"failedP90"`
}

type predictedStep struct {
	Share           string  `json:"share"`
	EvidenceSeconds float64 `json:"evidenceSeconds"`
	OverSeconds     float64 `json:"overSeconds"`
	CanaryRequests  int64   `json:"canaryRequests"`
}

func newPrediction(name string, c forecast.Case, f *forecast.Forecast) prediction {
	outlook := func(o forecast.Outlook) predictedOutlook {
		return predictedOutlook{
			o.RolledBack, o.Promoted, o.Open, o.Why, seconds(o.RollbackTook.P50), seconds(o.RollbackTook.P90),
			seconds(o.PromotionTook.P50), seconds(o.PromotionTook.P90), o.Failed.Mean, o.Failed.P90,
		}
	}
	p := prediction{
		Release: name, RPS: c.Rate, BaselineErrors: c.Errors, Regression: c.Regression, Latency: c.Slower, Runs: f.Runs, Seed: c.Seed,
		Bad: outlook(f.Bad), Good: outlook(f.Good), Advice: f.Advice, NotPlayed: f.Omitted,
	}
	for _, s := range f.Steps {
		p.Steps = append(p.Steps, predictedStep{s.Name, seconds(s.Evidence), seconds(s.Took), s.Requests})
	}
	return p
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return math.Round(1000*d.Seconds()) / 1000 }
