package live

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"

	"serin.dev/serin/api/v1alpha1"
)

// paint is a way to draw the eye, as the parameters of the terminal's SGR
// sequence.
type paint string

const (
	plain  paint = ""
	bold   paint = "1"
	dim    paint = "2"
	red    paint = "31"
	green  paint = "32"
	yellow paint = "33"
	cyan   paint = "36"
)

// span is a run of text in one paint. Text holds no control characters.
type span struct {
	text  string
	paint paint
}

// line is one line of a view; it knows its paint apart from its text so that
// it can be cut to a width.
type line []span

func text(s string) span              { return span{Plain(s), plain} }
func painted(p paint, s string) span  { return span{Plain(s), p} }
func (l line) with(more ...span) line { return append(l[:len(l):len(l)], more...) }

// cells is how many columns of a terminal the line takes.
func (l line) cells() int {
	n := 0
	for _, s := range l {
		n += cells(s.text)
	}
	return n
}

// render cuts the line to a width in columns (0: uncut) and paints it if
// color is on.
func (l line) render(width int, color bool) string {
	if width > 0 && l.cells() > width {
		l = l.cut(width)
	}
	var b strings.Builder
	for _, s := range l {
		if !color || s.paint == plain || s.text == "" {
			b.WriteString(s.text)
			continue
		}
		b.WriteString("\x1b[" + string(s.paint) + "m" + s.text + "\x1b[0m")
	}
	return strings.TrimRight(b.String(), " ")
}

// cut keeps width-1 columns and marks the cut.
func (l line) cut(width int) line {
	left := width - 1
	var out line
	for _, s := range l {
		kept := 0
		for i, r := range s.text {
			if cellsOf(r) > left {
				return append(out, span{s.text[:i] + "…", s.paint})
			}
			left -= cellsOf(r)
			kept = i + utf8.RuneLen(r)
		}
		out = append(out, span{s.text[:kept], s.paint})
	}
	return out
}

// Cut shortens s to a width in columns and marks the cut.
func Cut(s string, width int) string { return line{text(s)}.render(width, false) }

// wrap breaks body between words so that it fits the width after head, which
// begins the first line and has its width left blank in the others. Width 0
// breaks nothing. A word that is longer than the rest of a line is cut there.
func wrap(head line, body string, width int) []line {
	body = Plain(body)
	indent := head.cells()
	room := width - indent
	if width <= 0 || cells(body) <= room || room < 20 {
		return []line{head.with(span{body, plain})}
	}
	var lines []line
	rest := ""
	flush := func() {
		if len(lines) == 0 {
			lines = append(lines, head.with(span{rest, plain}))
		} else {
			lines = append(lines, line{span{strings.Repeat(" ", indent) + rest, plain}})
		}
		rest = ""
	}
	for word := range strings.FieldsSeq(body) {
		if rest != "" && cells(rest)+1+cells(word) > room {
			flush()
		}
		if rest != "" {
			rest += " "
		}
		rest += word
	}
	flush()
	return lines
}

func cells(s string) int {
	n := 0
	for _, r := range s {
		n += cellsOf(r)
	}
	return n
}

func cellsOf(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case width.LookupRune(r).Kind() == width.EastAsianWide, width.LookupRune(r).Kind() == width.EastAsianFullwidth:
		return 2
	default:
		return 1
	}
}

// Plain makes text from outside safe to print on one line: control and format
// characters (a path that a client sent can hold escape sequences) and broken
// UTF-8 become "�", line breaks and tabs a space.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return utf8.RuneError
		default:
			return r
		}
	}, s)
}

// pad fills s up to n columns on the right.
func pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-cells(s))) }

// padLeft fills s up to n columns on the left.
func padLeft(s string, n int) string { return strings.Repeat(" ", max(0, n-cells(s))) + s }

// Percent writes a share that has its sign or not, "0" without any.
func Percent(share string) string {
	share = strings.TrimSuffix(share, "%")
	if share == "" {
		share = "0"
	}
	return share + "%"
}

// measured writes a measured share; "" without traffic.
func measured(s v1alpha1.Split) string {
	if s.Measured == "" {
		return ""
	}
	return s.Measured + "%"
}

// Rate writes the share of failures in percent with the digits that matter;
// "-" without requests.
func Rate(c v1alpha1.Count) string {
	if c.Requests <= 0 {
		return "-"
	}
	p := 100 * float64(c.Failures) / float64(c.Requests)
	switch {
	case c.Failures <= 0:
		return "0%"
	case c.Failures >= c.Requests:
		return "100%"
	case p < 0.01:
		return "<0.01%"
	case p < 10:
		return strconv.FormatFloat(p, 'f', 2, 64) + "%"
	default:
		return strconv.FormatFloat(min(p, 99.9), 'f', 1, 64) + "%"
	}
}

// number writes n with its thousands apart.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count writes n things: "1 request", "2 requests".
func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}

// Span writes a duration with two units at most: "340ms", "3.1s", "8m12s",
// "2h".
func Span(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Hour:
		return dropZeros(d.Round(time.Second).String())
	default:
		return dropZeros(d.Round(time.Minute).String())
	}
}

// dropZeros removes the units at the end that are zero: "2h0m0s" is "2h".
func dropZeros(s string) string {
	if whole, ok := strings.CutSuffix(s, "m0s"); ok {
		s = whole + "m"
	}
	if whole, ok := strings.CutSuffix(s, "h0m"); ok {
		s = whole + "h"
	}
	return s
}

// VersionNames names two versions as people do, by label, and adds what tells
// them apart where the labels are the same. An absent version is "".
func VersionNames(a, b v1alpha1.Version) (string, string) {
	x, y := VersionName(a), VersionName(b)
	if x == y && x != "" && a.Revision != b.Revision {
		return x + "@" + short(a.Revision), y + "@" + short(b.Revision)
	}
	return x, y
}

// VersionName names one version: its label, else image, else revision.
func VersionName(v v1alpha1.Version) string {
	switch {
	case v.Label != "":
		return v.Label
	case v.Image != "":
		return v.Image
	default:
		return short(v.Revision)
	}
}

func short(revision string) string { return revision[:min(7, len(revision))] }
