package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"serin.dev/serin/test/story"
)

// scriptsPerCore scripts run at once on each processor: one works for a few
// seconds, and waits for intervals and holds most of its time.
const scriptsPerCore = 4

// scriptGCPercent is how much the heaps of what the scripts start may grow before
// they are collected. serin up keeps its own small otherwise, at 40 % of the
// processor time that it takes to play a script; here processors are short.
const scriptGCPercent = "200"

// TestMain runs scriptsPerCore times as many tests at once as go test would,
// unless -parallel says how many.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", strconv.Itoa(scriptsPerCore*runtime.GOMAXPROCS(0))); err != nil {
			panic(err) // testing has another flag by now
		}
	}
	os.Exit(m.Run())
}

func TestScripts(t *testing.T) {
	t.Parallel()
	tools := findTools(t)
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Dir(tools.serin) + ":" + filepath.Dir(tools.kubectl) + ":" + os.Getenv("PATH")
	var scripts atomic.Int64
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		UpdateScripts:      story.Rewriting(),
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLES", examples)
			env.Setenv("PATH", path)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("KUBECONFIG", "")
			env.Setenv("GOGC", scriptGCPercent)
			env.Setenv("ANOTHER_DAY", time.Now().UTC().AddDate(0, 0, 3).Format("Mon"))
			env.Setenv("LOOPBACK", loopback(int(scripts.Add(1))))
			s := &scene{tools: tools, dataDir: filepath.Join(env.WorkDir, "data")}
			for _, v := range env.Vars {
				name, _, _ := strings.Cut(v, "=")
				s.variables = append(s.variables, name)
			}
			env.Values[sceneKey{}] = s
			env.Defer(s.end)
			return nil
		},
		Condition: hasPart,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"up":      up,
			"down":    stopWith(syscall.SIGTERM),
			"crash":   stopWith(syscall.SIGKILL),
			"kubectl": alone("kubectl"),
			"serin":   alone("serin"),
			"http":    alone("http"),
			"until":   until,
			"share":   share,
			"capture": capture,
			"browse":  browse,
			"proxy":   startProxy,
			"envoy":   startEnvoy,

			"receiver": startReceiver,
		},
	})
}

// scene is what belongs to one script.
type scene struct {
	tools     tools
	dataDir   string
	variables []string // names of what the programs get as environment
	running   *process // nil: none
}

type sceneKey struct{}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

// end leaves no process behind, however the script ended.
func (s *scene) end() {
	if s.running != nil {
		// The script is over; how the process takes it is the affair of down.
		_ = s.running.stop(syscall.SIGTERM)
	}
}

// environment is that of the script, as far as Setup made it.
func (s *scene) environment(ts *testscript.TestScript) []string {
	env := make([]string, len(s.variables))
	for i, name := range s.variables {
		env[i] = name + "=" + ts.Getenv(name)
	}
	return env
}

func up(ts *testscript.TestScript, neg bool, flags []string) {
	s := sceneOf(ts)
	if s.running != nil && !neg {
		ts.Fatalf("serin up is running already")
	}
	p, a, err := startSerin(s.tools.serin, s.dataDir, s.environment(ts), flags)
	if neg {
		if err == nil {
			_ = p.stop(syscall.SIGTERM) // the script fails anyway
			ts.Fatalf("serin up started, but must not")
		}
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			ts.Fatalf("%v\n%s", err, p.output.String())
		}
		fmt.Fprint(ts.Stderr(), p.output.String())
		return
	}
	s.running = p
	ts.Defer(func() { ts.Logf("[serin up]\n%s", p.output.String()) })
	if err != nil {
		ts.Fatalf("%v\n%s", err, p.output.String())
	}
	ts.Setenv("KUBECONFIG", a.Kubeconfig)
	ts.Setenv("API", a.API)
	ts.Setenv("API_ADDRESS", strings.TrimPrefix(a.API, "https://"))
	ts.Setenv("GATEWAY", a.Gateway)
	ts.Setenv("XDS", a.XDS)
	ts.Setenv("GATEWAY_ADDRESS", strings.TrimPrefix(a.Gateway, "http://"))
}

func stopWith(signal os.Signal) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		s := sceneOf(ts)
		if neg || len(args) > 0 || s.running == nil {
			ts.Fatalf("usage: down, or crash, while serin up runs")
		}
		p := s.running
		s.running = nil
		err := p.stop(signal)
		if exit := (*exec.ExitError)(nil); signal == syscall.SIGKILL && errors.As(err, &exit) {
			return // as it was meant to
		}
		ts.Check(err)
	}
}

// alone makes a script command of something that until can repeat.
func alone(name string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		var err error
		if name == "http" {
			var stdout string
			stdout, err = send(ts, args)
			fmt.Fprint(ts.Stdout(), stdout)
		} else {
			err = ts.Exec(name, args...)
		}
		switch {
		case err != nil && !neg:
			ts.Fatalf("%s: %v", name, err)
		case err == nil && neg:
			ts.Fatalf("%s succeeded, but must not", name)
		}
	}
}

