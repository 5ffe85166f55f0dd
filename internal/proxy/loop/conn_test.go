package loop

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"hash/crc32"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		c := dialed(t, listen(t, started(t, 1, o), func(task *Task, c *Conn) {
			asked, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			if !c.HungUp() || c.Broken() {
				t.Errorf("after the peer's end: hung up %v, broken %v; want true, false", c.HungUp(), c.Broken())
			}
			c.Write(append([]byte("answer to "), asked...))
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
			if _, err := c.Write([]byte("more")); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write after CloseWrite: %v; want EPIPE", err)
			}
		}))
		c.Write([]byte("question"))
		c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != "answer to question" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestResetIsAnErrorOfRead(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		result := make(chan error, 1)
		c := dialed(t, listen(t, started(t, 1, o), func(task *Task, c *Conn) {
			c.Write([]byte("x"))
			_, err := c.Read(make([]byte, 10))
			result <- err
		}))
		c.Read(make([]byte, 1))
		c.SetLinger(0)
		c.Close()
		if err := await(t, result); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read of a reset connection: %v; want ECONNRESET", err)
		}
	})
}

func TestSlowReaderHoldsTheWriterUp(t *testing.T) {
	const block, blocks = 1 << 20, 64
	pollers(t, func(t *testing.T, o Options) {
		var written atomic.Int64
		sums := make(chan uint32, 1)
		g := started(t, 1, o)
		full := make(chan struct{})
		var once sync.Once
		c := dialed(t, listen(t, g, func(task *Task, c *Conn) {
			sum := crc32.NewIEEE()
			b := make([]byte, block)
			for i := range blocks {
				for j := range b {
					b[j] = byte(i + j*7)
				}
				sum.Write(b)
				// The timer runs while the writer waits, so the loop is free.
				var timer Timer
				task.Loop().Start(&timer, 100*time.Millisecond, func() { once.Do(func() { close(full) }) })
				var err error
				if i%2 == 0 {
					_, err = c.Write(b)
				} else {
					err = c.WriteTwo(b[:block/3], b[block/3:])
				}
				timer.Stop()
				if err != nil {
					t.Error(err)
				}
				written.Add(1)
			}
			sums <- sum.Sum32()
		}))
		await(t, full)
		if n := written.Load(); n > blocks/2 {
			t.Errorf("%d MiB were taken while nobody read", n)
		}
		sum := crc32.NewIEEE()
		n, err := io.Copy(sum, c)
		if want := await(t, sums); n != block*blocks || err != nil || sum.Sum32() != want {
			t.Errorf("read %d bytes with sum %x, %v; want %d with %x", n, sum.Sum32(), err, block*blocks, want)
		}
	})
}

func TestDeadlines(t *testing.T) {
	const limit = 20 * time.Millisecond
	cases := []struct {
		name string
		wait func(*Task, *Conn) error
		min  time.Duration
	}{
		{"read", func(task *Task, c *Conn) error {
			c.SetReadDeadline(task.Loop().Now().Add(limit))
			_, err := c.Read(make([]byte, 1))
			return err
		}, limit},
		{"write", func(task *Task, c *Conn) error {
			b := make([]byte, 1<<26)
			task.Yield()
			c.SetWriteDeadline(task.Loop().Now().Add(limit))
			n, err := c.Write(b)
			if n == 0 || n == len(b) {
				t.Errorf("Write took %d bytes; want some", n)
			}
			return err
		}, limit},
		{"passed already", func(task *Task, c *Conn) error {
			c.SetDeadline(task.Loop().Now().Add(-time.Hour))
			_, err := c.Write([]byte("x"))
			return err
		}, 0},
		{"moved on while waiting", func(task *Task, c *Conn) error {
			c.SetReadDeadline(task.Loop().Now().Add(limit / 2))
			var timer Timer
			until := task.Loop().Now().Add(2 * limit)
			task.Loop().Start(&timer, limit/4, func() { c.SetReadDeadline(until) })
			_, err := c.Read(make([]byte, 1))
			return err
		}, 2 * limit},
		{"moved back while waiting", func(task *Task, c *Conn) error {
			c.SetReadDeadline(task.Loop().Now().Add(time.Hour))
			var timer Timer
			task.Loop().Start(&timer, limit/2, func() { c.SetReadDeadline(task.Loop().Now().Add(limit / 2)) })
			_, err := c.Read(make([]byte, 1))
			return err
		}, limit},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			pollers(t, func(t *testing.T, o Options) {
				over := make(chan struct{})
				c := dialed(t, listen(t, started(t, 1, o), func(task *Task, c *Conn) {
					begin := task.Loop().Now()
					err := test.wait(task, c)
					if took := task.Loop().Now().Sub(begin); err != os.ErrDeadlineExceeded || took < test.min {
						t.Errorf("%v after %v; want %v, not before %v", err, took, os.ErrDeadlineExceeded, test.min)
					}
					close(over)
					c.SetDeadline(time.Time{})
					b := make([]byte, 1)
					if n, err := c.Read(b); n != 1 || err != nil {
						t.Errorf("after the deadline was cleared: Read = %d, %v; want 1", n, err)
					}
				}))
				await(t, over)
				c.Write([]byte("y"))
				io.Copy(io.Discard, c)
			})
		})
	}
}

