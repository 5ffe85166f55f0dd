package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// errTimeout is within the cause for which a limited context ended.
var errTimeout = errors.New("timed out")

// interruptible returns a context that Ctrl-C, SIGTERM, a closed terminal and the timeout end
// (0: none). Its cause is then an error to end the process with.
func interruptible(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case s := <-signals:
			code := 128 + int(syscall.SIGINT) // as a shell reports it
			if number, ok := s.(syscall.Signal); ok {
				code = 128 + int(number)
			}
			cancel(&exitError{code: code})
		case <-ctx.Done():
		}
	}()
	stop := func() {
		signal.Stop(signals)
		cancel(nil)
	}
	if timeout <= 0 {
		return ctx, stop
	}
	limited, cancelLimit := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w after %v", errTimeout, timeout))
	return limited, func() { cancelLimit(); stop() }
}

// outlivePipes lets the process go on when whoever reads its output leaves: a
// write then fails with EPIPE, where Go would end the process for a write to
// standard output. The signal is taken and not ignored, since the programs that
// are started would inherit that.
func outlivePipes() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
