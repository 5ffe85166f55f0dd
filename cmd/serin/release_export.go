package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/apiserver"
	"serin.dev/serin/internal/record"
)

// recordName is the subresource of a Release that its records are read by.
const recordName = "record"

// recordsOf serves GET …/releases/NAME/record?run=N. Like a pod's log, a record
// is too long to be an object, and is a reading of one all the same.
func recordsOf(records *record.Store) apiserver.Subresource {
	return apiserver.Subresource{
		Resource:    schema.GroupVersionResource{Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Resource: "releases"},
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
			return records.Open(namespace, name, run)
		},
	}
}

// record reads the record of a run; 0 is the last.
func (c *releaseClient) record(ctx context.Context, namespace, name string, run int64) ([]byte, error) {
	req := c.rest.Get().Namespace(namespace).Resource("releases").Name(name).SubResource(recordName)
	if run != 0 {
		req.Param("run", strconv.FormatInt(run, 10))
	}
	result := req.Do(ctx)
	data, err := result.Raw()
	var code int
	if result.StatusCode(&code); code == http.StatusNotFound && result.Error() != nil {
		if status, ok := result.Error().(apierrors.APIStatus); ok && status.Status().Details == nil {
			return nil, fmt.Errorf("%s", status.Status().Message)
		}
		return nil, fmt.Errorf("this API keeps no records of releases: 'serin up' does")
	}
	return data, err
}

func (rc *releaseCmds) newExportCmd() *cobra.Command {
	var run int64
	cmd := &cobra.Command{
		Use:   "export NAME",
		Short: "Print the record of a run: every decision with its evidence",
		Long: `Print the record of a run as one JSON document: the plan, what was decided when
and on what evidence, gates, hooks, acknowledgements of the proxies, the measured
split, the cost, and every look at the traffic, so that 'serin release replay'
can decide it all again.`,
		Example: `  serin release export music > music.json
  serin release export music --run 7 | jq '.timeline[].decision.reason'`,
		Args:              exactName,
		ValidArgsFunction: rc.completeNames,
	}
	addRunFlag(cmd, &run)
	output := addOutputFlag(cmd, "json", "yaml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := rc.record(cmd.Context(), args[0], run)
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

// record reads the record of a release's run from the API.
func (rc *releaseCmds) record(ctx context.Context, name string, run int64) (*record.Record, error) {
	if run < 0 {
		return nil, usageErrorf("--run %d: runs are numbered from 1", run)
	}
	client, namespace, err := rc.open()
	if err != nil {
		return nil, err
	}
	data, err := client.record(ctx, namespace, name, run)
	if err != nil {
		return nil, err
	}
	return record.Parse(data)
}
