//go:build unix && !linux

package node

import (
	"os"
	"syscall"
)

// childAttributes puts a child into a group of its own. Only Linux can tie its
// life to ours.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// reap waits for the end of the process and kills what is left of its group.
func (p *process) reap() (*os.ProcessState, error) {
	state, err := p.os.Wait()
	p.signal(syscall.SIGKILL)
	return state, err
}

// sweep finds no marked processes: other systems don't show environments.
func sweep(string) int { return 0 }
