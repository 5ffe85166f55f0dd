package apiserver

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"

	"k8s.io/klog/v2"
)

// MemoryLimit is the soft limit TuneProcess sets. The Go runtime lets a heap
// double before it collects; the schemas a server holds make up most of its
// heap, live long and need no such room.
const MemoryLimit = 96 << 20

// TuneProcess sets what belongs to a process rather than to a server: the log
// of the Kubernetes libraries goes to logger at level debug, and the garbage
// collector keeps the heap near MemoryLimit, unless the environment sets
// GOMEMLIMIT. Call it once, early in main; it is not safe beside running
// servers.
func TuneProcess(logger *slog.Logger) {
	klog.SetSlogLogger(slog.New(quietHandler{logger.Handler()}))
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(MemoryLimit)
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
