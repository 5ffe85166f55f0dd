package ads_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds/ads"
	"serin.dev/serin/internal/xds/xdstest"
	"serin.dev/serin/test/ports"
)

// dial connects to a server until the test ends.
func dial(t *testing.T, server string) *grpc.ClientConn {
	t.Helper()
	conn, err := ads.Dial(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// over is a context that has ended: a log that runs in it sends what it has.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// counter counts records.
type counter struct{ atomic.Uint64 }

func (c *counter) Record(*telemetry.Request) { c.Add(1) }

func TestRecordsArriveAsTheyWere(t *testing.T) {
	j := newJournal()
	conn := dial(t, xdstest.Serve(t, j).Address)
	l := ads.NewLog()
	request := telemetry.Request{
		ID: "id", Start: time.Unix(1_700_000_000, 5).UTC(), Duration: 3 * time.Millisecond, Protocol: "HTTP/2",
		Source: mesh.Workload{Namespace: "default", Name: "front", Pod: "front-1"}, Service: "music.default", Backend: "music-canary.default",
		Destination: mesh.Workload{Namespace: "default", Name: "music-canary", Version: "v2", Revision: "abc", Pod: "p"},
		Split:       true, Upstream: "127.0.0.1:9080", Attempts: 2, Snapshot: 1<<63 + 1,
		Route:  mesh.Origin{Kind: "VirtualService", Namespace: "default", Name: "music"},
		Method: "GET", Host: "music:80", Path: "/\xff", Code: 503, GRPC: "14", Flags: "UF,URX", Sent: 7, Read: 9, Probe: true,
	}
	outside := telemetry.Request{
		ID: "o", Start: request.Start, Protocol: "HTTP/1.1", Reporter: telemetry.GatewaySide, Method: "PURGE", Code: 404, Flags: "NR",
	}
	stream := telemetry.Request{Start: request.Start, Protocol: telemetry.TCP, Host: "10.0.0.1:5432", Read: 1 << 40, Sent: 2}
	for _, r := range []telemetry.Request{request, outside, stream} {
		l.Record(&r)
	}
	l.Run(over(), conn)
	if diff := cmp.Diff(map[string]telemetry.Request{"id": request, "o": outside}, j.byID); diff != "" {
		t.Errorf("requests (-recorded +arrived):\n%s", diff)
	}
	if diff := cmp.Diff([]telemetry.Request{stream}, j.streams); diff != "" {
		t.Errorf("connections (-recorded +arrived):\n%s", diff)
	}
	if l.Dropped() != 0 {
		t.Errorf("dropped %d", l.Dropped())
	}
}

func TestEveryRecordArrivesOrIsCounted(t *testing.T) {
	var arrived counter
	conn := dial(t, xdstest.Serve(t, &arrived).Address)
	l := ads.NewLog()
	const records = 50_000 // more than wait
	for i := range records {
		l.Record(&telemetry.Request{ID: fmt.Sprintf("a request of the name %d", i)})
	}
	if l.Dropped() == 0 || l.Dropped() > records/2 {
		t.Errorf("of %d records, %d were dropped without a server; want some", records, l.Dropped())
	}
	l.Run(over(), conn)
	if arrived.Load()+l.Dropped() != records {
		t.Errorf("%d arrived and %d were dropped, of %d", arrived.Load(), l.Dropped(), records)
	}
	l.Record(&telemetry.Request{})
	l.Run(over(), dial(t, "127.0.0.1:1")) // where nobody listens
	if arrived.Load()+l.Dropped() != records+1 {
		t.Errorf("%d arrived and %d were dropped, of %d and one without a server", arrived.Load(), l.Dropped(), records)
	}
}

func TestRecordsWaitForTheServer(t *testing.T) {
	address := ports.Reserve(t)
	conn := dial(t, address)
	l := ads.NewLog()
	l.Record(&telemetry.Request{ID: "early"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx, conn)
	}()
	for state := conn.GetState(); state.String() != "TRANSIENT_FAILURE"; state = conn.GetState() {
		conn.WaitForStateChange(ctx, state)
	}
	listener := ports.Listen(t, address)
	j := newJournal()
	served := make(chan error, 1)
	go func() { served <- ads.New(ads.Config{Recorder: j}).Serve(ctx, listener) }()
	conn.ResetConnectBackoff()
	j.of(t, "early")
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	<-ended
}

func TestAServerThatDoesNotReadHoldsUpNoRequest(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stuck := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		<-stream.Context().Done()
		return nil
	}))
	served := make(chan error, 1)
	go func() { served <- stuck.Serve(listener) }()
	conn, err := ads.Dial(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l := ads.NewLog()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx, conn)
	}()
	recorded := uint64(0)
	for ; l.Dropped() == 0; recorded++ {
		l.Record(&telemetry.Request{ID: "a request of some name"})
	}
	if recorded > 200_000 {
		t.Errorf("%d records wait for a server that does not read", recorded)
	}
	stuck.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	cancel()
	<-ended
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestBytesThatAreNoRecordsAreRefused(t *testing.T) {
	var arrived counter
	conn := dial(t, xdstest.Serve(t, &arrived).Address)
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/serin.telemetry.v1.RecordService/Send")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(wrapperspb.Bytes([]byte("\x07records"))); err != nil {
		t.Fatal(err)
	}
	err = stream.RecvMsg(&emptypb.Empty{})
	if status.Code(err) != codes.InvalidArgument || arrived.Load() != 0 {
		t.Errorf("the server answers %v and records %d, want a refusal", err, arrived.Load())
	}
}
