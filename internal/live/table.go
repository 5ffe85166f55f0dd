package live

import (
	"slices"
	"strings"
)

// Gaps between columns: the usual one, and that of a table which would not fit
// otherwise.
const (
	usualGap = 3
	tightGap = 2
)

// empty is what stands for nothing.
const empty = "-"

// Table is text in columns, which end where their longest cell does. The zero
// value is ready.
type Table struct {
	// Width is how many columns of a terminal there are; 0: as many as it
	// takes, each row on one line, with nothing left out.
	Width int
	// Long names the columns, by their headings, that are cut in a table which
	// is too wide, the widest first and none below its heading.
	Long []string
	// Below moves the last column of a table which is too wide below its row,
	// wrapped and indented, without its heading and what is empty.
	Below bool

	rows [][]string
}

// Row adds a row; the first one is the heading. An empty cell shows as "-".
func (t *Table) Row(cells ...string) {
	shown := make([]string, len(cells))
	for i, c := range cells {
		if shown[i] = Plain(c); c == "" {
			shown[i] = empty
		}
	}
	t.rows = append(t.rows, shown)
}

// Lines draws the table.
func (t *Table) Lines() []string {
	widths := t.widths()
	if t.Width <= 0 || taken(widths, usualGap) <= t.Width {
		return t.draw(widths, usualGap, false)
	}
	below := t.Below && len(widths) > 1
	if below {
		widths = widths[:len(widths)-1]
	}
	t.narrow(widths)
	return t.draw(widths, tightGap, below)
}

// widths are those of the longest cells.
func (t *Table) widths() []int {
	var widths []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], cells(c))
		}
	}
	return widths
}

// taken is how many columns of a terminal a row takes.
func taken(widths []int, gap int) int {
	n := gap * (len(widths) - 1)
	for _, w := range widths {
		n += w
	}
	return n
}

// narrow takes width from the long columns until a row fits, if they have it.
func (t *Table) narrow(widths []int) {
	for over := taken(widths, tightGap) - t.Width; over > 0; over-- {
		widest := -1
		for i, heading := range t.rows[0][:len(widths)] {
			if slices.Contains(t.Long, heading) && widths[i] > cells(heading) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return // draw cuts what stands at the right
		}
		widths[widest]--
	}
}

// draw cuts the cells to the widths and the rows to the table's. With below
// the last cell of a row, which has no width, follows on lines of its own.
func (t *Table) draw(widths []int, gap int, below bool) []string {
	var out []string
	for i, row := range t.rows {
		var l line
		for j, c := range row[:min(len(row), len(widths))] {
			if j > 0 {
				l = append(l, text(strings.Repeat(" ", gap)))
			}
			l = append(l, text(pad(Cut(c, widths[j]), widths[j])))
		}
		out = append(out, l.render(t.Width, false))
		if !below || i == 0 || len(row) <= len(widths) || row[len(widths)] == empty {
			continue
		}
		for _, l := range wrap(line{text("  ")}, row[len(widths)], t.Width) {
			out = append(out, l.render(t.Width, false))
		}
	}
	return out
}
