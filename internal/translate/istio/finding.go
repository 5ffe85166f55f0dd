package istio

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"serin.dev/serin/internal/mesh"
)

// Finding is something a user should know about an object.
type Finding struct {
	Severity Severity
	Origin   mesh.Origin
	Path     string // such as "spec.http[0].route[1].weight"; "" = the object
	Message  string // what is wrong and what to change, in one line
}

// Severity of a finding. The zero value is Error.
type Severity uint8

// The severities.
const (
	Error   Severity = iota // the object is wrong and is not applied as it is
	Warning                 // applied, but not all of it has an effect
)

// String names the severity.
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// String writes the finding in one line.
func (f Finding) String() string {
	path := ""
	if f.Path != "" {
		path = f.Path + ": "
	}
	return fmt.Sprintf("%s: %s: %s%s", f.Severity, f.Origin, path, f.Message)
}

// Errors returns the findings that are Errors.
func Errors(findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Severity != Error })
}

// report collects the findings of one object.
type report struct {
	origin   mesh.Origin
	findings []Finding
}

func (r *report) errorf(path, format string, args ...any) {
	r.add(Error, path, fmt.Sprintf(format, args...))
}

func (r *report) warnf(path, format string, args ...any) {
	r.add(Warning, path, fmt.Sprintf(format, args...))
}

// add keeps a finding in one line, whatever the user wrote.
func (r *report) add(s Severity, path, message string) {
	printable := func(c rune) rune {
		if unicode.IsControl(c) {
			return '\ufffd'
		}
		return c
	}
	r.findings = append(r.findings, Finding{s, r.origin, strings.Map(printable, path), strings.Map(printable, message)})
}

func (r *report) failed() bool {
	return slices.ContainsFunc(r.findings, func(f Finding) bool { return f.Severity == Error })
}

// failedBelow reports whether there is an Error at the path or below it.
func (r *report) failedBelow(path string) bool {
	return slices.ContainsFunc(r.findings, func(f Finding) bool { return f.Severity == Error && strings.HasPrefix(f.Path, path) })
}

// at joins the parts of a path.
func at(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// sortFindings orders findings by object; within one, as they were found.
func sortFindings(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(a.Origin.Compare(b.Origin), cmp.Compare(a.Severity, b.Severity))
	})
}

// didYouMean returns ` (did you mean "x"?)` for the known name closest to the
// wrong one, or "" when none is close enough to be meant: one slip for every
// three letters that were written. full is the name as the known ones are.
func didYouMean(written, full string, known []string) string {
	best, nearest := len(written)/3+1, ""
	for _, name := range slices.Sorted(slices.Values(known)) {
		if d := distance(full, name); d < best {
			best, nearest = d, name
		}
	}
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", nearest)
}

// distance counts the slips between two names: a byte too many, missing or
// wrong, or two neighbours swapped (optimal string alignment).
func distance(a, b string) int {
	before := make([]int, len(b)+1) // two rows up
	above := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			wrong := above[j]
			if a[i] != b[j] {
				wrong++
			}
			row[j+1] = min(wrong, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// listed writes names for a message: "v1, v2", or "none".
func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(slices.Values(names)), ", ")
}
