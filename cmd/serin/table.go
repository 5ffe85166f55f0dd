package main

import (
	"fmt"
	"io"
	"strings"

	"serin.dev/serin/internal/live"
)

// table is a live.Table that is printed when it is whole.
type table struct {
	live.Table
	w io.Writer
}

func newTable(w io.Writer) *table { return &table{w: w} }

func (t *table) row(cells ...string) { t.Row(cells...) }

func (t *table) flush() error { return printLines(t.w, t.Lines()) }

// printLines prints in one write.
func printLines(w io.Writer, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}
