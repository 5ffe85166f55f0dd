// Command serin releases new versions of services safely, and is its own
// light mesh while it does so. One binary is the server (serin up), the
// command line for it and the small programs it starts.
//
// This package sees every other one and decides nothing: a subcommand reads
// its flags, calls the package that knows, and prints. There is one file per
// subcommand. Read next: root.go (what commands there are) and up.go (how the
// loop is wired).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// Exit codes, besides 0.
const (
	exitFailure    = 1 // it did not work; the reason is on standard error
	exitUsage      = 2 // the command line is wrong; nothing was done
	exitRolledBack = 3 // release watch: the run did not end in a promotion
)

func main() {
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	// The object commands end the process themselves; make them speak as
	// the others do.
	cmdutil.BehaviorOnFatal(func(msg string, code int) {
		sayError(streams.ErrOut, msg)
		os.Exit(code)
	})
	os.Exit(run(os.Args[1:], streams))
}

// run executes one command line and returns the exit code.
func run(args []string, streams genericiooptions.IOStreams) int {
	root := newRootCmd(&options{IOStreams: streams})
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	if msg, ok := cmdutil.StandardErrorMessage(err); ok {
		err = errors.New(msg)
	}
	sayError(streams.ErrOut, err.Error())
	if coded, ok := errors.AsType[*exitError](err); ok {
		return coded.code
	}
	return exitFailure
}

// exitError ends the process with a code other than exitFailure. An empty
// message says nothing: what there was to say has been printed.
type exitError struct {
	code int
	msg  string
}

func (e *exitError) Error() string { return e.msg }

func usageErrorf(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Sprintf(format, args...)}
}

// sayError prints msg in the one form that all commands share.
func sayError(w io.Writer, msg string) {
	msg = strings.TrimSpace(msg)
	if msg == "" {
		return
	}
	for _, prefix := range []string{"error: ", "Error from server"} {
		if strings.HasPrefix(msg, prefix) {
			fmt.Fprintln(w, msg)
			return
		}
	}
	fmt.Fprintln(w, "error: "+msg)
}
