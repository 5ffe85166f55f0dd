package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	firstLook = 50 * time.Millisecond // a process that starts fast should be ready fast
	maxLook   = 2 * time.Second       // between two looks at a process that is still starting
)

// prober asks a question about a process again and again.
type prober struct {
	initialDelay, period, timeout time.Duration
	successes, failures           int // in a row until the answer counts
	// eager looks more often than period until the first success. A failure
	// still counts only once per period.
	eager bool
}

// newProber reads a probe, with Kubernetes' defaults for what is not set.
func newProber(p *corev1.Probe) prober {
	seconds := func(n int32, otherwise int32) time.Duration {
		if n == 0 {
			n = otherwise
		}
		return time.Duration(n) * time.Second
	}
	count := func(n int32, otherwise int) int {
		if n == 0 {
			return otherwise
		}
		return int(n)
	}
	return prober{
		initialDelay: seconds(p.InitialDelaySeconds, 0),
		period:       seconds(p.PeriodSeconds, 10),
		timeout:      seconds(p.TimeoutSeconds, 1),
		successes:    count(p.SuccessThreshold, 1),
		failures:     count(p.FailureThreshold, 3),
	}
}

// run calls check until ctx ends or report returns false. report is told of
// every answer that counts: ok says whether check succeeded, sure whether it
// did so often enough in a row.
func (p prober) run(ctx context.Context, check func(context.Context) error, report func(sure, ok bool, err error) bool) {
	if !pause(ctx, p.initialDelay) {
		return
	}
	look, eager := firstLook, p.eager
	counted := time.Now()
	successes, failures := 0, 0
	for {
		checkCtx, cancel := context.WithTimeout(ctx, p.timeout)
		err := check(checkCtx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		ok, more := err == nil, true
		switch {
		case ok:
			successes, failures, eager = successes+1, 0, false
			more = report(successes >= p.successes, true, nil)
		case !eager || time.Since(counted) >= p.period:
			counted = time.Now()
			successes, failures = 0, failures+1
			more = report(failures >= p.failures, false, err)
		}
		next := p.period
		if eager {
			next = min(look, p.period)
			look = min(look*3/2, maxLook)
		}
		if !more || !pause(ctx, next) {
			return
		}
	}
}

// pause waits, and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// dialer connects to a port of a container.
type dialer func(ctx context.Context, port int) (net.Conn, error)

// errNoProbe says that a probe asks for something that is not there.
var errNoProbe = errors.New("not supported")

// checkHandler refuses what cannot be checked. It returns nil for what can.
func checkHandler(h *corev1.ProbeHandler) error {
	switch {
	case h.HTTPGet != nil, h.TCPSocket != nil, h.Exec != nil:
		return nil
	case h.GRPC != nil:
		return fmt.Errorf("grpc is %w: use httpGet, tcpSocket or exec", errNoProbe)
	}
	return errors.New("it has no handler: set httpGet, tcpSocket or exec")
}

// checkTCP succeeds when the port accepts a connection.
func checkTCP(ctx context.Context, a *corev1.TCPSocketAction, pm portMap, spec *corev1.Container, dial dialer) error {
	port, err := privatePort(a.Port, pm, spec)
	if err != nil {
		return err
	}
	if a.Host != "" {
		dial = dialHost(a.Host)
	}
	conn, err := dial(ctx, port)
	if err != nil {
		return err
	}
	return conn.Close()
}

// checkHTTP succeeds when the answer's code is from 200 to 399.
func checkHTTP(ctx context.Context, a *corev1.HTTPGetAction, pm portMap, spec *corev1.Container, dial dialer) error {
	port, err := privatePort(a.Port, pm, spec)
	if err != nil {
		return err
	}
	host := "127.0.0.1"
	if a.Host != "" {
		host, dial = a.Host, dialHost(a.Host)
	}
	target, err := url.Parse(a.Path)
	if err != nil {
		return fmt.Errorf("path %q: %w", a.Path, err)
	}
	target.Scheme = "http"
	if a.Scheme == corev1.URISchemeHTTPS {
		target.Scheme = "https"
	}
	target.Host = net.JoinHostPort(host, strconv.Itoa(port))
	if target.Path == "" {
		target.Path = "/"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "serin-probe")
	for _, h := range a.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dial(ctx, port)
			},
			// As on a cluster: a probe asks whether the process answers, not
			// who it is.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		// A redirect is an answer. Following it would leave the process.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // only to say more; a short body will do
	return fmt.Errorf("HTTP status %d: %s", resp.StatusCode, body)
}

func dialHost(host string) dialer {
	return func(ctx context.Context, port int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	}
}

// privatePort finds where a probe's port really is: a container port by number
// or name stands for the private port behind it, any other number for itself.
func privatePort(port intstr.IntOrString, pm portMap, spec *corev1.Container) (int, error) {
	for _, p := range spec.Ports {
		named := port.Type == intstr.String && p.Name == port.StrVal
		numbered := port.Type == intstr.Int && p.ContainerPort == port.IntVal
		if (named || numbered) && pm.private[p.ContainerPort] != 0 {
			return pm.private[p.ContainerPort], nil
		}
	}
	n := port.IntValue() // a string may hold a number, too
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("port %q is neither a number nor the name of a port of container %s", port.String(), spec.Name)
	}
	return n, nil
}
