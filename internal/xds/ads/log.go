package ads

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/telemetry"
)

const (
	// logPending is how many bytes of records wait for the server at most: some
	// 25,000 records, a second of what a busy proxy carries.
	logPending = 1 << 20
	// logBatch is how many are sent without waiting for more: what a message
	// costs is little then, spread over its records. With those that come until
	// it is sent, it still fits into a buffer of 32 KiB, of which gRPC has a pool.
	logBatch = 24 << 10
	// logDelay is how long a record waits for others: no longer than an Envoy's.
	logDelay = 100 * time.Millisecond
)

// Log sends records to the server. It is a telemetry.Recorder that never
// blocks: while the server is away or slow, records beyond logPending are
// dropped and counted.
type Log struct {
	mu      sync.Mutex
	pending *telemetry.Batch

	// Each holds a signal at most: that a batch was begun, that it is worth
	// sending. One that comes late does no harm.
	begun, full chan struct{}

	sending *telemetry.Batch // Run's own: to swap with pending
	dropped atomic.Uint64
}

// NewLog makes a log. Run sends it.
func NewLog() *Log {
	return &Log{
		pending: &telemetry.Batch{}, sending: &telemetry.Batch{},
		begun: make(chan struct{}, 1), full: make(chan struct{}, 1),
	}
}

// Record takes a record.
func (l *Log) Record(r *telemetry.Request) {
	l.mu.Lock()
	before := l.pending.Len()
	if before >= logPending {
		l.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	l.pending.Add(r)
	after := l.pending.Len()
	l.mu.Unlock()
	if before == 0 {
		signal(l.begun)
	}
	if before < logBatch && after >= logBatch {
		signal(l.full)
	}
}

func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Dropped is how many records were not sent.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Run sends records until ctx ends, and then those that are there already. It
// is called once.
func (l *Log) Run(ctx context.Context, conn *grpc.ClientConn) {
	defer func() { l.drop(l.take()) }() // what is left without a server
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
	stream, err := openRecords(outlasting, conn)
	if err != nil {
		return false, err
	}
	for {
		more := l.await(ctx, stream.Context())
		if err := stream.Context().Err(); err != nil {
			return sent, err
		}
		if batch := l.take(); batch.Len() > 0 {
			// The message is made of a copy: the batch is free again.
			if err := stream.Send(wrapperspb.Bytes(batch.Bytes())); err != nil {
				l.drop(batch)
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

// await waits for records and for those that follow shortly, or for the end of
// either context. It reports false when ctx has ended: those that are pending
// are the last ones.
func (l *Log) await(ctx, stream context.Context) (more bool) {
	select {
	case <-l.begun:
	case <-stream.Done():
		return true
	case <-ctx.Done():
		return false
	}
	timer := time.NewTimer(logDelay)
	defer timer.Stop()
	select {
	case <-l.full:
	case <-timer.C:
	case <-stream.Done():
	case <-ctx.Done():
		return false
	}
	return true
}

// take returns the pending batch, which is good until it is called again.
func (l *Log) take() *telemetry.Batch {
	l.sending.Reset()
	l.mu.Lock()
	l.pending, l.sending = l.sending, l.pending
	l.mu.Unlock()
	return l.sending
}

func (l *Log) drop(batch *telemetry.Batch) { l.dropped.Add(uint64(batch.Records())) }
