// Docgen writes the reference page of every kind in a package of Kubernetes
// API types, from the types themselves: fields, comments and kubebuilder
// markers. It reads sources alone and must never say what is not in them, so
// that a page is right when the CRD is.
//
//	docgen PACKAGE-FOLDER OUTPUT-FOLDER
//
// Read next: source.go (what is read), page.go (what is written).
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run . ../../api/v1alpha1 ../../docs/reference

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: docgen PACKAGE-FOLDER OUTPUT-FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	pages, err := pages(from)
	if err != nil {
		return err
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pages returns the reference pages of the package in a folder by file name,
// such as "release.md".
func pages(folder string) (map[string][]byte, error) {
	src, err := parseFolder(folder)
	if err != nil {
		return nil, err
	}
	pages := map[string][]byte{}
	for _, kind := range src.kinds() {
		text, err := page(src, kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		pages[kind.file()] = text
	}
	return pages, nil
}
