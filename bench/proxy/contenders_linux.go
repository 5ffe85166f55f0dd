package main

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

// contender is one of the proxies that are measured.
type contender struct {
	name    string
	program string   // looked up in PATH; "" is this program
	fed     bool     // ours: configured by a feeder, found by serinPath
	version string   // the argument that makes it tell its version
	configs []string // templates in config/, filled in from a plan
	args    []string // relative to the folder of the filled-in templates
	counts  string   // what it records of each request while it is measured
}

var contenders = []contender{
	{
		name: "serin", program: "serin", version: "version", fed: true,
		counts: "a record of each request, sent to the server that feeds it",
	},
	{
		name: "envoy", program: "envoy", version: "--version",
		configs: []string{"envoy.yaml"},
		args:    []string{"--config-path", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"},
		counts:  "default statistics per listener, route and cluster, histograms included",
	},
	{
		name: "haproxy", program: "haproxy", version: "-v",
		configs: []string{"haproxy.cfg", "services.map"},
		args:    []string{"-db", "-f", "haproxy.cfg"},
		counts:  "its counters per frontend, backend and server",
	},
	{
		name: "nginx", program: "nginx", version: "-v",
		configs: []string{"nginx.conf"},
		args:    []string{"-p", ".", "-e", "stderr", "-c", "nginx.conf"},
		counts:  "nothing",
	},
	{
		name: "caddy", program: "caddy", version: "version",
		configs: []string{"Caddyfile"},
		args:    []string{"run", "--config", "Caddyfile"},
		counts:  "nothing",
	},
	{
		name:   "net/http",
		args:   []string{"reverseproxy"},
		counts: "nothing",
	},
}

// plan is what the templates are filled in from. What is part of this program
// reads it as it is, from planFile.
type plan struct {
	Dir                   string // absolute
	Host                  string // the only one that is routed
	Doors                 []door
	Upstreams             []upstream
	Services              []string // names of the routes of door "routes"
	Cert, Key, CertAndKey string   // files
}

// door is a port of a proxy. All but "routes" send every request to one upstream.
type door struct {
	Name     string
	Port     int
	HTTP2    bool // spoken at once, without an upgrade
	TLS      bool
	Upstream string
}

// upstream is a port of the backend.
type upstream struct {
	Name  string
	Port  int
	HTTP2 bool
}

const planFile = "plan.json"

// readPlan reads the plan of the folder in which a contender runs.
func readPlan() (*plan, error) {
	data, err := os.ReadFile(planFile)
	if err != nil {
		return nil, err
	}
	p := &plan{}
	return p, json.Unmarshal(data, p)
}

// host is what every request is for.
const host = "bench.example"

// newPlan takes free ports. They are free again until the proxy opens them,
// which it does at once.
func newPlan(dir string, backend [3]int) (*plan, error) {
	p := &plan{
		Dir:  dir,
		Host: host,
		Doors: []door{
			{Name: "http1", Upstream: "a"},
			{Name: "http2", HTTP2: true, Upstream: "a"},
			{Name: "grpc", HTTP2: true, Upstream: "grpc"},
			{Name: "routes"},
			{Name: "tls", TLS: true, Upstream: "a"},
		},
		Upstreams:  []upstream{{"a", backend[0], false}, {"b", backend[1], false}, {"grpc", backend[2], true}},
		Cert:       filepath.Join(dir, "cert.pem"),
		Key:        filepath.Join(dir, "key.pem"),
		CertAndKey: filepath.Join(dir, "both.pem"),
	}
	for i := range 100 {
		p.Services = append(p.Services, fmt.Sprintf("service-%02d", i))
	}
	for i := range p.Doors {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		p.Doors[i].Port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

// address returns where a door is.
func (p *plan) address(name string) string {
	i := slices.IndexFunc(p.Doors, func(d door) bool { return d.Name == name })
	return localhost(p.Doors[i].Port)
}

func localhost(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

//go:embed config
var configs embed.FS

// running is a contender that answers.
type running struct {
	contender
	*group
	*plan
	feeder *feeder // nil where there is a file instead
}

func (r *running) stop() {
	r.group.stop()
	if r.feeder != nil {
		r.feeder.stop()
	}
}

// run starts a contender in a folder of its own below dir and waits until all
// its doors are open.
func (c contender) run(core int, dir string, id identity, backend [3]int) (*running, error) {
	dir, err := os.MkdirTemp(dir, strings.ReplaceAll(c.name, "/", "-")+"-")
	if err != nil {
		return nil, err
	}
	p, err := newPlan(dir, backend)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(id.write(p), c.configure(p)); err != nil {
		return nil, err
	}
	program, err := c.path()
	if err != nil {
		return nil, err
	}
	args := c.args
	var f *feeder
	if c.fed {
		if f, err = p.startFeeder(); err != nil {
			return nil, err
		}
		args = f.gatewayArgs(p)
	}
	g, err := start(core, dir, nil, program, args...)
	if err != nil {
		if f != nil {
			f.stop()
		}
		return nil, err
	}
	r := &running{c, g, p, f}
	if err := r.ready(); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// ready waits until all doors are open, and lead where the plan says.
func (r *running) ready() error {
	for _, d := range r.Doors {
		if err := r.opened(localhost(d.Port)); err != nil {
			return err
		}
	}
	if r.feeder == nil {
		return nil
	}
	return r.feeder.applied(r.group)
}

func (c contender) path() (string, error) {
	if c.program == "" {
		return os.Executable()
	}
	if c.fed {
		path, err := serinPath()
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%w: run `make build`", err)
		}
		return path, nil
	}
	path, err := exec.LookPath(c.program)
	if err != nil {
		return "", fmt.Errorf("%w: run `make tools-bench`", err)
	}
	return path, nil
}

// configure writes the plan and what is made from it.
func (c contender) configure(p *plan) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.Dir, planFile), data, 0o644); err != nil {
		return err
	}
	for _, name := range c.configs {
		t, err := template.ParseFS(configs, "config/"+name)
		if err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(p.Dir, name))
		if err != nil {
			return err
		}
		if err := errors.Join(t.Execute(f, p), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// opened waits until the program listens at an address.
func (g *group) opened(address string) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-g.end:
			return g.failure()
		default:
		}
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("%s does not listen at %s", filepath.Base(g.cmd.Path), address)
}

var dotted = regexp.MustCompile(`\d+(\.\d+)+`)

// title is the contender with its version, as it tells it.
func (c contender) title() string {
	if c.program == "" {
		return c.name + " " + strings.TrimPrefix(runtime.Version(), "go")
	}
	path, err := c.path()
	if err != nil {
		return c.name
	}
	out, _ := exec.Command(path, c.version).CombinedOutput() // some end with an error after telling it
	return c.name + " " + dotted.FindString(string(out))
}
