package node

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A puppet is a process that does what the test says. It connects to the test,
// says who it is, and obeys one line after the other, so that no test has to
// guess how long something takes.
type puppet struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader

	Name string
	PID  int
	Args []string
	Env  map[string]string
}

// theatre is where puppets connect.
type theatre struct {
	t      *testing.T
	addr   string
	arrive chan *puppet
	early  []*puppet
	seen   []*puppet // a connection that nobody holds is closed, which ends its puppet
}

func newTheatre(t *testing.T) *theatre {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	th := &theatre{t: t, addr: l.Addr().String(), arrive: make(chan *puppet)}
	done := make(chan struct{})
	t.Cleanup(func() {
		close(done)
		l.Close()
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				p := &puppet{t: t, conn: conn, in: bufio.NewReader(conn)}
				line, err := p.in.ReadBytes('\n')
				if err != nil {
					return // it was killed while it introduced itself
				}
				if err := json.Unmarshal(line, p); err != nil {
					t.Errorf("puppet says %s: %v", line, err)
					return
				}
				select {
				case th.arrive <- p:
				case <-done:
				}
			}()
		}
	}()
	return th
}

// command runs a puppet of the name.
func (th *theatre) command(name string, args ...string) []string {
	return append([]string{os.Args[0], "puppet", th.addr, name}, args...)
}

// next waits for the next puppet of the name.
func (th *theatre) next(name string) *puppet {
	th.t.Helper()
	for i, p := range th.early {
		if p.Name == name {
			th.early = append(th.early[:i:i], th.early[i+1:]...)
			return p
		}
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case p := <-th.arrive:
			th.seen = append(th.seen, p)
			if p.Name == name {
				return p
			}
			th.early = append(th.early, p)
		case <-timer.C:
			th.t.Fatalf("no puppet %q came", name)
		}
	}
}

// do lets the puppet do something and waits until it is done.
func (p *puppet) do(format string, args ...any) {
	p.t.Helper()
	line := fmt.Sprintf(format, args...)
	if _, err := fmt.Fprintln(p.conn, line); err != nil {
		p.t.Fatalf("tell %s to %s: %v", p.Name, line, err)
	}
	p.expect("done")
}

// exit lets the puppet end.
func (p *puppet) exit(code int) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.conn, "exit %d\n", code); err != nil {
		p.t.Fatalf("tell %s to exit: %v", p.Name, err)
	}
	p.expectGone()
}

// expect waits for the puppet to say something.
func (p *puppet) expect(what string) {
	p.t.Helper()
	if got := p.read(); got != what {
		p.t.Fatalf("puppet %s says %q; want %q", p.Name, got, what)
	}
}

// expectGone waits for the puppet's end.
func (p *puppet) expectGone() {
	p.t.Helper()
	if got := p.read(); got != "" {
		p.t.Fatalf("puppet %s says %q; want its end", p.Name, got)
	}
}

// read returns the next line, or "" when the puppet is gone.
func (p *puppet) read() string {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.in.ReadString('\n')
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		p.t.Fatalf("puppet %s neither says anything nor ends", p.Name)
	}
	return strings.TrimSpace(line)
}

// playPuppet is the puppet's own side.
func playPuppet(addr, name string, args []string) int {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	p := &puppet{Name: name, PID: os.Getpid(), Args: args, Env: map[string]string{}}
	for _, e := range os.Environ() {
		k, v, _ := strings.Cut(e, "=")
		p.Env[k] = v
	}
	if err := json.NewEncoder(conn).Encode(struct {
		Name string
		PID  int
		Args []string
		Env  map[string]string
	}{p.Name, p.PID, p.Args, p.Env}); err != nil {
		return 1
	}
	var stubborn atomic.Bool
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	go func() {
		for range terms {
			fmt.Fprintln(conn, "SIGTERM")
			if !stubborn.Load() {
				os.Exit(0)
			}
		}
	}()
	var unhealthy atomic.Bool
	release := make(chan struct{})
	in := bufio.NewScanner(conn)
	for in.Scan() {
		verb, rest, _ := strings.Cut(in.Text(), " ")
		switch verb {
		case "exit":
			code, err := strconv.Atoi(rest)
			if err != nil {
				return 99
			}
			return code
		case "say":
			fmt.Fprintln(os.Stdout, rest)
		case "cry":
			fmt.Fprintln(os.Stderr, rest)
		case "stubborn":
			stubborn.Store(true)
		case "sick":
			unhealthy.Store(true)
		case "well":
			unhealthy.Store(false)
		case "release": // the request that is held
			close(release)
		case "serve": // on a host, at PORT
			l, err := net.Listen("tcp", net.JoinHostPort(rest, os.Getenv("PORT")))
			if err != nil {
				fmt.Fprintln(conn, err)
				continue
			}
			go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/hold" {
					fmt.Fprintln(conn, "held")
					<-release
				}
				if unhealthy.Load() {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				fmt.Fprint(w, os.Getenv("POD_NAME"))
			}))
		case "detach": // fork twice and leave the session, as daemons do
			cmd := exec.Command(os.Args[0], "puppet", addr, rest)
			if rest == "daemon" {
				cmd = exec.Command(os.Args[0], "daemonize", os.Args[0], "puppet", addr, rest)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Start(); err != nil {
				fmt.Fprintln(conn, err)
				continue
			}
		}
		fmt.Fprintln(conn, "done")
	}
	// The test is over.
	return 0
}

// daemonize starts a command in a session of its own and ends at once.
func daemonize(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 1
	}
	return 0
}
