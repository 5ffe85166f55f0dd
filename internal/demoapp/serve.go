package demoapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// Between the end of ctx and the closing of the listeners requests are
	// still taken: who sends them hears of a pod's end no sooner than the
	// pod itself.
	drainTime = 300 * time.Millisecond
	// Requests under way get this long to finish, less than the 30 s after
	// which Kubernetes kills a pod.
	finishTime = 20 * time.Second
)

// Serve runs a pod's HTTP server: it listens on port $PORT (defaultPort when
// unset; 0 picks a free one) of 127.0.0.1 and, when set, of $POD_IP, and logs
// each address as "listening". When ctx ends it goes on answering for a moment,
// asking callers to close their connections, then finishes what is under way
// and returns nil.
func Serve(ctx context.Context, getenv func(string) string, defaultPort int, h http.Handler, log *slog.Logger) error {
	listeners, err := listen(ctx, getenv, defaultPort)
	if err != nil {
		return err
	}
	var draining atomic.Bool
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if draining.Load() {
				w.Header().Set("Connection", "close")
			}
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute, // longer than the proxies keep idle connections
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		log.Info("listening", "address", l.Addr().String())
		go func() { failed <- server.Serve(l) }()
	}
	select {
	case err := <-failed:
		return errors.Join(fmt.Errorf("serve: %w", err), server.Close())
	case <-ctx.Done():
	}
	log.Info("draining")
	draining.Store(true)
	time.Sleep(drainTime)
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		return errors.Join(fmt.Errorf("requests still under way %v after the drain: %w", finishTime, err), server.Close())
	}
	log.Info("stopped")
	return nil
}

func listen(ctx context.Context, getenv func(string) string, defaultPort int) ([]net.Listener, error) {
	port := defaultPort
	if s := getenv("PORT"); s != "" {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("PORT=%s: want a number from 0 to 65535", s)
		}
		port = int(n)
	}
	hosts := []string{"127.0.0.1"}
	if ip := getenv("POD_IP"); ip != "" {
		if _, err := netip.ParseAddr(ip); err != nil {
			return nil, fmt.Errorf("POD_IP=%s: want an IP address", ip)
		}
		if ip != hosts[0] {
			hosts = append(hosts, ip)
		}
	}
	var listeners []net.Listener
	for _, host := range hosts {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			errs := []error{fmt.Errorf("%w: set PORT to a free port", err)}
			for _, l := range listeners {
				errs = append(errs, l.Close())
			}
			return nil, errors.Join(errs...)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}
