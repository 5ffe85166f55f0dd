package node

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// markerVariable is in the environment of every process of a node, and so of
// all its descendants: SERIN_NODE=<node>/<run>/<pod uid>/<container>/. A prefix
// of it names everything within.
const markerVariable = "SERIN_NODE"

func marker(parts ...string) string {
	return markerVariable + "=" + strings.Join(parts, "/") + "/"
}

// nodeID is the same for every start on one data directory, and differs
// between any two directories.
func nodeID(dataDir string) (string, error) {
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return "", err
	}
	return hashText(abs), nil
}

// reaperScript waits until the node has closed its end of standard input, in
// whatever way it ended, and kills all processes that carry the marker. It
// looks until it finds none, because they may fork meanwhile.
//
// It is a shell script, because a second Serin just for waiting would cost
// tens of megabytes.
const reaperScript = `trap '' HUP INT TERM
while read -r _; do :; done
while :; do
  found=
  for file in $(grep -lsF "$1" /proc/[0-9]*/environ); do
    pid=${file#/proc/}
    kill -9 "${pid%/environ}" && found=1
  done
  [ "$found" ] || exit 0
  sleep 0.1
done 2>/dev/null`

// reaper is a child that outlives its node by a moment and ends what the node
// left behind. The kernel ends direct children by itself; the reaper is for
// grandchildren which left their process group.
type reaper struct {
	os   *os.Process
	held io.Closer // closed by us or by the kernel: the node is gone
}

// startReaper starts one for the processes with the marker. It must name one
// run of a node: the next run may start while the reaper is still at work.
// On systems that don't show the environment of other processes it returns nil.
func startReaper(marker string) (*reaper, error) {
	if runtime.GOOS != "linux" {
		return nil, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		w.Close()
		return nil, err
	}
	defer null.Close()
	p, err := os.StartProcess("/bin/sh", []string{"serin-reaper", "-c", reaperScript, "serin-reaper", marker}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/bin:/bin"},
		Files: []*os.File{r, null, null},
		// A session of its own: neither Ctrl-C nor a closed terminal nor a
		// kill of the node's process group reaches it.
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("start the reaper of leftover processes: %w", err)
	}
	return &reaper{os: p, held: w}, nil
}

// close lets the reaper do its work and waits for it.
func (r *reaper) close() error {
	if r == nil {
		return nil
	}
	if err := r.held.Close(); err != nil {
		return err
	}
	_, err := r.os.Wait()
	return err
}
