package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"serin.dev/serin/bench/page"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench/proxy: %v\n", err)
		os.Exit(1)
	}
}

// run is the measuring itself, or one of the programs that it starts.
func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "backend":
		return backendMain()
	case len(args) == 1 && args[0] == "reverseproxy":
		return reverseProxyMain()
	}
	var o options
	flags := flag.NewFlagSet("bench/proxy", flag.ExitOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "every figure is the median of so many")
	flags.IntVar(&o.seconds, "seconds", 3, "length of a run; a round has two for each proxy and case")
	flags.IntVar(&o.idle, "idle", 10000, "idle connections for which memory is taken")
	flags.StringVar(&o.cases, "cases", "", "only cases with one of these `words`, comma between them, in their name")
	flags.StringVar(&o.proxies, "proxies", "", "only proxies with one of these `words` in their name")
	flags.StringVar(&o.out, "out", "bench/out/proxy.json", "where the rows are written")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	return bench(o)
}

type options struct {
	rounds, seconds, idle int
	cases, proxies, out   string
}

// check reports words that choose nothing, with what there is to choose from.
func (o options) check() error {
	cases, proxies := []string{idleCase}, []string{}
	for _, w := range workloads {
		cases = append(cases, w.name)
	}
	for _, c := range contenders {
		proxies = append(proxies, c.name)
	}
	for _, flag := range []struct {
		name, words string
		names       []string
	}{{"-cases", o.cases, cases}, {"-proxies", o.proxies, proxies}} {
		for word := range strings.SplitSeq(flag.words, ",") {
			if !slices.ContainsFunc(flag.names, func(name string) bool { return chosen(name, word) }) {
				return fmt.Errorf("%s: nothing has %q in its name; there are %s", flag.name, word, strings.Join(flag.names, ", "))
			}
		}
	}
	return nil
}

// chosen reports whether a name is among those that words, from a flag, name.
func chosen(name, words string) bool {
	for word := range strings.SplitSeq(words, ",") {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// arena is what all contenders share.
type arena struct {
	dir        string
	core, load int // the proxy's core; that of load generator and backend
	backend    [3]int
	id         identity
}

// bench measures and reports.
//
//	wrk, h2load, pacedLoad ──► a proxy ──► backend
//	     second core          first core  second core
func bench(o options) error {
	dir, err := os.MkdirTemp("", "bench-proxy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// What it started ends with it.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		os.RemoveAll(dir)
		os.Exit(1)
	}()
	// A proxy's worker that is not root reads its files there.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	raiseFileLimit()
	a := &arena{dir: dir}
	if a.core, a.load, err = cores(); err != nil {
		return err
	}
	if err := moveTo(a.load); err != nil {
		return err
	}
	if a.id, err = newIdentity(); err != nil {
		return err
	}
	backend, ports, err := startBackend(a.load, dir)
	if err != nil {
		return err
	}
	defer backend.stop()
	a.backend = ports

	origin, err := page.Here()
	if err != nil {
		return err
	}
	r := &report{origin: origin, idle: o.idle, notes: []string{origin.String()}}
	a.measureLoads(o, r)
	a.measureIdle(o, r)
	return errors.Join(r.print(os.Stdout), r.write(o.out))
}

// raiseFileLimit lets this process and its children open what the kernel
// grants. Whoever needs more than that is told by the program that fails.
func raiseFileLimit() {
	for _, n := range []uint64{1 << 16, 0} {
		var limit syscall.Rlimit
		if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
			return
		}
		limit.Max = max(limit.Max, n)
		limit.Cur = limit.Max
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
			return
		}
	}
}

