package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/metric"
)

// Exit codes of metric test, besides 0 for a value in its range.
const (
	exitOutOfRange = 1
	exitCannotTell = 2
)

func newMetricCmd(opts *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "metric",
		Aliases: []string{"metrics"},
		Short:   "Try metric templates before a release depends on them",
	}
	cmd.AddCommand(newMetricTestCmd(opts))
	return cmd
}

// metricTest is one run of metric test.
type metricTest struct {
	opts    *options
	api     *api
	file    string
	vars    metric.Vars
	accept  metric.Range
	timeout time.Duration
	client  *kube.Client // once it was needed
}

func newMetricTestCmd(opts *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test [NAME | NAMESPACE/NAME]",
		Short: "Ask a metric provider now: show query, value and verdict",
		Long: `Ask a metric provider now what a check of a release would ask it, and show the
query with its placeholders filled in, the value, and the verdict.

The MetricTemplate comes from the API by its name, or from a file, which may hold
several, and the Secrets that they name. Nothing is changed anywhere.

Exits 0 when the value is in its range, 1 when it is not, and 2 when nobody can
tell: there is no value, or the provider does not answer.`,
		Example: `  serin metric test -f errors.yaml --target music --max 1
  serin metric test istio-system/latency -n shop --target music --max 500 -o json`,
		Args: cobra.MaximumNArgs(1),
	}
	m := &metricTest{opts: opts, api: newAPI(opts)}
	output := addOutputFlag(cmd, "json")
	var low, high float64
	var variables []string
	flags := cmd.Flags()
	m.api.addFlags(flags)
	flags.StringVarP(&m.file, "filename", "f", "", "file with MetricTemplates; - for standard input")
	flags.StringVar(&m.vars.Target, "target", "", "what {{ target }} stands for: the Deployment")
	flags.StringVar(&m.vars.Name, "release", "", "what {{ name }} stands for (default: the target)")
	flags.StringVar(&m.vars.Service, "service", "", "what {{ service }} stands for (default: the target)")
	flags.StringVar(&m.vars.Ingress, "ingress", "", "what {{ ingress }} stands for")
	flags.StringVar(&m.vars.Route, "route", "", "what {{ route }} stands for")
	flags.StringVar(&m.vars.Stable, "stable", "", "what {{ stable }} stands for (default: the target with -stable)")
	flags.StringVar(&m.vars.Interval, "interval", "1m", "what {{ interval }} stands for, and the window of time that is asked about")
	flags.StringArrayVar(&variables, "var", nil, "what {{ variables.NAME }} stands for, as NAME=VALUE; may be repeated")
	flags.Float64Var(&low, "min", 0, "smallest value that passes (default: none)")
	flags.Float64Var(&high, "max", 0, "largest value that passes (default: none)")
	flags.DurationVar(&m.timeout, "timeout", 10*time.Second, "longest time to wait for a provider")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if flags.Changed("min") {
			m.accept.Min = &low
		}
		if flags.Changed("max") {
			m.accept.Max = &high
		}
		var err error
		if m.vars.Variables, err = parseVariables(variables); err != nil {
			return err
		}
		templates, err := m.templates(cmd.Context(), strings.Join(args, ""))
		if err != nil {
			return cannotTell(err)
		}
		code := 0
		for i, t := range templates {
			if i > 0 && output.value == "" {
				fmt.Fprintln(opts.Out)
			}
			r := m.examine(cmd.Context(), t)
			if err := r.print(opts.Out, output); err != nil {
				return err
			}
			code = worse(code, r.code)
		}
		if code != 0 {
			return &exitError{code: code}
		}
		return nil
	}
	return cmd
}

// cannotTell gives an error the exit code that says so.
func cannotTell(err error) error {
	if coded := (*exitError)(nil); errors.As(err, &coded) {
		return err
	}
	return &exitError{exitCannotTell, err.Error()}
}

// worse of two exit codes is the one that says something bad for sure.
func worse(a, b int) int {
	if a == exitOutOfRange || b == exitOutOfRange {
		return exitOutOfRange
	}
	return max(a, b)
}

func parseVariables(given []string) (map[string]string, error) {
	out := map[string]string{}
	for _, g := range given {
		name, value, ok := strings.Cut(g, "=")
		if !ok || name == "" {
			return nil, usageErrorf("--var %q: want NAME=VALUE", g)
		}
		out[name] = value
	}
	return out, nil
}

// templates finds what to test and completes what placeholders stand for.
func (m *metricTest) templates(ctx context.Context, name string) ([]metric.Template, error) {
	var client *kube.Client
	if m.file == "" {
		var err error
		if name == "" {
			return nil, usageErrorf("name a MetricTemplate, or a file with -f (see 'serin metric test --help')")
		}
		if client, err = m.connect(); err != nil {
			return nil, err
		}
	}
	namespace, err := m.api.namespace()
	switch {
	case err != nil && client != nil:
		return nil, err
	case err != nil:
		namespace = metav1.NamespaceDefault // a file needs no API
	}
	m.vars.Namespace = namespace
	m.vars.Canary = m.vars.Target
	m.vars.Name = cmp.Or(m.vars.Name, m.vars.Target)
	m.vars.Service = cmp.Or(m.vars.Service, m.vars.Target)
	if m.vars.Target != "" {
		m.vars.Stable = cmp.Or(m.vars.Stable, m.vars.Target+"-stable")
	}
	if in, rest, ok := strings.Cut(name, "/"); ok {
		namespace, name = in, rest
	}
	if client == nil {
		return m.fromFile(ctx, namespace, name)
	}
	t, err := client.MetricTemplate(ctx, namespace, name)
	return []metric.Template{t}, err
}

