package live

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// terminal understands what Screen writes, as a terminal without reflow does.
type terminal struct {
	width, height int
	rows          []string
	row, col      int
	cursorHidden  bool
	writes        int
}

func newTerminal(width, height int) *terminal {
	return &terminal{width: width, height: height, rows: make([]string, height)}
}

func (t *terminal) Write(p []byte) (int, error) {
	t.writes++
	s := string(p)
	for s != "" {
		switch {
		case strings.HasPrefix(s, "\x1b["):
			end := strings.IndexFunc(s[2:], func(r rune) bool { return r >= '@' && r <= '~' }) + 2
			t.obey(s[2:end], s[end])
			s = s[end+1:]
		case s[0] == '\r':
			t.col, s = 0, s[1:]
		case s[0] == '\n':
			t.row, s = t.row+1, s[1:]
			if t.row == t.height {
				t.rows, t.row = append(t.rows[1:], ""), t.row-1
			}
		default:
			next := strings.IndexAny(s, "\x1b\r\n")
			if next < 0 {
				next = len(s)
			}
			for _, r := range s[:next] {
				line := []rune(pad(t.rows[t.row], t.col+1))
				line[t.col] = r
				t.rows[t.row] = string(line)
				t.col++
			}
			s = s[next:]
		}
	}
	return len(p), nil
}

func (t *terminal) obey(params string, final byte) {
	n, err := strconv.Atoi(params)
	if err != nil {
		n = 1
	}
	switch final {
	case 'A':
		t.row = max(0, t.row-n)
	case 'H':
		t.row, t.col = 0, 0
	case 'J':
		if params == "2" {
			clear(t.rows)
			return
		}
		t.rows[t.row] = string([]rune(pad(t.rows[t.row], t.col))[:t.col])
		clear(t.rows[t.row+1:])
	case 'K':
		t.rows[t.row] = string([]rune(pad(t.rows[t.row], t.col))[:t.col])
	case 'h', 'l':
		if params == "?25" {
			t.cursorHidden = final == 'l'
		}
	}
}

// shown is what a person sees, without the empty end.
func (t *terminal) shown() []string {
	rows := strings.TrimRight(strings.Join(t.rows, "\n"), "\n")
	return strings.Split(rows, "\n")
}

func TestScreenRedrawsInPlaceBelowWhatWasThere(t *testing.T) {
	term := newTerminal(20, 8)
	if _, err := term.Write([]byte("$ serin\r\n")); err != nil {
		t.Fatal(err)
	}
	s := Screen{W: term}
	show := func(lines ...string) {
		t.Helper()
		if err := s.Draw(lines, 20, 8); err != nil {
			t.Fatal(err)
		}
		want := append([]string{"$ serin"}, lines...)
		if diff := cmp.Diff(want, term.shown()); diff != "" {
			t.Fatalf("after drawing %q (-want +shown):\n%s", lines, diff)
		}
		if !term.cursorHidden {
			t.Error("the cursor blinks in the picture")
		}
	}
	show("one", "two long", "three")
	show("one", "two", "three", "four")
	show("1")
	show("1", "", "3")

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := term.Write([]byte("$ ")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"$ serin", "1", "", "3", "$ "}, term.shown()); diff != "" {
		t.Errorf("after closing (-want +shown):\n%s", diff)
	}
	if term.cursorHidden {
		t.Error("the cursor was not given back")
	}
}

func TestScreenScrollsUpAtTheBottomOfTheTerminal(t *testing.T) {
	term := newTerminal(20, 4)
	if _, err := term.Write([]byte("a\r\nb\r\nc\r\n")); err != nil {
		t.Fatal(err)
	}
	s := Screen{W: term}
	for _, picture := range [][]string{{"1", "2", "3"}, {"x", "y", "z"}, {"1", "2", "3", "4", "cut off"}} {
		if err := s.Draw(picture, 20, 4); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"1", "2", "3", "4"}, term.shown()); diff != "" {
		t.Errorf("(-want +shown):\n%s", diff)
	}
}

func TestScreenBeginsAnewWhenTheTerminalWasResized(t *testing.T) {
	term := newTerminal(20, 6)
	s := Screen{W: term}
	if err := s.Draw([]string{"a wide line"}, 20, 6); err != nil {
		t.Fatal(err)
	}
	// A terminal that wraps anew has moved the picture.
	term.rows = []string{"a wid", "e lin", "e", "", "", ""}
	term.row, term.col = 2, 1
	if err := s.Draw([]string{"a wi…"}, 5, 6); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a wi…"}, term.shown()); diff != "" {
		t.Errorf("(-want +shown):\n%s", diff)
	}
}

func TestScreenWritesEachPictureOnceAndAtOnce(t *testing.T) {
	term := newTerminal(20, 6)
	s := Screen{W: term}
	for _, picture := range [][]string{{"1", "2"}, {"1", "2"}, {"1", "3"}} {
		if err := s.Draw(picture, 20, 6); err != nil {
			t.Fatal(err)
		}
	}
	if term.writes != 2 {
		t.Errorf("%d writes for two different pictures", term.writes)
	}
}
