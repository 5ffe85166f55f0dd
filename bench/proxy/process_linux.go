package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// group is a program, with all processes it starts, on one core.
type group struct {
	cmd *exec.Cmd
	log *bytes.Buffer // what it said; read only after it ended
	end chan struct{} // closed then
	err error
}

// start runs a program on one core, in dir. The files become its descriptors
// from 3 on.
func start(core int, dir string, files []*os.File, program string, args ...string) (*group, error) {
	g := &group{cmd: exec.Command(program, args...), log: &bytes.Buffer{}, end: make(chan struct{})}
	g.cmd.Dir, g.cmd.ExtraFiles = dir, files
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	g.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	// A group of its own to sum over. When we die it is asked to end, not killed:
	// a master then ends its workers.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := startOn(core, g.cmd); err != nil {
		return nil, err
	}
	go func() {
		g.err = g.cmd.Wait()
		close(g.end)
	}()
	return g, nil
}

// startOn starts a program from a thread that has moved to the core: affinity
// is inherited. The thread moves back.
func startOn(core int, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var ours unix.CPUSet
	if err := unix.SchedGetaffinity(0, &ours); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, only(core)); err != nil {
		return err
	}
	return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &ours))
}

// moveTo moves every thread of this process, and so all that it starts later,
// to one core.
func moveTo(core int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, only(core)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// cores returns the two that this process may use: one for the proxy, one for
// the load. Where there is but one, it is both.
func cores() (proxy, load int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, err
	}
	var found []int
	for core := 0; len(found) < min(2, set.Count()); core++ {
		if set.IsSet(core) {
			found = append(found, core)
		}
	}
	return found[0], found[len(found)-1], nil
}

// busyElsewhere returns which share of the machine's cores was busy while
// nothing of ours ran, over a moment.
func busyElsewhere() (float64, error) {
	busy, all, err := coreTime()
	if err != nil {
		return 0, err
	}
	time.Sleep(500 * time.Millisecond) // 50 ticks of a core
	busyThen, allThen, err := coreTime()
	return (busyThen - busy) / (allThen - all), err
}

// coreTime returns how long the cores were busy so far, and how long in all,
// in ticks of all cores together.
func coreTime() (busy, all float64, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line)[1:] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, err
		}
		const idle, waiting, guest = 3, 4, 8 // what guests used is in the others, too
		if i < guest {
			all += ticks
		}
		if i < guest && i != idle && i != waiting {
			busy += ticks
		}
	}
	return busy, all, nil
}

func only(core int) *unix.CPUSet {
	var set unix.CPUSet
	set.Set(core)
	return &set
}

// stop ends the group and waits for it.
func (g *group) stop() {
	if err := syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		panic(fmt.Sprintf("kill own child: %v", err))
	}
	<-g.end
}

// failure is what a program that ended too early said last.
func (g *group) failure() error {
	lines := strings.Split(strings.TrimSpace(g.log.String()), "\n")
	return fmt.Errorf("%s ended: %v: %s", filepath.Base(g.cmd.Path), g.err, strings.Join(lines[max(0, len(lines)-3):], " / "))
}

// usage is what a group has used so far.
type usage struct {
	cpu    time.Duration // user and kernel, of all threads, ended children included
	memory int64         // bytes resident now, of all processes
}

// Fields of /proc/PID/stat, counted from the one after the name, which is in
// parentheses and may contain anything. See proc_pid_stat(5), where they have 3 more.
const (
	statGroup      = 2
	statUser       = 11
	statKernel     = 12
	statUserEnded  = 13
	statKernEnded  = 14
	statPages      = 21
	ticksPerSecond = 100 // USER_HZ, the same on every Linux that Go runs on
)

func (g *group) usage() (usage, error) {
	var u usage
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return u, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		at := func(i int) int64 {
			n, _ := strconv.ParseInt(fields[i], 10, 64) // the kernel writes numbers here
			return n
		}
		if at(statGroup) != int64(g.cmd.Process.Pid) {
			continue
		}
		ticks := at(statUser) + at(statKernel) + at(statUserEnded) + at(statKernEnded)
		u.cpu += time.Duration(ticks) * time.Second / ticksPerSecond
		u.memory += at(statPages) * int64(os.Getpagesize())
	}
	if u.memory == 0 {
		return u, errors.New("it is gone")
	}
	return u, nil
}