// measureLoads runs all chosen contenders side by side through all workloads.
func (a *arena) measureLoads(o options, r *report) {
	var all []*running
	for _, c := range contenders {
		if !chosen(c.name, o.proxies) {
			continue
		}
		p, err := c.run(a.core, a.dir, a.id, a.backend)
		if err != nil {
			r.missing(c.name, "", err)
			continue
		}
		defer p.stop()
		r.notes = append(r.notes, c.title()+" counts "+c.counts)
		all = append(all, p)
	}
	for _, w := range workloads {
		if !chosen(w.name, o.cases) {
			continue
		}
		var able []*running
		for _, p := range all {
			if err := a.warm(w, p); err != nil {
				r.missing(p.name, w.name, err)
				continue
			}
			able = append(able, p)
		}
		for round := range o.rounds {
			if busy, err := busyElsewhere(); err == nil {
				r.others = append(r.others, busy)
			}
			fmt.Fprintf(os.Stderr, "%s: round %d of %d\n", w.name, round+1, o.rounds)
			able = slices.DeleteFunc(able, func(p *running) bool {
				f, err := a.round(w, p, o.seconds)
				if err != nil {
					r.missing(p.name, w.name, err)
				} else {
					r.add(w.name, p.name, f)
				}
				return err != nil
			})
			if len(able) > 0 {
				able = append(able[1:], able[0]) // no proxy is always the first
			}
		}
	}
}

// warm sees that a proxy does the job and has it open its connections.
func (a *arena) warm(w workload, p *running) error {
	if err := w.verify(p.plan, a.id.roots); err != nil {
		return err
	}
	_, err := w.fullLoad(p.plan, 1)
	return err
}

// round measures one workload on one proxy once.
func (a *arena) round(w workload, p *running, seconds int) (figures, error) {
	before, err := p.usage()
	if err != nil {
		return figures{}, err
	}
	began := time.Now()
	requests, err := w.fullLoad(p.plan, seconds)
	took := time.Since(began)
	after, err2 := p.usage()
	if err := errors.Join(err, err2); err != nil {
		return figures{}, err
	}
	latencies, err := w.pacedLoad(p.plan, a.id.roots, time.Duration(seconds)*time.Second)
	if err != nil {
		return figures{}, err
	}
	cpu := after.cpu - before.cpu
	return figures{
		cpu:  float64(cpu.Microseconds()) / float64(requests),
		rps:  float64(requests) / took.Seconds(),
		core: cpu.Seconds() / took.Seconds(),
		p50:  quantile(latencies, 0.5),
		p99:  quantile(latencies, 0.99),
		p999: quantile(latencies, 0.999),
	}, nil
}

// measureIdle takes the memory of every contender, started afresh, when it
// holds connections that do nothing.
func (a *arena) measureIdle(o options, r *report) {
	for _, c := range contenders {
		if !chosen(c.name, o.proxies) || !chosen(idleCase, o.cases) {
			continue
		}
		f, err := a.idle(c, o.idle)
		if err != nil {
			r.missing(c.name, idleCase, err)
			continue
		}
		r.add(idleCase, c.name, f)
		fmt.Fprintf(os.Stderr, "%s: %s\n", idleCase, c.name)
	}
}

const idleCase = "idle-connections"

func (a *arena) idle(c contender, n int) (figures, error) {
	p, err := c.run(a.core, a.dir, a.id, a.backend)
	if err != nil {
		return figures{}, err
	}
	defer p.stop()
	before, err := p.usage()
	if err != nil {
		return figures{}, err
	}
	release, err := hold(p.address("http1"), n)
	defer release()
	if err != nil {
		return figures{}, err
	}
	time.Sleep(2 * time.Second) // collectors of garbage run, buffers are given back
	after, err := p.usage()
	return figures{empty: float64(before.memory) / 1e6, memory: float64(after.memory) / 1e6}, err
}

// identity is the certificate of all proxies.
type identity struct {
	cert, key []byte // PEM
	roots     *x509.CertPool
}

func newIdentity() (identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, err
	}
	c := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		DNSNames:              []string{host},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return identity{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return identity{}, err
	}
	id := identity{
		cert:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		roots: x509.NewCertPool(),
	}
	id.roots.AppendCertsFromPEM(id.cert)
	return id, nil
}

func (id identity) write(p *plan) error {
	return errors.Join(
		os.WriteFile(p.Cert, id.cert, 0o644),
		os.WriteFile(p.Key, id.key, 0o600),
		os.WriteFile(p.CertAndKey, append(id.cert[:len(id.cert):len(id.cert)], id.key...), 0o600),
	)
}