// connect opens the API when something has to be read from it.
func (m *metricTest) connect() (*kube.Client, error) {
	if m.client != nil {
		return m.client, nil
	}
	if err := m.api.connect(); err != nil {
		return nil, err
	}
	config, err := m.api.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	m.client, err = kube.NewClient(config, slog.New(slog.DiscardHandler))
	return m.client, err
}

// fromFile reads the MetricTemplates of a file, or the one with a name.
func (m *metricTest) fromFile(ctx context.Context, namespace, name string) ([]metric.Template, error) {
	objects, secrets, err := m.readFile(namespace)
	if err != nil {
		return nil, err
	}
	var found []metric.Template
	for _, object := range objects {
		t, secret, err := kube.DecodeMetricTemplate(object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.file, err)
		}
		if name != "" && t.Name != name {
			continue
		}
		t.Namespace = cmp.Or(t.Namespace, namespace)
		if secret != "" {
			if t.Config.Credentials, err = m.secret(ctx, secrets, t.Namespace, secret); err != nil {
				return nil, fmt.Errorf("MetricTemplate %s: Secret %s is not in %s, and the API does not have it: %w", t.Name, secret, m.file, err)
			}
		}
		found = append(found, t)
	}
	switch {
	case len(found) > 0:
		return found, nil
	case name != "":
		return nil, fmt.Errorf("%s has no MetricTemplate %s", m.file, name)
	default:
		return nil, fmt.Errorf("%s has no MetricTemplate", m.file)
	}
}

// secret takes the data of a Secret from the file, else from the API.
func (m *metricTest) secret(ctx context.Context, inFile map[string]map[string][]byte, namespace, name string) (map[string][]byte, error) {
	if data, ok := inFile[namespace+"/"+name]; ok {
		return data, nil
	}
	client, err := m.connect()
	if err != nil {
		return nil, err
	}
	return client.SecretData(ctx, namespace, name)
}

// readFile returns the MetricTemplates of the file in JSON and the data of its
// Secrets by namespace and name.
func (m *metricTest) readFile(namespace string) (templates [][]byte, secrets map[string]map[string][]byte, err error) {
	var data []byte
	if m.file == "-" {
		data, err = io.ReadAll(m.opts.In)
	} else {
		data, err = os.ReadFile(m.file)
	}
	if err != nil {
		return nil, nil, err
	}
	secrets = map[string]map[string][]byte{}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return templates, secrets, nil
		}
		var object metav1.TypeMeta
		if err == nil {
			err = yaml.Unmarshal(doc, &object)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", m.file, err)
		}
		switch object.Kind {
		case "MetricTemplate":
			object, err := yaml.YAMLToJSON(doc)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", m.file, err)
			}
			templates = append(templates, object)
		case "Secret":
			var s corev1.Secret
			if err := yaml.Unmarshal(doc, &s); err != nil {
				return nil, nil, fmt.Errorf("%s: Secret: values below data are base64, those below stringData are plain", m.file)
			}
			data := map[string][]byte{}
			for k, v := range s.Data {
				data[k] = v
			}
			for k, v := range s.StringData {
				data[k] = []byte(v)
			}
			secrets[cmp.Or(s.Namespace, namespace)+"/"+s.Name] = data
		}
	}
}

// metricResult is what came of one template.
type metricResult struct {
	Template string `json:"template"`
	Provider string `json:"provider,omitempty"` // type and address
	Query    string `json:"query,omitempty"`    // with its placeholders filled in
	Value    any    `json:"value,omitempty"`    // a number, or "+Inf" or "-Inf"
	Range    string `json:"range"`
	Verdict  string `json:"verdict"` // pass, fail or unknown
	Reason   string `json:"reason,omitempty"`

	shown string // the value for people
	code  int
}

// examine asks the provider of a template and judges the answer.
func (m *metricTest) examine(ctx context.Context, t metric.Template) metricResult {
	r := metricResult{Template: t.Namespace + "/" + t.Name, Range: m.accept.String(), Verdict: "unknown", code: exitCannotTell}
	query, err := metric.Render(t.Query, m.vars)
	if err != nil {
		r.Reason = err.Error()
		return r
	}
	r.Query = strings.TrimSpace(query)
	t.Config.Interval = m.vars.Interval
	provider, err := metric.New(t.Config)
	if err != nil {
		r.Reason = err.Error()
		return r
	}
	r.Provider = provider.String()
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	v, err := provider.Query(ctx, query)
	if err != nil {
		r.Reason = err.Error()
		return r
	}
	r.Value, r.shown = v, metric.Number(v)
	if math.IsInf(v, 0) {
		r.Value = r.shown // JSON has no number for it
	}
	switch {
	case !m.accept.Contains(v):
		r.Verdict, r.Reason, r.code = "fail", "the value is not "+m.accept.String(), exitOutOfRange
	case m.accept == metric.Range{}:
		r.Verdict, r.Reason, r.code = "pass", "any value does without --min and --max", 0
	default:
		r.Verdict, r.code = "pass", 0
	}
	return r
}

func (r metricResult) print(w io.Writer, output *outputFlag) error {
	if output.value == "json" {
		return output.print(w, r)
	}
	verdict := map[string]string{"pass": "pass", "fail": "fail", "unknown": "cannot tell"}[r.Verdict]
	if r.Reason != "" {
		verdict += ": " + r.Reason
	}
	for _, line := range [][2]string{
		{"template", r.Template}, {"provider", r.Provider}, {"query", r.Query}, {"value", r.shown}, {"range", r.Range}, {"verdict", verdict},
	} {
		if line[1] == "" {
			continue
		}
		text := strings.ReplaceAll(line[1], "\n", "\n"+strings.Repeat(" ", 11))
		if _, err := fmt.Fprintf(w, "%-10s %s\n", line[0], text); err != nil {
			return err
		}
	}
	return nil
}
