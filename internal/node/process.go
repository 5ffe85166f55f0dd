package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// drainOutput is how long the output of a process may take to arrive after it
// ended. Its descendants are dead by then, so only a process that fled to
// another group with a clean environment can hold the pipe longer.
const drainOutput = time.Second

// command is what to start.
type command struct {
	args           []string // args[0] is looked up in the PATH of env
	env            []string
	dir            string    // "": the root directory
	stdout, stderr io.Writer // written by one goroutine each
	// scope, when set, is the marker of everything that must end with the
	// process; see marker.
	scope string
}

// exit is how a process ended.
type exit struct {
	code    int // 128+signal when it was killed, as shells and Kubernetes count
	signal  syscall.Signal
	started time.Time
	ended   time.Time
}

// process is a running command.
type process struct {
	os      *os.Process
	done    chan struct{} // closed when it and its group have ended and all output is written
	exit    exit          // valid after done
	started time.Time
}

// spawner starts processes from one thread that lives as long as the spawner:
// Linux ends a child together with the thread that started it, and Go's
// threads come and go.
type spawner struct {
	work chan func()
}

func newSpawner() *spawner {
	s := &spawner{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for f := range s.work {
			f()
		}
	}()
	return s
}

// close ends the thread. All processes must have ended.
func (s *spawner) close() { close(s.work) }

// start runs the command.
func (s *spawner) start(c command) (*process, error) {
	path, err := lookPath(c.args[0], c.dir, c.env)
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	var output sync.WaitGroup
	files := []*os.File{null}
	var readers []*os.File
	for _, w := range []io.Writer{c.stdout, c.stderr} {
		r, f, err := os.Pipe()
		if err != nil {
			closeAll(append(readers, files[1:]...))
			return nil, fmt.Errorf("open a pipe for the output: %w", err)
		}
		files, readers = append(files, f), append(readers, r)
		output.Go(func() {
			defer r.Close()
			// An error means the pipe was closed after drainOutput.
			_, _ = io.Copy(w, r)
		})
	}
	p := &process{done: make(chan struct{}), started: time.Now()}
	dir := c.dir
	if dir == "" {
		dir = "/"
	}
	started := make(chan error)
	s.work <- func() {
		var err error
		p.os, err = os.StartProcess(path, c.args, &os.ProcAttr{Dir: dir, Env: c.env, Files: files, Sys: childAttributes()})
		started <- err
	}
	err = <-started
	closeAll(files[1:])
	if err != nil {
		output.Wait()
		return nil, startError(c, dir, err)
	}
	go p.wait(c.scope, &output, readers)
	return p, nil
}

// startError says what to change.
func startError(c command, dir string, err error) error {
	if _, statErr := os.Stat(dir); errors.Is(statErr, fs.ErrNotExist) {
		return fmt.Errorf("start %s: workingDir %s does not exist", c.args[0], dir)
	}
	return fmt.Errorf("start %s: %w", c.args[0], err)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// wait follows the process to its end and takes its group with it.
func (p *process) wait(scope string, output *sync.WaitGroup, readers []*os.File) {
	state, err := p.reap()
	p.exit = exit{code: -1, started: p.started, ended: time.Now()}
	if err == nil {
		p.exit.code = state.ExitCode()
		if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			p.exit.signal = ws.Signal()
			p.exit.code = 128 + int(ws.Signal())
		}
	}
	if scope != "" {
		sweep(scope)
	}
	late := time.AfterFunc(drainOutput, func() { closeAll(readers) })
	output.Wait()
	late.Stop()
	close(p.done)
}

// signal sends to the whole process group.
func (p *process) signal(sig syscall.Signal) {
	// It can only fail because the group is gone, which is the aim.
	_ = syscall.Kill(-p.os.Pid, sig)
}

// stop ends the process: SIGTERM, then SIGKILL after grace. It returns when
// the process is gone.
func (p *process) stop(grace time.Duration) {
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return
	case <-timer.C:
	}
	p.signal(syscall.SIGKILL)
	<-p.done
}

// errNoCommand is wrapped by errors about a command that is not there.
var errNoCommand = errors.New("command not found")

// lookPath finds the file of a command as execvp does, with the PATH of env
// and relative to dir.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join("/", dir, path)
		}
		if !isExecutable(path) {
			return "", fmt.Errorf("%w: %s is not an executable file on this machine", errNoCommand, path)
		}
		return path, nil
	}
	var search string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	for _, d := range filepath.SplitList(search) {
		if path := filepath.Join(d, name); filepath.IsAbs(path) && isExecutable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: %s is in no directory of PATH=%s", errNoCommand, name, search)
}

func isExecutable(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}
