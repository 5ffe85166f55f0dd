package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// hasPart tells whether a program of others is there, for the conditions
// [browser] and [envoy]. Without it a script skips itself, except where
// CI=true: there the command that needs it fails.
func hasPart(condition string) (bool, error) {
	path, known := map[string]string{"browser": chromium, "envoy": envoy}[condition]
	if !known {
		return false, fmt.Errorf("unknown condition %q", condition)
	}
	_, err := os.Stat(path)
	return err == nil || os.Getenv("CI") == "true", nil
}

var chromium = filepath.Join("..", "..", ".tools", "bin", "chromium")

// browse loads a page in a real browser. stdout is the document that the
// browser made of it. With a second argument it also takes a picture of it, of
// 1000 by 1400 pixels.
func browse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: browse URL [PICTURE.png]")
	}
	program, err := filepath.Abs(chromium)
	ts.Check(err)
	url := args[0]
	if strings.HasPrefix(url, "/") {
		url = ts.Getenv("GATEWAY") + url
	}
	flags := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--window-size=1000,1400", "--user-data-dir=" + ts.MkAbs("browser"),
	}
	run := func(flag string) string {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, append(flags, flag, url)...)
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		if err := cmd.Run(); err != nil {
			ts.Fatalf("chromium: %v\n%s", err, stderr.String())
		}
		return out.String()
	}
	fmt.Fprint(ts.Stdout(), run("--dump-dom"))
	if len(args) == 2 {
		run("--screenshot=" + ts.MkAbs(args[1]))
	}
}
