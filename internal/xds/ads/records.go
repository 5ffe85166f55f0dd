package ads

import (
	"context"
	"errors"
	"io"
	"maps"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds"
)

// routings finds the snapshot under which an Envoy routed a request. An entry
// of its access log names a hash of what routed it, which is the same for all
// snapshots that would have routed it so; the newest of them that the proxy has
// applied is the one that counts. Before it has applied any, it is the first
// that was sent.
type routings struct {
	known map[string]routing
	turns int // snapshots applied
}

type routing struct {
	version mesh.SnapshotVersion
	turn    int
}

// keptTurns is for how many snapshots a hash is remembered that none of them
// had: a request may take long.
const keptTurns = 100

func (r *routings) sent(res *xds.Resources) {
	if r.known == nil {
		r.known = map[string]routing{}
	}
	for _, hash := range res.Routings {
		if _, ok := r.known[hash]; !ok {
			r.known[hash] = routing{res.Version, r.turns}
		}
	}
}

func (r *routings) applied(res *xds.Resources) {
	r.turns++
	for _, hash := range res.Routings {
		r.known[hash] = routing{res.Version, r.turns}
	}
	if r.turns%keptTurns == 0 {
		maps.DeleteFunc(r.known, func(_ string, of routing) bool { return of.turn < r.turns-keptTurns })
	}
}

func (r *routings) clone() routings { return routings{maps.Clone(r.known), r.turns} }

// Our own proxies send records by a service of their own, because Envoy's costs
// them nearly as much as the rest of a request (14 µs of 34), and this one half
// of a microsecond:
//
//	service RecordService {
//	  // Each message is a telemetry.Batch. The answer, after the last one, says
//	  // that all have been recorded.
//	  rpc Send(stream google.protobuf.BytesValue) returns (google.protobuf.Empty);
//	}
const recordService = "serin.telemetry.v1.RecordService"

func recordServiceDesc() grpc.ServiceDesc {
	return grpc.ServiceDesc{
		ServiceName: recordService,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Send", ClientStreams: true, Handler: func(r any, stream grpc.ServerStream) error {
			return r.(records).receive(&grpc.GenericServerStream[wrapperspb.BytesValue, emptypb.Empty]{ServerStream: stream})
		}}},
	}
}

// openRecords begins to send records.
func openRecords(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStreamingClient[wrapperspb.BytesValue, emptypb.Empty], error) {
	desc := recordServiceDesc().Streams[0]
	stream, err := conn.NewStream(ctx, &desc, "/"+recordService+"/"+desc.StreamName)
	return &grpc.GenericClientStream[wrapperspb.BytesValue, emptypb.Empty]{ClientStream: stream}, err
}

// records takes what proxies report.
type records struct {
	accesslogv3.UnimplementedAccessLogServiceServer
	server *Server
}

// receive takes batches of our own proxies until the stream ends.
func (r records) receive(stream grpc.ClientStreamingServer[wrapperspb.BytesValue, emptypb.Empty]) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&emptypb.Empty{})
		}
		if err != nil {
			return ended(err)
		}
		if r.server.config.Recorder == nil {
			continue
		}
		if err := telemetry.ReadBatch(m.GetValue(), r.server.config.Recorder); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
}

// StreamAccessLogs turns the entries of an Envoy into records until the stream
// ends.
func (r records) StreamAccessLogs(stream accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	var node xds.Node
	for first := true; ; first = false {
		m, err := stream.Recv()
		if err != nil {
			return ended(err)
		}
		if first {
			if node, err = xds.NodeOf(m.GetIdentifier().GetNode()); err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
		}
		if r.server.config.Recorder == nil {
			continue
		}
		find := func(hash string) mesh.SnapshotVersion { return r.server.routedBy(node.ID, hash) }
		for _, entry := range m.GetHttpLogs().GetLogEntry() {
			r.record(xds.DecodeRequest(&node, entry, find))
		}
		for _, entry := range m.GetTcpLogs().GetLogEntry() {
			r.record(xds.DecodeConnection(&node, entry, find))
		}
	}
}

func (r records) record(record telemetry.Request) { r.server.config.Recorder.Record(&record) }

// routedBy returns the snapshot of a hash, 0 when it is not known.
func (s *Server) routedBy(id, hash string) mesh.SnapshotVersion {
	s.mu.Lock()
	p := s.proxies[id]
	s.mu.Unlock()
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.routings.known[hash].version
}
