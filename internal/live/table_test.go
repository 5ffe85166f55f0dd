package live

import (
	"strconv"
	"testing"

	"golang.org/x/tools/txtar"

	"serin.dev/serin/test/story"
)

// TestTableFits holds the tables of testdata/table: each file has a table and
// pictures of it, named by their width.
func TestTableFits(t *testing.T) {
	story.EachArchive(t, "testdata/table/*.txtar", func(t *testing.T, told *txtar.Archive) {
		var table Table
		for i := range told.Files {
			f := &told.Files[i]
			if f.Name == "table.yaml" {
				given := decode[struct {
					Long  []string   `json:"long"`
					Below bool       `json:"below"`
					Rows  [][]string `json:"rows"`
				}](t, f)
				table = Table{Long: given.Long, Below: given.Below}
				for _, row := range given.Rows {
					table.Row(row...)
				}
				continue
			}
			var err error
			if table.Width, err = strconv.Atoi(f.Name); err != nil {
				t.Fatalf("file %q: want a width", f.Name)
			}
			lines := table.Lines()
			for _, l := range lines {
				if table.Width > 0 && cells(l) > table.Width {
					t.Errorf("a line of %d columns at width %d: %q", cells(l), table.Width, l)
				}
			}
			f.Data = visible(lines)
		}
	})
}

func TestTableWithoutRowsIsEmpty(t *testing.T) {
	for _, table := range []Table{{}, {Width: 10, Long: []string{"A"}, Below: true}} {
		if lines := table.Lines(); len(lines) > 0 {
			t.Errorf("drew %q", lines)
		}
	}
}
