package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"serin.dev/serin/internal/live"
)

// show makes a followed Release visible.
type show interface {
	// news shows a state that is new, or a new notice.
	news(v live.View) error
	// event shows an event that happened while following; v holds it too.
	event(v live.View, e live.Event) error
	// tick comes at least once a second, without news.
	tick(v live.View) error
	// close leaves the terminal as it was found.
	close() error
}

func newShow(opts *options, output string) (show, error) {
	out, isFile := opts.Out.(*os.File)
	switch {
	case output == "json":
		return jsonShow{json.NewEncoder(opts.Out)}, nil
	case isFile && isTerminal(out) && os.Getenv("TERM") != "dumb":
		return newTerminalShow(opts, out)
	default:
		return &logShow{w: opts.Out}, nil
	}
}

// jsonShow prints each state as one Release object on one line, without what
// only machinery reads.
type jsonShow struct{ enc *json.Encoder }

func (s jsonShow) news(v live.View) error {
	if v.Notice != "" {
		return nil
	}
	r := v.Release.DeepCopy()
	r.ManagedFields, r.Status.Journal = nil, nil
	return s.enc.Encode(r)
}

func (jsonShow) event(live.View, live.Event) error { return nil }
func (jsonShow) tick(live.View) error              { return nil }
func (jsonShow) close() error                      { return nil }

// logShow prints a line per change.
type logShow struct {
	w   io.Writer
	log live.Log
}

func (s *logShow) news(v live.View) error {
	for _, l := range s.log.Lines(v) {
		if _, err := fmt.Fprintln(s.w, l); err != nil {
			return err
		}
	}
	return nil
}

func (s *logShow) event(v live.View, e live.Event) error {
	_, err := fmt.Fprintln(s.w, s.log.Event(v, e))
	return err
}

func (s *logShow) tick(live.View) error { return nil }
func (s *logShow) close() error         { return nil }

// terminalShow redraws the picture in place.
type terminalShow struct {
	screen  live.Screen
	fd      int
	color   bool
	restore func() error
}

func newTerminalShow(opts *options, out *os.File) (*terminalShow, error) {
	s := &terminalShow{
		screen:  live.Screen{W: out},
		fd:      int(out.Fd()),
		color:   colorOn(out),
		restore: func() error { return nil },
	}
	if in, ok := opts.In.(*os.File); ok {
		var err error
		if s.restore, err = live.Mute(in); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *terminalShow) news(v live.View) error                { return s.tick(v) }
func (s *terminalShow) event(v live.View, _ live.Event) error { return s.tick(v) }

func (s *terminalShow) tick(v live.View) error {
	width, height := terminalSize(s.fd)
	v.Width, v.Color = width, s.color
	return s.screen.Draw(v.Lines(), width, height)
}

func (s *terminalShow) close() error {
	err := s.screen.Close()
	if restored := s.restore(); err == nil {
		err = restored
	}
	return err
}
