// Package page writes the rows that a benchmark measured, with what they depend
// on: figures without a machine and a commit cannot be measured again. It must
// never look at a figure.
package page

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Origin is what the rows of a page depend on.
type Origin struct {
	Machine Machine   `json:"machine"`
	Commit  string    `json:"commit"` // as git describes it; "-dirty" at its end: changed since
	Time    time.Time `json:"time"`   // UTC, to the second
}

// Machine is what the benchmark ran on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	OS     string `json:"os"`
	Kernel string `json:"kernel,omitempty"` // its release; Linux alone
	Go     string `json:"go"`
}

// Here is this machine, the commit of the present folder and the present time.
// It needs git.
func Here() (Origin, error) {
	commit, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return Origin{}, fmt.Errorf("git describe: %w", err)
	}
	return Origin{thisMachine(), strings.TrimSpace(string(commit)), time.Now().UTC().Truncate(time.Second)}, nil
}

func (o Origin) String() string {
	m := o.Machine
	return fmt.Sprintf("%s, %d cores, %s, %s; commit %s", m.CPU, m.Cores, strings.TrimSpace(m.OS+" "+m.Kernel), m.Go, o.Commit)
}

func thisMachine() Machine {
	m := Machine{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), OS: runtime.GOOS, Go: runtime.Version()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(info); found != nil {
			m.CPU = string(found[1])
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(release)), "-") // what a builder adds says nothing
	}
	return m
}

// Write stores a page as JSON, whole or not at all, in a folder that it makes
// where there is none.
func Write(name string, page any) error {
	data, err := json.MarshalIndent(page, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name+".part", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}
