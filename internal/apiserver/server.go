package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"
)

// Config says where the server keeps its data and what it is connected to.
type Config struct {
	// DataDir holds everything that must survive a restart: objects,
	// certificate, token, kubeconfig. It is created with mode 0700 and belongs
	// to one process at a time.
	DataDir string

	// Listen is the address of the API; port 0 takes a free one. Default
	// 127.0.0.1:7443.
	Listen string

	// EtcdServers are client URLs of an etcd cluster to keep objects in, such
	// as http://10.0.0.1:2379. Default: an etcd of its own in DataDir.
	EtcdServers []string

	// Logs serves pods/log. Without it that subresource answers 503.
	Logs LogSource

	// Usage serves metrics.k8s.io; without it no pod has metrics.
	Usage UsageSource

	// Subresources of kinds that are defined by CustomResourceDefinitions.
	Subresources []Subresource

	// Admit is asked about every object before it is stored; nil admits all.
	Admit Admit
	// Precheck is asked before that, and before the schema; nil refuses nothing.
	Precheck Precheck

	// Logger gets what the server has to say, at level debug: errors that
	// matter to a caller are returned. Default: nothing is logged.
	Logger *slog.Logger

	// freeBytes replaces the measurement of free disk space in tests.
	freeBytes func(dir string) (uint64, error)
	// quotaBytes lowers etcd's size limit in tests.
	quotaBytes int64
}

// DefaultListen is the address the API is served on unless told otherwise.
const DefaultListen = "127.0.0.1:7443"

// Server is a running API server.
type Server struct {
	kubeconfig string
	rest       *rest.Config

	stop func()
	done chan struct{}
	err  error // valid when done is closed
}

// URL is where the API is served.
func (s *Server) URL() string { return s.rest.Host }

// KubeconfigPath is a file with which clients reach the API as administrator:
// mode 0600, current context "serin", namespace default.
func (s *Server) KubeconfigPath() string { return s.kubeconfig }

// RESTConfig is a fresh client configuration with the administrator's token and
// without client-side rate limits, for controllers in this process.
func (s *Server) RESTConfig() *rest.Config { return rest.CopyConfig(s.rest) }

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait blocks until the server has ended and tells why: nil after Stop or the
// end of Start's context, else the failure.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// Stop ends the server and waits for it, well below a second: requests under
// way are answered, watches are cut. It may be called more than once.
func (s *Server) Stop() error {
	s.stop()
	return s.Wait()
}

// Start brings the API up and returns when it is ready: every kind is served
// and the namespaces default and kube-system exist. The server ends with ctx,
// with Stop, or when its storage fails.
//
// The order matters. The lock comes first, so that nothing is touched that
// belongs to another process; the port second, so that a taken one is found
// before anything is written.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg = cfg.withDefaults()
	var undo []func()
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			undo[i]()
		}
	}()

	lock, err := lockDir(ctx, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() { lock.Close() })

	listener, err := listen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() { listener.Close() })

	if err := checkSpace(cfg); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	creds, err := loadCredentials(cfg.DataDir, host)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}

	db, err := openDatabase(ctx, cfg)
	if err != nil {
		return nil, err
	}
	undo = append(undo, db.close)
	if err := seedDefinitions(ctx, db); err != nil {
		return nil, fmt.Errorf("new object store: %w", err)
	}

	s := &Server{
		rest:       creds.clientConfig("https://" + net.JoinHostPort(host, port)),
		kubeconfig: filepath.Join(cfg.DataDir, "kubeconfig"),
		done:       make(chan struct{}),
	}
	api, err := newAPI(cfg, db, creds, listener, s.rest.Host)
	if err != nil {
		return nil, err
	}
	if err := creds.writeKubeconfig(s.kubeconfig, s.rest.Host); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	runCtx, cancel := context.WithCancel(ctx)
	s.stop = cancel
	started := make(chan struct{})
	go s.run(runCtx, started, api, db, listener, lock)
	err = api.ready(context.WithoutCancel(ctx))
	close(started)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		undo = nil // run closes everything
		return nil, fmt.Errorf("start the API: %w", errors.Join(err, s.Stop()))
	}
	go api.collector.run(runCtx)
	return s, nil
}

// run serves until ctx ends or something fails, and then takes everything down
// in the reverse order of Start.
func (s *Server) run(ctx context.Context, started <-chan struct{}, api *api, db *database, listener *trackingListener, lock *os.File) {
	defer close(s.done)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan struct{})
	var err error
	go func() {
		defer close(served)
		err = api.run(serving)
	}()
	select {
	case <-served: // it could not begin to serve
		api.fail(err)
	case s.err = <-db.failed:
		api.fail(s.err)
	case <-ctx.Done():
	}
	// The generic server ends the process when it is stopped half started.
	<-started
	stopServing()
	// Watches end when their connections do; requests finish by themselves.
	time.AfterFunc(drainTime, listener.closeConnections)
	select {
	case <-served:
		if s.err == nil {
			s.err = err
		}
	case <-time.After(stopTime):
	}
	listener.closeConnections()
	listener.Close() // closed already if the server got to serve
	db.close()
	lock.Close()
}

const (
	// startTime bounds the start; it takes some 400 ms on a quiet machine.
	startTime = time.Minute
	// drainTime is what requests under way get to finish when the server stops;
	// a write to the local disk takes a few milliseconds.
	drainTime = 100 * time.Millisecond
	// stopTime bounds the end: a request still at work after it finds the
	// database closed and fails, as a client of a server that goes must expect.
	stopTime = 600 * time.Millisecond
)

func (cfg Config) withDefaults() Config {
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.freeBytes == nil {
		cfg.freeBytes = freeBytes
	}
	return cfg
}

func (cfg Config) externalEtcd() bool { return len(cfg.EtcdServers) > 0 }

// listen takes the address, and tells the two usual reasons why it cannot.
func listen(address string) (*trackingListener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("API address %s is taken by another program: stop it or choose another address with --api-address", address)
	case err != nil:
		return nil, fmt.Errorf("API address %s: %w; choose another with --api-address", address, err)
	}
	return &trackingListener{Listener: l, open: map[net.Conn]struct{}{}}, nil
}

// trackingListener can close the connections it gave out. net/http's graceful
// shutdown waits for every watch to end by itself, and a second for each HTTP/2
// client to say goodbye.
type trackingListener struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

func (l *trackingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[c] = struct{}{}
	return trackedConn{c, l}, nil
}

func (l *trackingListener) closeConnections() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		c.Close()
	}
	clear(l.open)
}

type trackedConn struct {
	net.Conn
	listener *trackingListener
}

func (c trackedConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c.Conn)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// secureServing is what the generic server needs to know to serve TLS.
func secureServing(creds credentials, l net.Listener) (*server.SecureServingInfo, error) {
	cert, err := creds.servingCertificate()
	if err != nil {
		return nil, err
	}
	return &server.SecureServingInfo{Listener: l, Cert: cert}, nil
}
