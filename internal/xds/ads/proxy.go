package ads

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/xds"
)

// proxy is one stream, or what is left of it.
type proxy struct {
	server *Server
	node   xds.Node
	cancel context.CancelCauseFunc
	signal chan struct{} // holds a value when there may be something to do

	status ProxyStatus // under Server.mu

	mu       sync.Mutex // of what follows; never held while something is sent
	session  *session
	edition  *edition // that the session's target is of
	routings routings
}

// discovery serves both protocols.
type discovery struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
}

// DeltaAggregatedResources serves a stream of the delta protocol.
func (d discovery) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return d.server.serve(stream.Context(), newSession(true), streamOf{
		receive: func() (*corev3.Node, request, error) {
			m, err := stream.Recv()
			if err != nil {
				return nil, request{}, err
			}
			r, err := deltaRequest(m)
			return m.GetNode(), r, err
		},
		send: func(r *response) error { return stream.Send(r.delta()) },
	})
}

// StreamAggregatedResources serves a stream of the state of the world.
func (d discovery) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return d.server.serve(stream.Context(), newSession(false), streamOf{
		receive: func() (*corev3.Node, request, error) {
			m, err := stream.Recv()
			if err != nil {
				return nil, request{}, err
			}
			r, err := worldRequest(m)
			return m.GetNode(), r, err
		},
		send: func(r *response) error { return stream.Send(r.world()) },
	})
}

// streamOf is a stream of either protocol.
type streamOf struct {
	receive func() (*corev3.Node, request, error)
	send    func(*response) error
}

var errReplaced = status.Error(codes.Aborted, "another proxy with the same id has connected")

// serve serves one stream until it ends.
func (s *Server) serve(ctx context.Context, session *session, stream streamOf) error {
	message, first, err := stream.receive()
	if err != nil {
		return ended(err)
	}
	node, err := xds.NodeOf(message)
	if err != nil {
		s.log.Warn("a proxy was sent away", "err", err)
		return status.Error(codes.InvalidArgument, err.Error())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &proxy{server: s, node: node, cancel: cancel, session: session, signal: make(chan struct{}, 1)}
	session.take(first)
	s.join(p)
	defer s.leave(p)
	received := make(chan error, 1)
	go func() { received <- p.receive(stream) }()
	p.wake()
	for {
		select {
		case err := <-received:
			return ended(err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.signal:
		}
		if err := p.work(stream); err != nil {
			return ended(err)
		}
	}
}

// ended turns the end of a stream into what is told to the proxy: a fault of
// its own, or nothing.
func ended(err error) error {
	if _, isStatus := status.FromError(err); err == nil || isStatus {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return nil
	}
	return status.Error(codes.InvalidArgument, err.Error())
}

func (p *proxy) wake() {
	select {
	case p.signal <- struct{}{}:
	default:
	}
}

// receive takes requests into account until the stream ends.
func (p *proxy) receive(stream streamOf) error {
	for {
		_, r, err := stream.receive()
		if err != nil {
			return err
		}
		p.mu.Lock()
		before := p.session.refused
		p.session.take(r)
		refused := p.session.refused
		p.mu.Unlock()
		if refused != before && refused != nil {
			p.note(func(s *ProxyStatus) { s.Refused = &Refusal{refused.version, refused.reason} })
			p.server.log.Warn("a proxy refused a snapshot", "proxy", p.node.ID, "snapshot", refused.version, "reason", refused.reason)
		}
		p.wake()
	}
}

// work sends what there is to send.
func (p *proxy) work(stream streamOf) error {
	if err := p.update(); err != nil {
		// A fault of the snapshot, not of the proxy: it keeps what it has.
		p.note(func(s *ProxyStatus) { s.Refused = &Refusal{p.edition.snapshot.Version, err.Error()} })
		p.server.log.Error("a snapshot cannot be sent", "proxy", p.node.ID, "err", err)
		return nil
	}
	for {
		p.mu.Lock()
		r := p.session.next()
		applied := r == nil && p.session.applied()
		var version mesh.SnapshotVersion
		if applied {
			version = p.session.good.Version
			p.routings.applied(p.session.good)
		}
		p.mu.Unlock()
		if applied {
			p.note(func(s *ProxyStatus) { s.Version, s.At, s.Refused = version, time.Now(), nil })
			p.server.log.Debug("a proxy applied a snapshot", "proxy", p.node.ID, "snapshot", version)
		}
		if r == nil {
			return nil
		}
		if err := stream.send(r); err != nil {
			return err
		}
	}
}

// update gives the session the newest snapshot.
func (p *proxy) update() error {
	p.server.mu.Lock()
	newest := p.server.current
	p.server.mu.Unlock()
	if newest == nil || newest == p.edition {
		return nil
	}
	p.edition = newest
	r, err := newest.encode(p.node, p.server.encoder(p.node))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session.set(r)
	p.routings.sent(r)
	return nil
}

// note changes the status and tells whoever wants to know.
func (p *proxy) note(change func(*ProxyStatus)) {
	p.server.mu.Lock()
	change(&p.status)
	p.server.mu.Unlock()
	p.server.changed()
}

// join makes the proxy the one with its id.
func (s *Server) join(p *proxy) {
	s.mu.Lock()
	old := s.proxies[p.node.ID]
	twin := old != nil && old.status.Connected
	s.proxies[p.node.ID] = p
	p.status = ProxyStatus{Node: p.node, Connected: true}
	s.mu.Unlock()
	if old != nil {
		if twin {
			s.log.Warn("a proxy takes the place of one with the same id; if there are two, give each its own --id", "proxy", p.node.ID)
		}
		old.cancel(errReplaced)
		// Records of requests that the old stream's snapshots routed may still
		// come.
		old.mu.Lock()
		known := old.routings.clone()
		old.mu.Unlock()
		p.mu.Lock()
		p.routings = known
		p.mu.Unlock()
	}
	s.log.Info("a proxy connected", "proxy", p.node.ID, "kind", p.node.Kind)
	s.changed()
}

// leave notes that the stream has ended.
func (s *Server) leave(p *proxy) {
	s.mu.Lock()
	p.status.Connected = false
	mine := s.proxies[p.node.ID] == p
	s.mu.Unlock()
	if !mine {
		return
	}
	s.log.Info("a proxy disconnected", "proxy", p.node.ID)
	s.changed()
	time.AfterFunc(lostFor, func() {
		s.mu.Lock()
		forgotten := s.proxies[p.node.ID] == p
		if forgotten {
			delete(s.proxies, p.node.ID)
		}
		s.mu.Unlock()
		if forgotten {
			s.changed()
		}
	})
}
