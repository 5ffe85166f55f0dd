package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"serin.dev/serin/internal/mesh"
)

// echoGRPC answers as the requests ask for.
type echoGRPC struct {
	pb.UnimplementedTestServiceServer
	gone chan error // why a call was cancelled
}

func (*echoGRPC) UnaryCall(ctx context.Context, q *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if s := q.ResponseStatus; s != nil {
		return nil, status.Error(codes.Code(s.Code), s.Message)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-initial", fmt.Sprint(md["x-sent"]))); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("x-trailing-bin", "\x00\xff")); err != nil {
		return nil, err
	}
	return &pb.SimpleResponse{Payload: &pb.Payload{Body: q.Payload.GetBody()}}, nil
}

func (*echoGRPC) StreamingInputCall(s pb.TestService_StreamingInputCallServer) error {
	sum := 0
	for {
		q, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(q.Payload.GetBody())
	}
}

func (e *echoGRPC) FullDuplexCall(s pb.TestService_FullDuplexCallServer) error {
	for {
		q, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			e.gone <- s.Context().Err()
			return err
		}
		for _, p := range q.ResponseParameters {
			if err := s.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.Size)}}); err != nil {
				return err
			}
		}
	}
}

// grpcRig is a gRPC service behind a proxy, with a client of it.
func grpcRig(t *testing.T) (*rig, *echoGRPC, pb.TestServiceClient) {
	t.Helper()
	r := newRig(t, Config{})
	e := &echoGRPC{gone: make(chan error, 1)}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(8 << 20))
	pb.RegisterTestServiceServer(s, e)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	svc := service("music.default", ln.Addr().String())
	svc.Ports[0].Protocol = mesh.GRPC
	r.apply(svc, weighted("music.default", 1))
	l, _ := r.outbound()
	c, err := grpc.NewClient("passthrough:///music.default", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return r, e, pb.NewTestServiceClient(c)
}

func TestGRPCCallsWithOneMessage(t *testing.T) {
	r, _, c := grpcRig(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-sent", "a", "x-sent", "b")
	for _, size := range []int{0, 100, 4 << 20} {
		var header, trailer metadata.MD
		got, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: make([]byte, size)}}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(got.Payload.GetBody()); n != size || fmt.Sprint(header["x-initial"]) != "[[a b]]" || fmt.Sprintf("%q", trailer["x-trailing-bin"]) != `["\x00\xff"]` {
			t.Errorf("%d bytes of %d, header %v, trailer %q", n, size, header, trailer)
		}
		if rec := r.recorded(); rec.Protocol != "HTTP/2" || rec.GRPC != "0" || rec.Code != 200 || rec.Flags != "" {
			t.Errorf("record: %+v", rec)
		}
	}

	// Trailers alone, with and without an endpoint.
	_, err := c.UnaryCall(t.Context(), &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.NotFound), Message: "none, ö"}})
	if s := status.Convert(err); s.Code() != codes.NotFound || s.Message() != "none, ö" {
		t.Error(err)
	}
	if rec := r.recorded(); rec.GRPC != "5" || rec.Code != 200 {
		t.Errorf("record: %+v", rec)
	}
	if _, err := c.UnimplementedCall(t.Context(), &pb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	r.recorded()
	r.apply(serviceHTTP2(), weighted("music.default", 1))
	if _, err := c.UnaryCall(t.Context(), &pb.SimpleRequest{}); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if rec := r.recorded(); rec.GRPC != "14" || rec.Flags != flagNoCluster {
		t.Errorf("record: %+v", rec)
	}
}

func TestGRPCCallsThatStream(t *testing.T) {
	r, e, c := grpcRig(t)
	in, err := c.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for size := range 100 {
		if err := in.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, size*100)}}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := in.CloseAndRecv(); err != nil || sum.AggregatedPayloadSize != 100*99/2*100 {
		t.Errorf("%v %v", sum, err)
	}
	r.recorded()

	// Each message is answered before the next is sent.
	both, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int32{1, 31415, 9, 2653, 58979} {
		if err := both.Send(&pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: size}}}); err != nil {
			t.Fatal(err)
		}
		if got, err := both.Recv(); err != nil || len(got.Payload.GetBody()) != int(size) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); err != io.EOF {
		t.Error(err)
	}
	if rec := r.recorded(); rec.GRPC != "0" {
		t.Errorf("record: %+v", rec)
	}

	// Who cancels ends the call at the endpoint.
	ctx, cancel := context.WithCancel(t.Context())
	if both, err = c.FullDuplexCall(ctx); err != nil {
		t.Fatal(err)
	}
	if err := both.Send(&pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 1}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-e.gone; err != context.Canceled {
		t.Error(err)
	}
	if rec := r.recorded(); rec.Flags != flagCallerGone {
		t.Errorf("record: %+v", rec)
	}

	// So does who waits no longer.
	ctx, cancel = context.WithTimeout(t.Context(), unhurried)
	defer cancel()
	if both, err = c.FullDuplexCall(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	<-e.gone
}
