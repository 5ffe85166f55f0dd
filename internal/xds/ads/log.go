package ads

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"

	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds"
)

const (
	// logQueue is how many records wait for the server at most: a second of
	// what a busy proxy carries. They take 10 MB.
	logQueue = 20_000
	// logBatch is how many are sent at once.
	logBatch = 500
	// logDelay is how long a record waits for others: no longer than an Envoy's.
	logDelay = 100 * time.Millisecond
)

// Log sends records to the server. It is a telemetry.Recorder that never
// blocks: while the server is away or slow, records beyond logQueue are dropped
// and counted.
type Log struct {
	node    xds.Node
	queue   chan telemetry.Request
	dropped atomic.Uint64
}

// NewLog makes a log of a node's requests. Run sends it.
func NewLog(node xds.Node) *Log {
	return &Log{node: node, queue: make(chan telemetry.Request, logQueue)}
}

// Record takes a record.
func (l *Log) Record(r *telemetry.Request) {
	if len(l.queue) == cap(l.queue) {
		l.dropped.Add(1) // without a copy
		return
	}
	select {
	case l.queue <- *r.Clone():
	default:
		l.dropped.Add(1)
	}
}

// Dropped is how many records were not sent.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Run sends records until ctx ends, and then those that are there already.
func (l *Log) Run(ctx context.Context, conn *grpc.ClientConn) {
	wait := retryFirst
	for {
		sent, err := l.stream(ctx, conn)
		if err == nil {
			return
		}
		if sent {
			wait = retryFirst
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, retryMost)
	}
}

// lastWords bounds how long a proxy that ends waits until its last records are
// sent.
const lastWords = 2 * time.Second

// stream sends until ctx ends, nil, or until the server is gone. A batch that
// was under way then is lost: the server may have it already, and no request
// must be counted twice.
func (l *Log) stream(ctx context.Context, conn *grpc.ClientConn) (sent bool, err error) {
	outlasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, cancel) })
	defer stop()
	stream, err := accesslogv3.NewAccessLogServiceClient(conn).StreamAccessLogs(outlasting)
	if err != nil {
		return false, err
	}
	identifier := &accesslogv3.StreamAccessLogsMessage_Identifier{Node: l.node.Message(), LogName: "serin"}
	for {
		batch, more := l.batch(ctx, stream.Context())
		if err := stream.Context().Err(); err != nil {
			l.dropped.Add(uint64(len(batch)))
			return sent, err
		}
		for _, m := range messages(batch) {
			m.Identifier, identifier = identifier, nil
			if err := stream.Send(m); err != nil {
				l.dropped.Add(uint64(len(batch)))
				return sent, fmt.Errorf("send records: %w", err)
			}
			sent = true
		}
		if !more {
			// The answer says that the server has everything.
			_, err := stream.CloseAndRecv()
			if outlasting.Err() != nil {
				err = nil
			}
			return sent, err
		}
	}
}

// batch waits for records and for those that follow shortly. It reports false
// with the last ones.
func (l *Log) batch(ctx, stream context.Context) (batch []telemetry.Request, more bool) {
	select {
	case r := <-l.queue:
		batch = append(batch, r)
	case <-stream.Done():
		return nil, false
	case <-ctx.Done():
		for len(l.queue) > 0 {
			batch = append(batch, <-l.queue)
		}
		return batch, false
	}
	timer := time.NewTimer(logDelay)
	defer timer.Stop()
	for len(batch) < logBatch {
		select {
		case r := <-l.queue:
			batch = append(batch, r)
		case <-timer.C:
			return batch, true
		case <-ctx.Done():
			return batch, true
		}
	}
	return batch, true
}

// messages makes one of the requests and one of the connections.
func messages(batch []telemetry.Request) []*accesslogv3.StreamAccessLogsMessage {
	var http []*datav3.HTTPAccessLogEntry
	var tcp []*datav3.TCPAccessLogEntry
	for i := range batch {
		if r := &batch[i]; r.Protocol == telemetry.TCP {
			tcp = append(tcp, xds.EncodeConnection(r))
		} else {
			http = append(http, xds.EncodeRequest(r))
		}
	}
	var out []*accesslogv3.StreamAccessLogsMessage
	if http != nil {
		out = append(out, &accesslogv3.StreamAccessLogsMessage{LogEntries: &accesslogv3.StreamAccessLogsMessage_HttpLogs{
			HttpLogs: &accesslogv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: http},
		}})
	}
	if tcp != nil {
		out = append(out, &accesslogv3.StreamAccessLogsMessage{LogEntries: &accesslogv3.StreamAccessLogsMessage_TcpLogs{
			TcpLogs: &accesslogv3.StreamAccessLogsMessage_TCPAccessLogEntries{LogEntry: tcp},
		}})
	}
	return out
}
