package live

import (
	"io"
	"slices"
	"strconv"
	"strings"
)

// Control sequences (ECMA-48 and DEC private modes).
const (
	hideCursor  = "\x1b[?25l"
	showCursor  = "\x1b[?25h"
	beginUpdate = "\x1b[?2026h" // show nothing of a half-drawn picture; ignored where unknown
	endUpdate   = "\x1b[?2026l"
	clearAll    = "\x1b[H\x1b[2J"
	clearLine   = "\x1b[K" // from the cursor to the end of the line
	clearBelow  = "\x1b[J"
)

// Screen redraws a block of lines in place at the bottom of a terminal's
// output; what was printed before stays above it. The zero value with W set is
// ready. It is not safe for concurrent use.
type Screen struct {
	W io.Writer

	drawn         []string // the picture that the terminal shows
	width, height int
}

// Draw replaces the picture. The lines must fit the width; those beyond the
// height are left out. Each picture is one write, and an unchanged one none.
func (s *Screen) Draw(lines []string, width, height int) error {
	resized := s.drawn != nil && (width != s.width || height != s.height)
	lines = slices.Clone(lines[:min(len(lines), max(1, height))])
	if !resized && slices.Equal(lines, s.drawn) {
		return nil
	}
	var b strings.Builder
	b.WriteString(beginUpdate)
	switch {
	case s.drawn == nil:
		b.WriteString(hideCursor)
	case resized:
		// Terminals differ in how they wrap old lines anew, so where the
		// old picture begins is not known any more.
		b.WriteString(clearAll)
	case len(s.drawn) > 1:
		b.WriteString("\x1b[" + strconv.Itoa(len(s.drawn)-1) + "A")
	}
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("\r" + l + clearLine)
	}
	b.WriteString(clearBelow + endUpdate)
	s.drawn, s.width, s.height = lines, width, height
	_, err := io.WriteString(s.W, b.String())
	return err
}

// Close leaves the last picture where it is and gives the cursor back. The
// Screen may be drawn on again, below.
func (s *Screen) Close() error {
	if s.drawn == nil {
		return nil
	}
	s.drawn = nil
	_, err := io.WriteString(s.W, "\r\n"+showCursor)
	return err
}