// attempt runs kubectl, serin or http once, quietly.
func attempt(ts *testscript.TestScript, args []string) (stdout string, err error) {
	switch args[0] {
	case "http":
		return send(ts, args[1:])
	case "kubectl", "serin":
	default:
		ts.Fatalf("cannot repeat %s: only kubectl, serin and http", args[0])
	}
	s := sceneOf(ts)
	program := map[string]string{"kubectl": s.tools.kubectl, "serin": s.tools.serin}[args[0]]
	cmd := exec.Command(program, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = s.environment(ts)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out.String(), nil
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("until", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	limit := flags.Duration("for", untilTime, "")
	pattern := flags.String("stdout", "", "")
	if err := flags.Parse(args); err != nil || neg || flags.NArg() == 0 {
		ts.Fatalf("usage: until [-for DURATION] [-stdout REGEXP] COMMAND ARG...")
	}
	want, err := regexp.Compile("(?m)" + *pattern)
	ts.Check(err)
	pause := programPause
	if flags.Arg(0) == "http" {
		pause = pollTime
	}
	tooLong := time.After(*limit)
	for {
		stdout, err := attempt(ts, flags.Args())
		if err == nil && want.MatchString(stdout) {
			fmt.Fprint(ts.Stdout(), stdout)
			return
		}
		select {
		case <-time.After(pause):
		case <-tooLong:
			if err != nil {
				ts.Fatalf("not within %v: %v", *limit, err)
			}
			ts.Fatalf("not within %v: %q in the output, which is\n%s", *limit, *pattern, stdout)
		}
	}
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: capture NAME COMMAND ARG...")
	}
	stdout, err := attempt(ts, args[1:])
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), stdout)
	ts.Setenv(args[0], strings.TrimSpace(stdout))
}

// request is one HTTP request with what is expected of the answer.
type request struct {
	method, url, body string
	header            http.Header
	code              int // 0: whatever
	refused           bool
	match             *regexp.Regexp // nil: whatever
}

func parseRequest(ts *testscript.TestScript, args []string) request {
	r := request{header: http.Header{}}
	flags := flag.NewFlagSet("http", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&r.body, "d", "", "")
	flags.Func("H", "", func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		if !ok {
			return errors.New("want Name: value")
		}
		r.header.Add(name, strings.TrimSpace(value))
		return nil
	})
	err := flags.Parse(args)
	if err != nil || flags.NArg() < 2 || flags.NArg() > 4 {
		ts.Fatalf("usage: http [-H 'Name: value'] [-d BODY] METHOD URL [CODE [REGEXP]]")
	}
	r.method, r.url = flags.Arg(0), flags.Arg(1)
	if strings.HasPrefix(r.url, "/") {
		r.url = ts.Getenv("GATEWAY") + r.url
	}
	switch code := flags.Arg(2); code {
	case "":
	case "refused":
		r.refused = true
	default:
		r.code, err = strconv.Atoi(code)
		ts.Check(err)
	}
	if flags.NArg() == 4 {
		r.match, err = regexp.Compile("(?m)" + flags.Arg(3))
		ts.Check(err)
	}
	return r
}

// send sends one request on a connection of its own and returns the body.
func send(ts *testscript.TestScript, args []string) (string, error) {
	r := parseRequest(ts, args)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	code, body, err := r.do(client)
	switch {
	case r.refused && errors.Is(err, syscall.ECONNREFUSED):
		return "", nil
	case r.refused && err == nil:
		return body, fmt.Errorf("%s %s: answered with %d, want the connection refused", r.method, r.url, code)
	case err != nil:
		return body, err
	case r.code != 0 && code != r.code:
		return body, fmt.Errorf("%s %s: code %d, want %d: %s", r.method, r.url, code, r.code, strings.TrimSpace(body))
	case r.match != nil && !r.match.MatchString(body):
		return body, fmt.Errorf("%s %s: no %q in the body: %s", r.method, r.url, r.match, strings.TrimSpace(body))
	}
	return body, nil
}

func (r request) do(client *http.Client) (code int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, strings.NewReader(r.body))
	if err != nil {
		return 0, "", err
	}
	req.Header = r.header
	if host := r.header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

func share(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: share N URL REGEXP LOW HIGH")
	}
	var number [3]int
	for i, text := range []string{args[0], args[3], args[4]} {
		var err error
		number[i], err = strconv.Atoi(text)
		ts.Check(err)
	}
	n, low, high := number[0], number[1], number[2]
	want, err := regexp.Compile("(?m)" + args[2])
	ts.Check(err)
	r := parseRequest(ts, []string{http.MethodGet, args[1]})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	matched := 0
	for range n {
		code, body, err := r.do(client)
		ts.Check(err)
		if code != http.StatusOK {
			ts.Fatalf("%s: code %d: %s", r.url, code, body)
		}
		if want.MatchString(body) {
			matched++
		}
	}
	if percent := 100 * float64(matched) / float64(n); percent < float64(low) || percent > float64(high) {
		ts.Fatalf("%d of %d answers (%.1f %%) match %q, want %d to %d %%", matched, n, percent, args[2], low, high)
	}
}
