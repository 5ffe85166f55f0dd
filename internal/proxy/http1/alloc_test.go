package http1

import (
	"io"
	"testing"

	"serin.dev/serin/internal/proxy/wire"
)

// relay is a caller's and a callee's connection with what a proxy does between
// them, over peers that say the same again and again.
type relay struct {
	caller          *ServerConn
	callee          *ClientConn
	request, answer wire.Head
}

// echoConn says one message, each time something was asked or forever.
type echoConn struct {
	message string
	wrote   int
}

func (c *echoConn) Read(p []byte) (int, error) { return copy(p, c.message), nil }

func (c *echoConn) Write(p []byte) (int, error) {
	c.wrote += len(p)
	return len(p), nil
}

func newRelay(request, answer string) (*relay, *echoConn, *echoConn) {
	l := &testLoop{size: 16 << 10}
	caller, callee := &echoConn{message: request}, &echoConn{message: answer}
	return &relay{
		caller: NewServerConn(connOf(caller), l, ServerOptions{}, nil),
		callee: NewClientConn(connOf(callee), l, wire.Limits{}),
	}, caller, callee
}

func connOf(c io.ReadWriter) Conn { return &plainConn{ReadWriter: c} }

// plainConn makes a Conn of a reader and a writer.
type plainConn struct {
	io.ReadWriter
	scriptConn
}

func (c *plainConn) Read(p []byte) (int, error)  { return c.ReadWriter.Read(p) }
func (c *plainConn) Write(p []byte) (int, error) { return c.ReadWriter.Write(p) }
func (c *plainConn) WriteTwo(a, b []byte) error {
	if _, err := c.Write(a); err != nil {
		return err
	}
	_, err := c.Write(b)
	return err
}

// exchange carries one request and its answer.
func (r *relay) exchange() error {
	if err := r.caller.ReadRequest(&r.request); err != nil {
		return err
	}
	if err := r.callee.Send(&r.request, r.request.Body == wire.NoBody); err != nil {
		return err
	}
	if r.request.Body != wire.NoBody {
		if err := pump(r.callee, r.caller); err != nil {
			return err
		}
	}
	if err := r.callee.Answer(&r.answer); err != nil {
		return err
	}
	if err := r.caller.Answer(&r.answer, r.answer.Body == wire.NoBody); err != nil {
		return err
	}
	if r.answer.Body != wire.NoBody {
		if err := pump(r.caller, r.callee); err != nil {
			return err
		}
	}
	r.callee.Finish()
	if !r.caller.Finish() {
		return io.EOF
	}
	return nil
}

type bodyWriter interface {
	Write(p []byte) error
	Flush() error
	End(trailers []wire.Field) error
}

type bodyReader interface {
	Next() ([]byte, error)
	Waits() bool
	Trailers() []wire.Field
}

func pump(to bodyWriter, from bodyReader) error {
	for {
		if from.Waits() {
			if err := to.Flush(); err != nil {
				return err
			}
		}
		piece, err := from.Next()
		if err == io.EOF {
			return to.End(from.Trailers())
		}
		if err != nil {
			return err
		}
		if err := to.Write(piece); err != nil {
			return err
		}
	}
}

const (
	plainRequest = "GET /api/v1/products?currency=EUR HTTP/1.1\r\nHost: shop:8080\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n"
	plainAnswer  = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: test\r\nContent-Length: 5\r\n\r\nhello"
	chunkRequest = "POST /a HTTP/1.1\r\nHost: shop:8080\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nSum: 7\r\n\r\n"
	chunkAnswer  = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\nSum: 7\r\n\r\n"
)

func TestAnExchangeAllocatesNothing(t *testing.T) {
	for name, messages := range map[string][2]string{
		"plain":  {plainRequest, plainAnswer},
		"chunks": {chunkRequest, chunkAnswer},
	} {
		r, _, _ := newRelay(messages[0], messages[1])
		var err error
		n := testing.AllocsPerRun(100, func() {
			if e := r.exchange(); e != nil {
				err = e
			}
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n != 0 {
			t.Errorf("%s: %v allocations in an exchange, want none", name, n)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	r, _, _ := newRelay(plainRequest, plainAnswer)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.exchange(); err != nil {
			b.Fatal(err)
		}
	}
}
