package http2

import (
	"fmt"
	"io"
	"net/netip"
	"testing"

	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// BenchmarkUnary is what a gRPC call of 100 bytes costs both ends together,
// sockets included, with so many streams at once on one connection.
func BenchmarkUnary(b *testing.B) {
	for _, streams := range []int{1, 32} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			to := netip.MustParseAddrPort(serve(b, Limits{}, answerUnary))
			b.ReportAllocs()
			b.ResetTimer()
			onLoop(b, func(task *loop.Task) error {
				client, err := dial(task, to)
				if err != nil {
					return err
				}
				defer client.Close()
				left, running := b.N, streams
				var failed error
				for range streams {
					task.Loop().Go(func(*loop.Task) {
						for left > 0 && failed == nil {
							left--
							failed = callUnary(client)
						}
						if running--; running == 0 {
							task.Wake()
						}
					})
				}
				if err := task.Park(); err != nil {
					return err
				}
				return failed
			})
		})
	}
}

var message = make([]byte, 100)

func answerUnary(s *Stream) {
	defer s.Close()
	for {
		if _, err := s.Next(); err != nil {
			break
		}
	}
	h := wire.Head{Status: 200, Body: wire.Chunked, Fields: contentType}
	if s.Answer(&h, false) == nil && s.Write(message) == nil {
		s.End(grpcOK)
	}
}

var (
	contentType = []wire.Field{{Name: "content-type", Value: "application/grpc"}}
	grpcOK      = []wire.Field{{Name: "grpc-status", Value: "0"}, {Name: "grpc-message", Value: ""}}
)

func callUnary(client *Client) error {
	h := wire.Head{Method: "POST", Authority: "music", Path: "/music.Music/Get", Body: wire.Chunked, TrailersOK: true, Fields: contentType}
	s, err := client.Open(&h, false)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Write(message); err != nil {
		return err
	}
	if err := s.End(nil); err != nil {
		return err
	}
	if _, err := s.AnswerHead(); err != nil {
		return err
	}
	for {
		if _, err := s.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
