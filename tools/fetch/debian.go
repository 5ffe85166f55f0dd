package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// bring downloads the packages, and those they depend on that the machine does
// not have, unpacks them into dir/root, and writes a script to target that
// runs the program with their libraries.
//
// Unpacking leaves out what a package does to a machine when it is installed.
// For these programs that is only what nobody wants here (users, a web server
// that starts on port 80), and it works without root.
func (p program) bring(dir, target string) error {
	for _, client := range []string{"apt-get", "dpkg"} {
		if _, err := exec.LookPath(client); err != nil {
			return errors.New("it comes as a package of Debian, and there is no " + client + " on this machine")
		}
	}
	debs, err := p.download(dir)
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	for _, deb := range debs {
		if err := run("dpkg", "-x", deb, root); err != nil {
			return err
		}
	}
	for _, done := range []string{"lists", "cache"} {
		if err := os.RemoveAll(filepath.Join(dir, done)); err != nil {
			return err
		}
	}
	return p.wrap(root, target)
}

// download asks apt-get, with the machine's sources and its list of what is
// installed, but with folders of our own, which need no root and no lock.
func (p program) download(dir string) ([]string, error) {
	cache := filepath.Join(dir, "cache")
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	options := []string{
		"-qq", "-o", "Dir::State::lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + cache,
		"-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=2",
	}
	if err := run("apt-get", append(options, "update")...); err != nil {
		return nil, err
	}
	install := []string{"--yes", "--no-install-recommends", "--download-only", "install"}
	if err := run("apt-get", slices.Concat(options, install, p.packages)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(cache, "archives", "*.deb"))
}

// wrap writes the script. Nothing stays between the script's caller and the
// program: signals and process ids are the program's own.
func (p program) wrap(root, target string) error {
	libraries, err := librariesBelow(root)
	if err != nil {
		return err
	}
	path := filepath.Join(root, filepath.FromSlash(p.path))
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("the packages %s do not have it: %w", strings.Join(p.packages, ", "), err)
	}
	fonts := filepath.Join(filepath.Dir(root), "fonts.conf")
	config := "<fontconfig><dir>" + filepath.Join(root, "usr/share/fonts") + "</dir><dir>/usr/share/fonts</dir><cachedir prefix=\"xdg\">fontconfig</cachedir></fontconfig>\n"
	if err := os.WriteFile(fonts, []byte(config), 0o644); err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexport LD_LIBRARY_PATH='%s' FONTCONFIG_FILE='%s'\nexec '%s' \"$@\"\n", strings.Join(libraries, ":"), fonts, path)
	return os.WriteFile(target, []byte(script), 0o755)
}

// librariesBelow returns every folder that holds shared libraries: some look
// for each other in folders that a system's linker knows and ours does not.
func librariesBelow(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "lib") && strings.Contains(d.Name(), ".so") {
			dirs = append(dirs, filepath.Dir(path))
		}
		return err
	})
	slices.Sort(dirs)
	return slices.Compact(dirs), err
}
