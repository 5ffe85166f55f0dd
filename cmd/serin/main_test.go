package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"serin.dev/serin/cmd/serin/internal/english"
	tests "serin.dev/serin/test/story"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"serin": main})
}

// TestScripts plays the stories of testdata/script that need no API.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       tests.Rewriting(),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}

func TestKubectlLoadsNoTranslations(t *testing.T) {
	if english.Err != nil {
		t.Errorf("package english came too late: %v; see its comment on the order of imports", english.Err)
	}
}
