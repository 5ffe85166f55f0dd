package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

var (
	_ Conn = (*loop.Conn)(nil)
	_ Loop = (*loop.Loop)(nil)
)

// serve runs f as a task for each connection to the address returned.
func serve(t *testing.T, f func(*loop.Task, *loop.Conn)) string {
	g, err := loop.NewGroup(1, loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := g.Listen("127.0.0.1:0", func(c *loop.Conn) {
		c.Loop().Go(func(task *loop.Task) { f(task, c) })
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Errorf("a connection or a task is left: %v", err)
		}
	})
	return ln.Addr().String()
}

// patience is how long a test waits for what must happen at once.
const patience = 20 * time.Second

var errAnswered = errors.New("the answer is complete")

// relayTo is a proxy without decisions: the body goes up in a task of its
// own, so that the answer can overtake it.
func relayTo(callee string) func(*loop.Task, *loop.Conn) {
	address := netip.MustParseAddrPort(callee)
	return func(t *loop.Task, c *loop.Conn) {
		s := NewServerConn(c, t.Loop(), ServerOptions{}, nil)
		defer s.Close()
		var pooled *ClientConn
		defer func() {
			if pooled != nil {
				pooled.Close()
			}
		}()
		var request, answer wire.Head
		for s.ReadRequest(&request) == nil {
			if pooled == nil {
				up, err := t.Loop().Dial(address, patience)
				if err != nil {
					return
				}
				pooled = NewClientConn(up, t.Loop(), wire.Limits{})
			}
			err := relayOne(t, s, pooled, &request, &answer)
			if !pooled.Finish() {
				pooled.Close()
				pooled = nil
			}
			if !s.Finish() || err != nil {
				return
			}
		}
	}
}

func relayOne(t *loop.Task, s *ServerConn, c *ClientConn, request, answer *wire.Head) error {
	if err := c.Send(request, request.Body == wire.NoBody); err != nil {
		return err
	}
	if request.Body != wire.NoBody {
		var upload *loop.Task
		ended := false
		t.Loop().Go(func(u *loop.Task) {
			upload = u
			if err := pump(c, s); err != nil && err != errAnswered && c.out.err == nil {
				c.in.conn.(*loop.Conn).Interrupt(err) // the caller is gone
			}
			upload, ended = nil, true
			t.Wake()
		})
		defer func() {
			for !ended {
				if upload != nil {
					upload.Interrupt(errAnswered)
				}
				if t.Park() != nil {
					return
				}
			}
		}()
	}
	for {
		if err := c.Answer(answer); err != nil {
			return err
		}
		if answer.Status >= 200 {
			break
		}
		if err := s.Inform(answer); err != nil {
			return err
		}
	}
	if err := s.Answer(answer, answer.Body == wire.NoBody); err != nil {
		return err
	}
	if answer.Body == wire.NoBody {
		return nil
	}
	return pump(s, c)
}

// echo answers with the request's body, and with its trailers as such.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if r.URL.Query().Has("chunked") {
		w.Header().Set("Trailer", "Sum")
		defer w.Header().Set("Sum", fmt.Sprint(len(body)))
	}
	if _, err := w.Write(body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func TestBodiesOfEverySizePassBetweenRealPeers(t *testing.T) {
	callee := httptest.NewServer(http.HandlerFunc(echo))
	defer callee.Close()
	proxy := serve(t, relayTo(callee.Listener.Addr().String()))
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			for i, size := range []int{0, 1, 511, 4096, 4097, 16 << 10, 100_000, 3_000_000} {
				body := bytes.Repeat([]byte{'a' + byte(worker)}, size)
				var reader io.Reader = bytes.NewReader(body)
				query := ""
				if (i+worker)%2 == 1 {
					reader, query = io.MultiReader(reader), "?chunked" // of unknown size
				}
				resp, err := client.Post("http://"+proxy+"/"+query, "text/plain", reader)
				if err != nil {
					t.Errorf("%d bytes: %v", size, err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d bytes%s: got %d back, %v", size, query, len(got), err)
				}
				if query != "" && resp.Trailer.Get("Sum") != fmt.Sprint(size) {
					t.Errorf("%d bytes: trailer %q, want the size", size, resp.Trailer.Get("Sum"))
				}
				resp.Body.Close()
			}
		})
	}
	wait.Wait()
}

