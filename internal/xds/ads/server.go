package ads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds"
)

// DefaultListen is where proxies of this machine find the server.
const DefaultListen = "127.0.0.1:15010"

const (
	// pingAfter and pingTimeout find dead proxies: one whose machine went away
	// without a word is gone after both.
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
	// lostFor is how long a proxy is still told of that is not connected any
	// more: it goes on routing by what it has.
	lostFor = time.Minute
	// maxMessage is what a proxy may send at once; its first request lists the
	// versions of all resources that it has.
	maxMessage = 64 << 20
)

// Config is what a Server is made with. The zero value works.
type Config struct {
	// Recorder takes a record of each request that a proxy reports. It is called
	// by many goroutines and must not keep the record. nil = nobody.
	Recorder telemetry.Recorder
	// OnChange is called after Proxies changed, by the goroutine of a proxy: it
	// must not block. nil = nobody.
	OnChange func()
	// Logger hears of proxies that come and go, and of what they refuse. nil =
	// silence.
	Logger *slog.Logger
}

// Server gives snapshots to proxies. It is safe for concurrent use.
type Server struct {
	config Config
	log    *slog.Logger

	mu       sync.Mutex
	current  *edition
	proxies  map[string]*proxy       // by id
	encoders map[string]*xds.Encoder // of what nodes see of snapshots, by viewOf
}

// ProxyStatus is what is known of one proxy.
type ProxyStatus struct {
	Node xds.Node
	// Connected is false for one whose stream has ended less than a minute ago.
	// It goes on routing by the last snapshot that it applied.
	Connected bool
	// Version is the last snapshot that the proxy applied whole, and At when it
	// said so. Zero means none since it connected.
	Version mesh.SnapshotVersion
	At      time.Time
	// Refused is the last snapshot that it did not take; nil when it applied one
	// since.
	Refused *Refusal
}

// Refusal says why a proxy did not take a snapshot. It stays with the one that
// it had.
type Refusal struct {
	Version mesh.SnapshotVersion
	Reason  string
}

// New makes a server without a snapshot: proxies that connect wait for one.
func New(c Config) *Server {
	s := &Server{config: c, log: c.Logger, proxies: map[string]*proxy{}, encoders: map[string]*xds.Encoder{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// Set gives all proxies a snapshot, which is valid and not changed afterwards.
// It returns at once; Proxies tells who has applied it. A snapshot that is not
// newer than the one before is not sent. What it has in common with that is not
// encoded again.
func (s *Server) Set(snapshot *mesh.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		if snapshot.Version <= s.current.snapshot.Version {
			return
		}
		snapshot = snapshot.Sharing(s.current.snapshot)
	}
	s.current = &edition{snapshot: snapshot, made: map[string]*made{}}
	seen := map[string]bool{}
	for _, p := range s.proxies {
		seen[viewOf(p.node)] = true
		p.wake()
	}
	maps.DeleteFunc(s.encoders, func(view string, _ *xds.Encoder) bool { return !seen[view] })
}

// anyOf is what all nodes are that see the same of each snapshot as this one, and
// viewOf says the same as text.
func anyOf(n xds.Node) xds.Node {
	n.ID, n.Caller.Workload.Pod = "", ""
	return n
}

func viewOf(n xds.Node) string { return fmt.Sprintf("%+v", anyOf(n)) }

// encoder finds or makes the encoder of what a node sees.
func (s *Server) encoder(n xds.Node) *xds.Encoder {
	s.mu.Lock()
	defer s.mu.Unlock()
	view := viewOf(n)
	e := s.encoders[view]
	if e == nil {
		e = xds.NewEncoder(anyOf(n))
		s.encoders[view] = e
	}
	return e
}

// Proxies lists all proxies by their ids.
func (s *Server) Proxies() []ProxyStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ProxyStatus, 0, len(s.proxies))
	for _, p := range s.proxies {
		out = append(out, p.status)
	}
	slices.SortFunc(out, func(a, b ProxyStatus) int { return cmp.Compare(a.Node.ID, b.Node.ID) })
	return out
}

// Serve answers proxies until ctx ends. It closes the listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		// Proxies ping, too, and must not be sent away for that.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(maxMessage),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, discovery{server: s})
	accesslogv3.RegisterAccessLogServiceServer(server, records{server: s})
	desc := recordServiceDesc()
	server.RegisterService(&desc, records{server: s})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve xDS on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	server.Stop() // streams last as long as proxies: there is nothing to wait for
	if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve xDS on %s: %w", listener.Addr(), err)
	}
	return nil
}

func (s *Server) changed() {
	if s.config.OnChange != nil {
		s.config.OnChange()
	}
}

// edition is one snapshot, encoded once for all proxies that see the same of
// it.
type edition struct {
	snapshot *mesh.Snapshot

	mu   sync.Mutex
	made map[string]*made
}

type made struct {
	once      sync.Once
	resources xds.Resources
	err       error
}

// encode makes what a node is sent. The result must not be changed.
func (e *edition) encode(n xds.Node, encoder *xds.Encoder) (*xds.Resources, error) {
	view := viewOf(n)
	e.mu.Lock()
	m := e.made[view]
	if m == nil {
		m = &made{}
		e.made[view] = m
	}
	e.mu.Unlock()
	m.once.Do(func() { m.resources, m.err = encoder.Encode(e.snapshot) })
	return &m.resources, m.err
}
