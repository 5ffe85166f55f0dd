package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"serin.dev/serin/internal/live"
)

// table prints aligned columns; an empty cell shows as "-".
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)} }

func (t table) row(cells ...string) {
	shown := make([]string, len(cells))
	for i, c := range cells {
		if shown[i] = live.Plain(c); c == "" {
			shown[i] = "-"
		}
	}
	fmt.Fprintln(t.w, strings.Join(shown, "\t"))
}

func (t table) flush() error { return t.w.Flush() }
