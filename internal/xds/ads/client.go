package ads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/xds"
)

const (
	// retryFirst and retryMost bound the wait before the client connects again:
	// a server that was only started anew is back at once, and one that is gone
	// is asked every few seconds.
	retryFirst = 50 * time.Millisecond
	retryMost  = 5 * time.Second
	// twinFirst and twinMost do so for one of two proxies with the same id, of
	// which each connection ends the other one's. Somebody has to change a flag.
	twinFirst = 5 * time.Second
	twinMost  = time.Minute
)

// patience is how long the client waits before it connects again, and what it
// has said of that.
type patience struct {
	wait  time.Duration
	twins bool
	told  string
}

// after takes the end of a stream into account, on which the server had said
// something or not. What is to be said is "" when it was said before.
func (p *patience) after(got bool, err error) (wait time.Duration, say string) {
	twins := status.Code(err) == codes.Aborted
	first, most := retryFirst, retryMost
	say = "no connection to the xds server; trying again"
	if twins {
		first, most = twinFirst, twinMost
		say = "another proxy with the same id has connected to the xds server: give each its own --id; trying again"
	}
	if twins != p.twins || got && !twins || p.wait == 0 {
		p.wait, p.told = first, ""
	} else {
		p.wait = min(2*p.wait, most)
	}
	p.twins = twins
	if say == p.told {
		return p.wait, ""
	}
	p.told = say
	return p.wait, say
}

// Client is our own proxy's side of the protocol: it gets the node's snapshots
// and has them applied.
type Client struct {
	Server string // host:port
	Node   xds.Node
	// Apply puts a snapshot in force, or returns the reason why it cannot be:
	// that goes back to the server. Each is valid and newer than the one before.
	Apply func(*mesh.Snapshot) error
	// Logger hears of connections that are made and lost. nil = silence.
	Logger *slog.Logger
}

// Dial makes the connection that a Client and a Log share. It does not wait for
// the server.
func Dial(server string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+server,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, fmt.Errorf("xds server %s: %w", server, err)
	}
	return conn, nil
}

// Run gets snapshots until ctx ends, and connects again whenever the stream is
// lost; what was applied stays in force meanwhile. It returns nil, or why the
// server will never have this proxy.
func (c *Client) Run(ctx context.Context, conn *grpc.ClientConn) error {
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	state := newWorld()
	var waits patience
	for {
		got, err := c.stream(ctx, conn, state)
		if ctx.Err() != nil {
			return nil
		}
		if status.Code(err) == codes.InvalidArgument {
			return fmt.Errorf("xds server %s: %s", c.Server, status.Convert(err).Message())
		}
		wait, say := waits.after(got, err)
		if say != "" {
			log.Warn(say, "server", c.Server, "id", c.Node.ID, "err", status.Convert(err).Message())
		}
		// Half of the wait is drawn, so that the proxies of a server that came
		// back do not come all at once.
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		conn.ResetConnectBackoff() // gRPC has a wait of its own
	}
}

// stream serves one stream until it ends. It reports whether the server said
// anything on it.
func (c *Client) stream(ctx context.Context, conn *grpc.ClientConn, state *world) (got bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return false, err
	}
	for i := range channels {
		m := &discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: i.url(), ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: state.versions(i),
		}
		if i == 0 {
			m.Node = c.Node.Message()
		}
		if err := send(stream, m); err != nil {
			return false, err
		}
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return got, err
		}
		got = true
		answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}
		if err := c.take(state, m); err != nil {
			answer.ErrorDetail = status.New(codes.InvalidArgument, err.Error()).Proto()
		}
		if err := send(stream, answer); err != nil {
			return got, err
		}
	}
}

// send sends a message. Why a stream has ended, receiving tells.
func send(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, m *discoveryv3.DeltaDiscoveryRequest) error {
	err := stream.Send(m)
	if err == nil {
		return nil
	}
	for {
		if _, reason := stream.Recv(); reason != nil {
			return errors.Join(err, reason)
		}
	}
}

// take takes a response into account; with the manifest, the snapshot is whole
// and is applied.
func (c *Client) take(state *world, m *discoveryv3.DeltaDiscoveryResponse) error {
	at, ok := channelOf(m.GetTypeUrl())
	if !ok {
		return fmt.Errorf("type %q was not asked for", m.GetTypeUrl())
	}
	if at != manifest {
		state.update(xds.Type(at), m)
		return nil
	}
	for _, r := range m.GetResources() {
		version, err := readManifest(r.GetResource())
		if err != nil {
			return err
		}
		if version == state.applied {
			return nil // what was refused since was taken back
		}
		snapshot, err := state.snapshot(version)
		if err != nil {
			return err
		}
		if err := c.Apply(snapshot); err != nil {
			return err
		}
		state.applied = version
	}
	return nil
}

// world is all that the server has sent.
type world struct {
	resources [channels]map[string]xds.Resource
	applied   mesh.SnapshotVersion
}

func newWorld() *world {
	w := &world{}
	for i := range w.resources {
		w.resources[i] = map[string]xds.Resource{}
	}
	return w
}

// versions of what is there, for a server that knows them, too.
func (w *world) versions(c channel) map[string]string {
	out := map[string]string{}
	if c == manifest {
		return out // the server says again which snapshot is whole
	}
	for name, r := range w.resources[c] {
		out[name] = r.Version
	}
	return out
}

func (w *world) update(t xds.Type, m *discoveryv3.DeltaDiscoveryResponse) {
	for _, r := range m.GetResources() {
		w.resources[t][r.GetName()] = xds.Resource{Version: r.GetVersion(), Body: r.GetResource()}
	}
	for _, name := range m.GetRemovedResources() {
		delete(w.resources[t], name)
	}
}

// snapshot makes a snapshot of what is there.
func (w *world) snapshot(version mesh.SnapshotVersion) (*mesh.Snapshot, error) {
	r := xds.Resources{Version: version}
	for _, t := range xds.Types() {
		r.ByType[t] = w.resources[t]
	}
	s, err := xds.Decode(r)
	if err != nil {
		return nil, err
	}
	return s, s.Validate()
}