func TestContinuePasses(t *testing.T) {
	callee := httptest.NewServer(http.HandlerFunc(echo))
	defer callee.Close()
	proxy := serve(t, relayTo(callee.Listener.Addr().String()))
	conn := dial(t, proxy)
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("first line %q, %v; want 100", line, err)
	}
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	send(t, conn, "hello")
	if body := readAnswer(t, answers, 200); body != "hello" {
		t.Errorf("body %q", body)
	}
}

// A callee that answers before it read the body ends the exchange; the caller
// sees the answer although it never stops sending.
func TestAnEarlyAnswerReachesACallerThatSendsOn(t *testing.T) {
	callee := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}))
	defer callee.Close()
	proxy := serve(t, relayTo(callee.Listener.Addr().String()))
	conn := dial(t, proxy)
	go func() {
		// How much can be sent is the proxy's choice.
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
		chunk := "4000\r\n" + strings.Repeat("a", 0x4000) + "\r\n"
		for range 1000 {
			if _, err := io.WriteString(conn, chunk); err != nil {
				return
			}
		}
	}()
	readAnswer(t, bufio.NewReader(conn), 413)
}

// The same for an answer of our own, when everything was sent before it is read.
func TestARefusalReachesACallerThatHasSentMuch(t *testing.T) {
	proxy := serve(t, func(task *loop.Task, c *loop.Conn) {
		s := NewServerConn(c, task.Loop(), ServerOptions{}, nil)
		defer s.Close()
		var request wire.Head
		if s.ReadRequest(&request) == nil && s.Answer(&wire.Head{Status: 403}, true) == nil {
			s.Finish()
		}
	})
	conn := dial(t, proxy)
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("a", 1_000_000))
	readAnswer(t, bufio.NewReader(conn), 403)
}

func TestASlowHeadIsRefusedInTime(t *testing.T) {
	proxy := serve(t, func(task *loop.Task, c *loop.Conn) {
		s := NewServerConn(c, task.Loop(), ServerOptions{IdleTimeout: time.Minute, HeadTimeout: 20 * time.Millisecond}, nil)
		defer s.Close()
		var request wire.Head
		var refused *wire.ParseError
		if err := s.ReadRequest(&request); !errors.As(err, &refused) {
			t.Errorf("ReadRequest: %v, want a refusal", err)
		}
	})
	conn := dial(t, proxy)
	send(t, conn, "GET / HTTP/1.1\r\nHo")
	readAnswer(t, bufio.NewReader(conn), 408)
}

func TestAnIdleConnectionEndsWithoutAWord(t *testing.T) {
	proxy := serve(t, func(task *loop.Task, c *loop.Conn) {
		s := NewServerConn(c, task.Loop(), ServerOptions{IdleTimeout: 20 * time.Millisecond, HeadTimeout: time.Minute}, nil)
		defer s.Close()
		var request wire.Head
		if err := s.ReadRequest(&request); err != ErrIdle {
			t.Errorf("ReadRequest: %v, want %v", err, ErrIdle)
		}
	})
	if got, err := io.ReadAll(dial(t, proxy)); len(got) > 0 || err != nil {
		t.Errorf("got %q, %v; want nothing", got, err)
	}
}

func dial(t *testing.T, address string) net.Conn {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func readAnswer(t *testing.T, r *bufio.Reader, status int) (body string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("answer %d with %d bytes, %v; want %d", resp.StatusCode, len(text), err, status)
	}
	return string(text)
}