func TestInterruptEndsTheWait(t *testing.T) {
	gone := errors.New("client gone")
	cases := []struct {
		name string
		act  func(reader *Task, c *Conn)
		want error
		next error // of the read after it
	}{
		{"of the task", func(reader *Task, c *Conn) { reader.Interrupt(gone) }, gone, ErrWouldBlock},
		{"of the task without a reason", func(reader *Task, c *Conn) { reader.Interrupt(nil) }, ErrInterrupted, ErrWouldBlock},
		{"of the connection", func(reader *Task, c *Conn) { c.Interrupt(gone); c.Interrupt(io.EOF) }, gone, gone},
		{"by close", func(reader *Task, c *Conn) { c.Close() }, net.ErrClosed, net.ErrClosed},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			pollers(t, func(t *testing.T, o Options) {
				done := make(chan struct{})
				dialed(t, listen(t, started(t, 1, o), func(task *Task, c *Conn) {
					defer close(done)
					task.Loop().Go(func(*Task) { test.act(task, c) })
					if _, err := c.Read(make([]byte, 1)); err != test.want {
						t.Errorf("Read = %v; want %v", err, test.want)
					}
					if _, err := c.TryRead(make([]byte, 1)); err != test.next {
						t.Errorf("TryRead after it = %v; want %v", err, test.next)
					}
				}))
				await(t, done)
			})
		})
	}
}

func TestReaderAndWriterShareAConnection(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		const size = 16 << 20
		read := make(chan int64, 1)
		c := dialed(t, listen(t, started(t, 1, o), func(task *Task, c *Conn) {
			task.Loop().Go(func(*Task) {
				n, err := io.Copy(io.Discard, struct{ io.Reader }{c})
				if err != nil {
					t.Error(err)
				}
				read <- n
				task.Wake()
			})
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Error(err)
			}
			c.CloseWrite()
			task.Park()
		}))
		// All is written before anything is read: each direction must be full at some time.
		go func() {
			c.Write(make([]byte, size))
			c.CloseWrite()
		}()
		if n := await(t, read); n != size {
			t.Errorf("the reader got %d bytes; want %d", n, size)
		}
		if n, err := io.Copy(io.Discard, c); n != size || err != nil {
			t.Errorf("the writer sent %d bytes, %v; want %d", n, err, size)
		}
	})
}

// A keep-alive connection between two messages has no task.
func TestIdleConnectionIsCalledBackWhenReadable(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, 1, o)
		var called atomic.Int32
		ln, err := g.Listen("127.0.0.1:0", func(c *Conn) {
			var serve func(*Task)
			readable := func() { called.Add(1); c.Loop().Go(serve) }
			serve = func(task *Task) {
				b := make([]byte, 100)
				n, err := c.Read(b)
				if err == io.EOF {
					c.Close()
					return
				}
				c.Write(b[:n])
				if _, err := c.TryRead(b); err != ErrWouldBlock {
					t.Errorf("TryRead = %v; want %v", err, ErrWouldBlock)
				}
				c.OnReadable(readable)
			}
			c.OnReadable(readable)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		c := dialed(t, ln)
		b := make([]byte, 5)
		for range 3 {
			c.Write([]byte("hello"))
			if _, err := io.ReadFull(c, b); err != nil {
				t.Fatal(err)
			}
		}
		c.CloseWrite()
		if _, err := c.Read(b); err != io.EOF {
			t.Errorf("Read = %v; want EOF", err)
		}
		if called.Load() != 4 {
			t.Errorf("called back %d times; want 3 messages and the end", called.Load())
		}
	})
}

