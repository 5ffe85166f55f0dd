package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// caller sends one request after the other and reads the answers. It costs a
// fraction of what a client library does, so that a machine of two cores
// measures the proxy.
type caller interface {
	// call returns when the whole answer to one request has come.
	call() error
	close()
}

// patience is how long a caller waits for one answer.
const patience = 10 * time.Second

// caller returns one with a connection of its own, which is open.
func (w workload) caller(p *plan, roots *x509.CertPool) (caller, error) {
	c := &caller1{workload: w, address: p.address(w.door), roots: roots, request: w.message()}
	if w.http2() {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return nil, err
		}
		return w.caller2(conn)
	}
	if w.close {
		return c, nil
	}
	return c, c.dial()
}

// message is the request in the form of HTTP/1.1.
func (w workload) message() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nhost: %s\r\n", w.path, host)
	for _, h := range w.header {
		fmt.Fprintf(&b, "%s\r\n", h)
	}
	if w.close {
		b.WriteString("connection: close\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// caller1 speaks HTTP/1.1, with TLS or without.
type caller1 struct {
	workload
	address string
	roots   *x509.CertPool
	request []byte
	conn    net.Conn
	in      *bufio.Reader
}

func (c *caller1) dial() error {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return err
	}
	if c.door == "tls" {
		secure := tls.Client(conn, &tls.Config{RootCAs: c.roots, ServerName: host})
		if err := secure.Handshake(); err != nil {
			return errors.Join(err, conn.Close())
		}
		conn = secure
	}
	c.conn = conn
	if c.in == nil {
		c.in = bufio.NewReaderSize(nil, 16<<10)
	}
	c.in.Reset(conn)
	return nil
}

func (c *caller1) call() error {
	if c.workload.close {
		if err := c.dial(); err != nil {
			return err
		}
		defer c.close()
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	for i := 0; ; i++ {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if i == 0 && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answered %q", line)
		}
		if len(line) <= len("\r\n") {
			break
		}
	}
	_, err := c.in.Discard(c.size)
	return err
}

func (c *caller1) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

// caller2 speaks HTTP/2, one stream at a time.
type caller2 struct {
	workload
	conn   net.Conn
	frames *http2.Framer
	head   []byte // the header block, which needs no table and so never changes
	stream uint32 // the last one
}

func (w workload) caller2(conn net.Conn) (*caller2, error) {
	c := &caller2{workload: w, conn: conn, frames: http2.NewFramer(conn, bufio.NewReaderSize(conn, 16<<10)), head: w.block()}
	c.frames.SetReuseFrames()
	_, err := io.WriteString(conn, http2.ClientPreface)
	return c, errors.Join(err, c.frames.WriteSettings())
}

// block is the request's header block.
func (w workload) block() []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0)
	method := "GET"
	if w.door == "grpc" {
		method = "POST"
	}
	field := func(name, value string) {
		if err := e.WriteField(hpack.HeaderField{Name: name, Value: value}); err != nil {
			panic(fmt.Sprintf("hpack into memory: %v", err))
		}
	}
	field(":method", method)
	field(":scheme", "http")
	field(":authority", host)
	field(":path", w.path)
	for _, h := range w.header {
		name, value, _ := strings.Cut(h, ": ")
		field(name, value)
	}
	return b.Bytes()
}

func (c *caller2) call() error {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if c.stream == 0 {
		c.stream = 1
	} else {
		c.stream += 2
	}
	body := c.door == "grpc"
	if err := c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: c.head, EndHeaders: true, EndStream: !body}); err != nil {
		return err
	}
	if body {
		if err := c.frames.WriteData(c.stream, true, grpcBody); err != nil {
			return err
		}
	}
	got := 0
	for {
		f, err := c.frames.ReadFrame()
		if err != nil {
			return err
		}
		ended, n, err := c.take(f)
		if err != nil {
			return err
		}
		if got += n; !ended {
			continue
		}
		if got != c.size {
			return fmt.Errorf("answered %d bytes, want %d", got, c.size)
		}
		return nil
	}
}

// take does what one frame asks for. It returns whether the frame ended the
// stream, and how many bytes of the body it brought.
func (c *caller2) take(f http2.Frame) (ended bool, n int, err error) {
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return f.StreamEnded(), 0, nil
	case *http2.DataFrame:
		n = len(f.Data())
		if n > 0 { // what was taken may be sent again
			err = c.frames.WriteWindowUpdate(0, uint32(n))
		}
		return f.StreamEnded(), n, err
	case *http2.SettingsFrame:
		if !f.IsAck() {
			err = c.frames.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			err = c.frames.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		err = fmt.Errorf("reset: %v", f.ErrCode)
	case *http2.GoAwayFrame:
		err = fmt.Errorf("goaway: %v", f.ErrCode)
	}
	return false, 0, err
}

func (c *caller2) close() { c.conn.Close() }
