package loop

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A message of 512 bytes from a caller through a relay to an echo and back, 64
// callers at once, each connection kept: the work of a proxy without parsing.
// The relay runs as tasks of one loop and, to compare, as a goroutine per
// connection; callers and echo are the same plain goroutines in both.
func BenchmarkRelay(b *testing.B) {
	const message, callers = 512, 64
	echo := listenPlain(b, func(c net.Conn) { io.Copy(c, struct{ io.Reader }{c}) })

	run := func(b *testing.B, address string) {
		begin := make(chan struct{})
		var all sync.WaitGroup
		for caller := range callers {
			c, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			all.Go(func() {
				defer c.Close()
				buf := make([]byte, message)
				<-begin
				for i := caller; i < b.N; i += callers {
					c.Write(buf)
					if _, err := io.ReadFull(c, buf); err != nil {
						b.Error(err)
					}
				}
			})
		}
		cpu := cpuTime(b)
		b.ResetTimer()
		close(begin)
		all.Wait()
		b.StopTimer()
		b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
	}

	b.Run("loop", func(b *testing.B) {
		ln := listen(b, started(b, 1, Options{}), func(t *Task, c *Conn) {
			up, err := t.Loop().Dial(echo.AddrPort(), time.Second)
			if err != nil {
				b.Error(err)
				return
			}
			defer up.Close()
			buf := t.Loop().Buffer()
			defer t.Loop().Release(buf)
			for relayed(c, up, buf) && relayed(up, c, buf) {
			}
		})
		run(b, ln.Addr().String())
	})
	b.Run("goroutines", func(b *testing.B) {
		relay := listenPlain(b, func(c net.Conn) {
			up, err := net.Dial("tcp", echo.String())
			if err != nil {
				b.Error(err)
				return
			}
			defer up.Close()
			buf := make([]byte, BufferSize)
			for relayed(c, up, buf) && relayed(up, c, buf) {
			}
		})
		run(b, relay.String())
	})
}

// relayed carries one message.
func relayed(from io.Reader, to io.Writer, buf []byte) bool {
	n, err := from.Read(buf)
	if err == nil {
		_, err = to.Write(buf[:n])
	}
	return err == nil
}

// listenPlain serves connections with a goroutine for each.
func listenPlain(b *testing.B, serve func(net.Conn)) *net.TCPAddr {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr)
}

// cpuTime is what the process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// To another task and back.
func BenchmarkSwitch(b *testing.B) {
	inTask(b, started(b, 1, Options{}).Loops()[0], func(t *Task) {
		stop := false
		t.Loop().Go(func(other *Task) {
			for !stop {
				t.Wake()
				other.Yield()
			}
		})
		b.ReportAllocs()
		for b.Loop() {
			t.Park()
		}
		stop = true
	})
}

func BenchmarkGo(b *testing.B) {
	inTask(b, started(b, 1, Options{}).Loops()[0], func(t *Task) {
		f := func(*Task) { t.Wake() }
		b.ReportAllocs()
		for b.Loop() {
			t.Loop().Go(f)
			t.Park()
		}
	})
}

func BenchmarkPost(b *testing.B) {
	l := started(b, 1, Options{}).Loops()[0]
	for _, sleeping := range []bool{false, true} {
		name := map[bool]string{false: "busy loop", true: "sleeping loop"}[sleeping]
		b.Run(name, func(b *testing.B) {
			done := make(chan struct{})
			n := 0
			f := func() {
				if n++; sleeping || n == b.N {
					done <- struct{}{}
				}
			}
			b.ReportAllocs()
			for range b.N {
				l.Post(f)
				if sleeping {
					<-done
				}
			}
			if !sleeping {
				<-done
			}
		})
	}
}

func BenchmarkTimer(b *testing.B) {
	l, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.poller.close()
	timers := make([]Timer, 10_000)
	f := func() {}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Start(&timers[i%len(timers)], time.Duration(i%60_000)*time.Millisecond, f)
	}
}