func TestReadableAlreadyIsCalledBackSoon(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		called := make(chan string, 1)
		c := dialed(t, listen(t, started(t, 1, o), func(task *Task, c *Conn) {
			b := make([]byte, 2)
			c.Read(b) // and more is left
			refused := func() { t.Error("called back though it was taken back") }
			c.OnReadable(refused)
			c.OnReadable(nil)
			task.Yield()
			c.OnReadable(func() {
				c.TryRead(b)
				called <- string(b)
				task.Wake()
			})
			task.Park()
		}))
		c.Write([]byte("abcd"))
		if got := await(t, called); got != "cd" {
			t.Errorf("called back to read %q; want cd", got)
		}
	})
}

func TestHangupInterruptsWhoeverWaitsForAnother(t *testing.T) {
	gone := errors.New("client gone")
	for _, how := range []string{"end", "reset", "before"} {
		t.Run(how, func(t *testing.T) {
			pollers(t, func(t *testing.T, o Options) {
				result := make(chan error, 1)
				registered := make(chan struct{})
				c := dialed(t, listen(t, started(t, 1, o), func(task *Task, c *Conn) {
					b := make([]byte, 10)
					c.Read(b)
					if how == "before" {
						for !c.HungUp() {
							task.Sleep(time.Millisecond)
						}
					}
					c.OnHangup(func() { task.Interrupt(gone) })
					close(registered)
					result <- task.Sleep(time.Hour)
				}))
				c.Write([]byte("ask"))
				if how != "before" {
					await(t, registered)
				}
				if how == "reset" {
					c.SetLinger(0)
				}
				c.Close()
				if err := await(t, result); err != gone {
					t.Errorf("the wait ended with %v; want %v", err, gone)
				}
			})
		})
	}
}

// A server may refuse a request before it has read all of it. Closed at once,
// the connection would be reset and the answer lost.
func TestCloseGentlyLetsThePeerReadTheAnswer(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, 1, o)
		ln, err := g.Listen("127.0.0.1:0", func(c *Conn) {
			c.Loop().Go(func(*Task) {
				c.Read(make([]byte, 10))
				c.Write([]byte("too large"))
				c.CloseGently(patience)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		c := dialed(t, ln)
		if n, err := c.Write(make([]byte, 16<<20)); err != nil {
			t.Errorf("wrote %d bytes: %v; want all to be thrown away", n, err)
		}
		c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != "too large" || err != nil {
			t.Errorf("read %q, %v; want the answer", got, err)
		}
	})
}

func TestCloseGentlyEndsAfterItsLimit(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		g := started(t, 1, o)
		ln, err := g.Listen("127.0.0.1:0", func(c *Conn) { c.CloseGently(20 * time.Millisecond) })
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		c := dialed(t, ln)
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read = %v; want EOF", err)
		}
		// This end stays open: only the limit closes the other.
		for g.Loops()[0].Stats().Conns > 0 {
			inTask(t, g.Loops()[0], func(task *Task) { task.Sleep(time.Millisecond) })
		}
	})
}

func pair(t *testing.T) [2]int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	return fds
}

func TestAdoptTakesASocketOver(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		fds := pair(t)
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			l := task.Loop()
			a, errA := l.Adopt(fds[0], netip.AddrPort{})
			b, errB := l.Adopt(fds[1], netip.AddrPort{})
			if errA != nil || errB != nil {
				t.Fatal(errA, errB)
			}
			defer a.Close()
			l.Go(func(task *Task) { echo(task, b); b.Close() })
			a.Write([]byte("over"))
			buf := make([]byte, 4)
			if _, err := io.ReadFull(a, buf); err != nil || string(buf) != "over" {
				t.Errorf("read %q, %v", buf, err)
			}
			if a.Local().IsValid() || a.RemoteAddr().Network() != "unix" {
				t.Errorf("addresses %v, %v; want those of a Unix socket", a.Local(), a.RemoteAddr())
			}
			if n := l.Stats().Conns; n != 2 {
				t.Errorf("%d connections; want 2", n)
			}
			if !o.Portable {
				if _, err := l.Adopt(1<<15, netip.AddrPort{}); !errors.Is(err, syscall.EBADF) {
					t.Errorf("Adopt of what is not open: %v; want EBADF", err)
				}
			}
		})
	})
}

