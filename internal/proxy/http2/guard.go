package http2

import "time"

const (
	// maxControls is Envoy's default for control frames that wait to be
	// written, max_outbound_control_frames.
	maxControls = 1000
	// maxEmpty DATA or HEADERS frames in a row carry nothing and end nothing.
	// Some clients send one before the end.
	maxEmpty = 10
	// maxIdleFrames in a second, of the kinds that cost us work and move
	// nothing: PRIORITY, SETTINGS, PING, WINDOW_UPDATE and unknown ones. A
	// gRPC client that is busy sends a few per message; a thousand messages a
	// second on one connection are far below.
	maxIdleFrames = 10_000
	// maxResets of streams that were not answered, in a second, beyond the
	// streams that were: who opens and resets, or has us reset by breaking the
	// protocol, makes us work for nothing (CVE-2023-44487, CVE-2025-8671).
	// Browsers cancel tens of images at once.
	maxResets = 200
)

const tooMany = "too many frames that carry nothing"

// guard counts what a peer makes us do for nothing.
type guard struct {
	second time.Time // when the present second began
	idle   int
	resets int
	empty  int
}

// check counts a frame. An error ends the connection.
func (g *guard) check(f *frame, now time.Time) error {
	if g.resets > maxResets { // those of ours are counted when they are sent
		return errResets()
	}
	if now.Sub(g.second) >= time.Second {
		*g = guard{second: now, empty: g.empty}
	}
	switch f.kind {
	case frameData, frameHeaders, frameContinuation:
		return g.message(f)
	case frameReset:
		return nil // takeReset knows what it costs
	case framePriority, frameSettings, framePushPromise, framePing, frameGoAway, frameWindow:
		return g.idler()
	}
	return g.idler() // an extension
}

// message counts frames of messages that say nothing.
func (g *guard) message(f *frame) error {
	endsBlock := f.kind != frameData && f.has(flagEndHeaders)
	if len(f.payload) > 0 || f.has(flagEndStream) || endsBlock {
		g.empty = 0
		return nil
	}
	if g.empty++; g.empty > maxEmpty {
		return &ConnError{Code: EnhanceYourCalm, Reason: "too many empty frames"}
	}
	return nil
}

// idler counts frames that move nothing.
func (g *guard) idler() error {
	if g.idle++; g.idle > maxIdleFrames {
		return &ConnError{Code: EnhanceYourCalm, Reason: tooMany}
	}
	return nil
}

// reset counts a request that its caller gave up before it had an answer.
func (g *guard) reset() error {
	if g.resets++; g.resets > maxResets {
		return errResets()
	}
	return nil
}

func errResets() error {
	return &ConnError{Code: EnhanceYourCalm, Reason: "too many streams are reset"}
}
