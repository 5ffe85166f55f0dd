package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/internal/experiment"
	"serin.dev/serin/internal/live"
	"serin.dev/serin/internal/record"
	"serin.dev/serin/internal/rollout"
)

// recordName is the subresource of a Release or an Experiment that its records
// are read by.
const recordName = "record"

// resourceOf is how the API calls the objects of a kind.
func resourceOf(k record.Kind) string { return string(k) + "s" }

// recordsOf serves GET …/releases/NAME/record?run=N, and …/experiments/…. Like a
// pod's log, a record is too long to be an object, and is a reading of one all
// the same.
func recordsOf(records *record.Store) []apiserver.Subresource {
	return []apiserver.Subresource{recordsOfKind(record.Release, records), recordsOfKind(record.Experiment, records)}
}

func recordsOfKind(k record.Kind, records *record.Store) apiserver.Subresource {
	return apiserver.Subresource{
		Resource:    v1alpha1.GroupVersion.WithResource(resourceOf(k)),
		Name:        recordName,
		ContentType: "application/jsonl",
		Open: func(_ context.Context, namespace, name string, query url.Values) (io.ReadCloser, error) {
			run := int64(0)
			if text := query.Get("run"); text != "" {
				var err error
				if run, err = strconv.ParseInt(text, 10, 64); err != nil || run < 1 {
					return nil, apierrors.NewBadRequest(fmt.Sprintf("run=%s: runs are numbered from 1", text))
				}
			}
			return records.Open(k, namespace, name, run)
		},
	}
}

// record reads the record of a run; 0 is the last.
func (c *releaseClient) record(ctx context.Context, k record.Kind, namespace, name string, run int64) ([]byte, error) {
	req := c.rest.Get().Namespace(namespace).Resource(resourceOf(k)).Name(name).SubResource(recordName)
	if run != 0 {
		req.Param("run", strconv.FormatInt(run, 10))
	}
	result := req.Do(ctx)
	data, err := result.Raw()
	var code int
	if result.StatusCode(&code); code == http.StatusNotFound && result.Error() != nil {
		if status, ok := result.Error().(apierrors.APIStatus); ok && status.Status().Details == nil {
			if err := c.rest.Get().Namespace(namespace).Resource(resourceOf(k)).Name(name).Do(ctx).Error(); apierrors.IsNotFound(err) {
				return nil, err // a name that is misspelt, most likely
			}
			return nil, fmt.Errorf("%s", status.Status().Message)
		}
		return nil, fmt.Errorf("this API keeps no records of %s: 'serin up' does", resourceOf(k))
	}
	return data, err
}

// exportCmd makes cmd print the record of a run as one document.
func (rc *releaseCmds) exportCmd(k record.Kind, cmd *cobra.Command) *cobra.Command {
	var run int64
	addRunFlag(cmd, &run)
	output := addOutputFlag(cmd, "json", "yaml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := rc.record(cmd.Context(), k, args[0], run)
		if err != nil {
			return err
		}
		doc, err := record.Export(r)
		if err != nil {
			return err
		}
		if output.value == "" {
			output.value = "json"
		}
		return output.print(rc.opts.Out, doc)
	}
	return cmd
}

func addRunFlag(cmd *cobra.Command, run *int64) {
	cmd.Flags().Int64Var(run, "run", 0, "number of the run (default: the last one)")
}

// replayCmd makes cmd read the record of a run, from the API or a file, and give
// it to replay.
func (rc *releaseCmds) replayCmd(k record.Kind, cmd *cobra.Command, replay func(*record.Record) error) *cobra.Command {
	var file string
	var run int64
	cmd.Flags().StringVarP(&file, "filename", "f", "", fmt.Sprintf("file with a record, as 'serin %s export' prints it; - for standard input", k))
	addRunFlag(cmd, &run)
	one := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case file == "" && len(args) == 0:
			return fmt.Errorf("%w, or the file of a record with -f", one(cmd, args))
		case file != "" && len(args) > 0:
			return fmt.Errorf("name the %s, or the file of a record, not both", k)
		case file != "":
			return nil
		}
		return one(cmd, args)
	}
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error {
		if file != "" {
			return nil // a file needs no API
		}
		return rc.api.connect()
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := rc.recordFrom(cmd.Context(), k, file, strings.Join(args, ""), run)
		if err != nil {
			return err
		}
		return replay(r)
	}
	return cmd
}

// record reads the record of a run from the API.
func (rc *releaseCmds) record(ctx context.Context, k record.Kind, name string, run int64) (*record.Record, error) {
	if run < 0 {
		return nil, usageErrorf("--run %d: runs are numbered from 1", run)
	}
	client, namespace, err := rc.open()
	if err != nil {
		return nil, err
	}
	data, err := client.record(ctx, k, namespace, name, run)
	if err != nil {
		return nil, err
	}
	return record.Parse(data)
}

// recordFrom reads a record from a file or, without one, from the API.
func (rc *releaseCmds) recordFrom(ctx context.Context, k record.Kind, file, name string, run int64) (*record.Record, error) {
	if file == "" {
		return rc.record(ctx, k, name, run)
	}
	if run != 0 {
		return nil, usageErrorf("--run: a file holds one run")
	}
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(rc.opts.In)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	r, err := record.Parse(data)
	if err == nil && r.Kind() != k {
		err = fmt.Errorf("this is the record of %s %s: use 'serin %s replay'", r.Kind(), r.Name(), r.Kind())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// replayRun prints whether a run is decided now as it was then.
func replayRun(w io.Writer, r *record.Record) error {
	got, err := decideAgain(r)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("run %d of %s", r.Run, r.Name())
	if r.Uncompared {
		fmt.Fprintln(w, "The document is of an older Serin: its lines are replayed, and what else it says is not compared with them.")
	}
	if r.Lost > 0 {
		fmt.Fprintf(w, "%d lines of the record were lost in a crash; the rest is replayed.\n", r.Lost)
	}
	if r.Unwritten > 0 {
		fmt.Fprintf(w, "Looks that could not be written: %d; the rest is replayed.\n", r.Unwritten)
	}
	if r.Cut != "" {
		fmt.Fprintf(w, "%s.\n", upperFirst(r.Cut))
	}
	if d := got.First; d != nil {
		fmt.Fprintf(w, "%s: %d decisions are the same, then another %s at %s:\n  recorded: %s\n  now:      %s\n",
			name, got.Decisions, strings.Join(d.What, ", "), d.At.Format(time.RFC3339Nano), live.Plain(d.Recorded.String()), live.Plain(d.Now.String()))
		return &exitError{code: exitFailure}
	}
	if got.End != "" {
		fmt.Fprintf(w, "%s: %d looks, %d decisions, all the same, but %s.\n", name, got.Looks, got.Decisions, got.End)
		return &exitError{code: exitFailure}
	}
	open := ""
	if r.End == nil {
		open = " The run had not ended, or its end could not be written."
	}
	_, err = fmt.Fprintf(w, "%s: %d looks, %d decisions, all the same.%s\n", name, got.Looks, got.Decisions, open)
	return err
}

// decideAgain replays a record with the rules of today.
func decideAgain(r *record.Record) (*record.Replayed, error) {
	switch r.Kind() {
	case record.Release:
		return record.Replay(r, rollout.Step)
	case record.Experiment:
		return record.ReplayExperiment(r, experiment.Step)
	}
	return nil, errors.New("the record is of nothing that is known here")
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
