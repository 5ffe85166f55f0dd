package node

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttributes puts a child into a group of its own and lets the kernel
// kill it when the thread that starts it ends, even by kill -9.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// reap waits for the end of the process and kills what is left of its group.
// The group goes first: until its leader is reaped, the kernel cannot give the
// number to anybody else.
func (p *process) reap() (*os.ProcessState, error) {
	for {
		err := unix.Waitid(unix.P_PID, p.os.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.signal(syscall.SIGKILL)
	return p.os.Wait()
}

// sweep kills every process whose environment carries the marker or a longer
// one, and returns how many it killed. It looks again until it finds none,
// because a process may fork while it looks.
func sweep(marker string) int {
	killed := map[int]bool{}
	for {
		found := false
		for _, pid := range marked(marker) {
			if killed[pid] {
				continue // it is on its way out
			}
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed[pid], found = true, true
			}
		}
		if !found {
			return len(killed)
		}
	}
}

// marked lists the processes with the marker, except for this one.
func marked(marker string) []int {
	// The pattern is well-formed, and /proc can only be missing as a whole.
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	entry := []byte(marker)
	var pids []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(dir + "/environ")
		if err != nil {
			continue // it ended meanwhile, or belongs to somebody else
		}
		for e := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.HasPrefix(e, entry) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}
