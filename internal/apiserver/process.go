package apiserver

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"

	"k8s.io/klog/v2"
)

// startGCPercent is how much the heap may grow before it is collected while
// everything starts. Schemas are read then, converted and kept, and most of a
// collection would find that the heap has grown: with the runtime's usual 100, a
// third of a start is collecting. It costs some 60 MB for a second.
const startGCPercent = 400

// settledGCPercent is how much a settled heap may grow before it is collected.
// Most of a server's heap are schemas, which live as long as it does, so the
// runtime's usual 100 would hold as much again for nothing. 30 % of that leaves
// room for seconds of ordinary work. A fixed limit instead would make the
// collector run all the time as soon as the objects of a user outgrow it.
const settledGCPercent = 30

// busyGCPercent is the same while there is work that makes garbage all the time:
// the runtime's usual. A release with 200 requests a second has the heap collected
// once or twice a second at 30 %, which is a fifth of all the processor that it
// takes, and every six seconds at 100 %, for 40 MB more.
const busyGCPercent = 100

// TuneProcess sends the log of the Kubernetes libraries to logger at level
// debug. Call it once, early in main; it is not safe beside running servers.
func TuneProcess(logger *slog.Logger) {
	klog.SetSlogLogger(slog.New(quietHandler{logger.Handler()}))
}

// GrowMemory lets the heap grow while a server starts, unless the environment
// sets GOGC or GOMEMLIMIT. SettleMemory ends that.
func GrowMemory() { setGCPercent(startGCPercent) }

// SettleMemory gives back what starting up took, and keeps the heap near what
// lives in it from then on, unless the environment sets GOGC or GOMEMLIMIT.
// Call it when everything is up. It does not wait for what it begins.
func SettleMemory() {
	setGCPercent(settledGCPercent)
	go debug.FreeOSMemory() // takes a moment, and nobody waits for it
}

// BusyMemory lets the heap of a settled server grow as usual while it is busy,
// and settles it again when it is not any more, unless the environment sets GOGC
// or GOMEMLIMIT.
func BusyMemory(busy bool) {
	if !busy {
		SettleMemory()
		return
	}
	setGCPercent(busyGCPercent)
}

// setGCPercent leaves the collector alone where the environment has its say.
func setGCPercent(percent int) {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(percent)
	}
}

// quietHandler turns every level into debug. The libraries log as errors what
// is retried a moment later, and return what is not.
type quietHandler struct{ slog.Handler }

func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	// Libraries' own debug output (klog's -v=4 and above) stays off.
	return level >= slog.LevelInfo && h.Handler.Enabled(ctx, slog.LevelDebug)
}

func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	if !h.Handler.Enabled(ctx, slog.LevelDebug) {
		return nil // klog hands errors on without asking Enabled
	}
	r.AddAttrs(slog.String("level", r.Level.String()))
	r.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, r)
}

func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs)}
}

func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}