// The kernel may give the number of a closed socket to the next one. News of
// the first must not reach the second.
func TestNewsOfAClosedSocketDoNotReachItsSuccessor(t *testing.T) {
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.poller.close()
	fds := pair(t)
	defer unix.Close(fds[1])
	first, _ := l.Adopt(fds[0], netip.AddrPort{})
	old := l.gen
	first.Close()
	again := pair(t)
	defer unix.Close(again[1])
	if again[0] != fds[0] {
		if err := unix.Dup2(again[0], fds[0]); err != nil {
			t.Fatal(err)
		}
		unix.Close(again[0])
	}
	second, err := l.Adopt(fds[0], netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	l.poller = &scripted{l.poller, []event{{fds[0], old, peerDone | broken}}}
	l.poll()
	if second.HungUp() {
		t.Error("the new connection got the old one's hangup")
	}
}

type scripted struct {
	poller
	news []event
}

func (s *scripted) poll() []event { return s.news }

func TestIdleConnectionsCostLittleMemory(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := int(min(10_000, limit.Cur/2))
	pollers(t, func(t *testing.T, o Options) {
		fds := pair(t)
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			conns := make([]*Conn, 0, n)
			before := heap()
			for range n {
				fd, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
				if err != nil {
					t.Error(err)
					return
				}
				c, err := task.Loop().Adopt(fd, netip.AddrPort{})
				if err != nil {
					t.Error(err)
					return
				}
				c.OnReadable(func() { t.Error("readable, though nobody wrote", c) })
				conns = append(conns, c)
			}
			task.Yield() // the kernel's first events
			per := (heap() - before) / uint64(n)
			t.Logf("%d bytes for each of %d connections", per, n)
			if per > 1024 {
				t.Errorf("an idle connection takes %d bytes; want at most 1024", per)
			}
			for _, c := range conns {
				c.Close()
			}
		})
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMessagesAllocateNothing(t *testing.T) {
	pollers(t, func(t *testing.T, o Options) {
		fds := pair(t)
		inTask(t, started(t, 1, o).Loops()[0], func(task *Task) {
			l := task.Loop()
			a, _ := l.Adopt(fds[0], netip.AddrPort{})
			b, _ := l.Adopt(fds[1], netip.AddrPort{})
			l.Go(func(task *Task) { echo(task, b); b.Close() })
			defer a.Close()
			wake := func(*Task) { task.Wake() }
			hello, world := []byte("hello "), []byte("world")
			per := testing.AllocsPerRun(100, func() {
				buf := l.Buffer()
				a.SetReadDeadline(l.Now().Add(time.Minute))
				a.WriteTwo(hello, world)
				if n, err := a.Read(buf); n != 11 || err != nil {
					t.Errorf("read %d bytes, %v; want 11", n, err)
				}
				l.Release(buf)
				l.Go(wake)
				task.Park()
				task.ParkFor(0)
			})
			if per != 0 {
				t.Errorf("a message, a timer and a task allocate %v times; want 0", per)
			}
		})
	})
}

func TestTLSRunsOverAConnection(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"example.test"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
	pollers(t, func(t *testing.T, o Options) {
		ln := listen(t, started(t, 1, o), func(task *Task, c *Conn) {
			s := tls.Server(c, config)
			io.Copy(s, struct{ io.Reader }{s})
			s.Close()
		})
		c := tls.Client(dialed(t, ln), &tls.Config{InsecureSkipVerify: true})
		sent := bytes.Repeat([]byte("secret"), 100_000)
		go func() {
			c.Write(sent)
			c.CloseWrite()
		}()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("read %d bytes, %v; want the %d that were sent", len(got), err, len(sent))
		}
	})
}
