// Package parts finds the programs of others that tests run beside ours: a real
// Envoy, a real Flagger, a real browser. `make tools` brings them into
// .tools/bin; tools/fetch and the modules beside it say which versions.
//
// A test whose part is missing is skipped with the name of the part, and fails
// where CI=true. The package must never fetch or build anything itself, nor
// take a program whose version nobody has checked.
package parts

import (
	"os"
	"path/filepath"
	"testing"
)

// Envoy returns the path of the pinned Envoy.
func Envoy(t testing.TB) string {
	t.Helper()
	return find(t, "envoy")
}

// Flagger returns the path of the pinned Flagger.
func Flagger(t testing.TB) string {
	t.Helper()
	return find(t, "flagger")
}

// Chromium returns the path of a Chromium or Chrome that can be run headless.
// Whoever is root must give it --no-sandbox.
func Chromium(t testing.TB) string {
	t.Helper()
	return find(t, "chromium")
}

// find returns the absolute path of a program in .tools/bin.
func find(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(root(t), ".tools", "bin", name)
	// A look at the file makes a cached result depend on it.
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no %s: %v: run `make tools`", name, err)
		}
		t.Skipf("no %s: %v: run `make tools`, which says what it needs", name, err)
	}
	return path
}

// root returns the folder of go.mod: tests run in the folder of their package.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			t.Fatalf("no go.mod above %s: run the test inside the project", dir)
		}
	}
}
