package main

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// openTerminal returns both ends of a new pseudo-terminal: that of the person
// and that of the program.
func openTerminal(t *testing.T, width, height uint16) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	fd := int(person.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	resize(t, person, width, height)
	return person, program
}

func resize(t *testing.T, terminal *os.File, width, height uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
}

// recording is everything that a terminal was sent.
type recording struct {
	mu   sync.Mutex
	cond *sync.Cond
	data bytes.Buffer
	over bool
}

func recordOf(r io.Reader) *recording {
	rec := &recording{}
	rec.cond = sync.NewCond(&rec.mu)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			rec.mu.Lock()
			rec.data.Write(buf[:n])
			rec.over = err != nil
			rec.cond.Broadcast()
			rec.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return rec
}

// await returns what was sent since the last call up to and with text.
func (r *recording) await(t *testing.T, text string) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if i := strings.Index(r.data.String(), text); i >= 0 {
			return string(r.data.Next(i + len(text)))
		}
		if r.over {
			t.Fatalf("the terminal was closed before it showed %q; it was sent %q", text, r.data.String())
		}
		r.cond.Wait()
	}
}

func (w *world) testWatchTerminal(t *testing.T) {
	const ns = "watch-terminal"
	w.enter(t, ns, "v2")
	w.status(t, ns, progressing)
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")

	watch := func(width, height uint16) (person, program *os.File, shown *recording, code chan int) {
		person, program = openTerminal(t, width, height)
		code = make(chan int, 1)
		go func() {
			code <- run([]string{"release", "watch", "music"}, genericiooptions.IOStreams{In: program, Out: program, ErrOut: program})
		}()
		return person, program, recordOf(person), code
	}

	t.Run("until the end", func(t *testing.T) {
		_, _, shown, code := watch(80, 24)
		shown.await(t, "\x1b[?25l")
		shown.await(t, "▒▒▒▒▒▒▒▒▒▒▒▒\x1b[0m\x1b[2m░░░░░░░░░░░░\x1b[0m")
		shown.await(t, "12 of about 40 requests")
		w.status(t, ns, endedBy("rolled-back"))
		shown.await(t, "rolled back")
		shown.await(t, "\x1b[?25h")
		if c := <-code; c != exitRolledBack {
			t.Errorf("exit code %d", c)
		}
	})

	w.status(t, ns, progressing)
	t.Run("until Ctrl-C", func(t *testing.T) {
		t.Setenv("NO_COLOR", "1")
		_, program, shown, code := watch(80, 24)
		frame := shown.await(t, "12 of about 40 requests")
		if strings.Contains(frame, "\x1b[1m") {
			t.Errorf("colors in spite of NO_COLOR: %q", frame)
		}
		muted, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if muted.Lflag&unix.ECHO != 0 {
			t.Error("typed keys would show in the picture")
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		shown.await(t, "\x1b[?25h")
		if c := <-code; c != 130 {
			t.Errorf("exit code %d", c)
		}
		after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if after.Lflag&unix.ECHO == 0 {
			t.Error("the terminal was left mute")
		}
	})

	t.Run("in a narrow window that grows", func(t *testing.T) {
		person, _, shown, code := watch(30, 10)
		for _, line := range strings.Split(shown.await(t, "now"), "\r\n") {
			if plain := []rune(unpaint(line)); len(plain) > 30 {
				t.Errorf("%d columns in a window of 30: %q", len(plain), string(plain))
			}
		}
		resize(t, person, 100, 30)
		if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		shown.await(t, "\x1b[2J")
		shown.await(t, "measured 9.8%")
		w.status(t, ns, endedBy("promoted"))
		if c := <-code; c != 0 {
			t.Errorf("exit code %d", c)
		}
	})
}

func (w *world) testPagesInATerminal(t *testing.T) {
	const ns = "pages-terminal"
	const reason = "v1 serves users; v2 was rolled back because it failed where v1 did not, and is not tried again before it is changed"
	w.enter(t, ns, "v2")
	w.status(t, ns, strings.ReplaceAll(strings.ReplaceAll(endedBy("rolled-back"), "so it was decided", reason), "serves users\n", reason+"\n"))
	t.Setenv("TERM", "xterm")
	for command, cut := range map[string]bool{"list": true, "get music": false, "history music": false} {
		t.Run(command, func(t *testing.T) {
			args := append([]string{"release"}, strings.Fields(command)...)
			person, program := openTerminal(t, 80, 24)
			shown := recordOf(person)
			if code := run(args, genericiooptions.IOStreams{In: program, Out: program, ErrOut: program}); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if _, err := program.WriteString("$"); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(unpaint(strings.ReplaceAll(shown.await(t, "$"), "\r\n", "\n")), "\n")
			for _, l := range lines {
				if n := len([]rune(l)); n > 80 {
					t.Errorf("%d columns in a terminal of 80: %q", n, l)
				}
			}
			words := strings.Join(strings.Fields(strings.Join(lines, " ")), " ")
			if whole := strings.Contains(words, reason); whole == cut {
				t.Errorf("the whole reason is shown: %v, want %v\n%s", whole, !cut, strings.Join(lines, "\n"))
			}
			if _, out, _ := serin(t, args...); !strings.Contains(out, reason) {
				t.Errorf("piped, the reason is not on one line:\n%s", out)
			}
		})
	}
}

// unpaint removes control sequences.
func unpaint(s string) string {
	var out strings.Builder
	for s != "" {
		before, rest, found := strings.Cut(s, "\x1b[")
		out.WriteString(strings.TrimPrefix(before, "\r"))
		if !found {
			break
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' && r <= '~' })
		s = rest[end+1:]
	}
	return out.String()
}
