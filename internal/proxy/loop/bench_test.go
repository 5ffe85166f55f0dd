package loop

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A message of 512 bytes from a caller through a relay to an echo and back, 64
// callers at once, each connection kept: the work of a proxy without parsing.
// The relay runs as tasks of one loop and, to compare, as a goroutine per
// connection. Callers and echo are another process, so that the CPU time
// reported is the relay's alone.
func BenchmarkRelay(b *testing.B) {
	others := exec.Command(os.Args[0], "-test.run=^TestPeersOfTheRelay$")
	others.Env = append(os.Environ(), peersMark+"=1")
	others.Stderr = os.Stderr
	orders, err := others.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := others.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := others.Start(); err != nil {
		b.Fatal(err)
	}
	defer others.Wait()
	defer orders.Close()
	answers := bufio.NewReader(stdout)
	echo := netip.MustParseAddrPort(said(b, answers))

	run := func(b *testing.B, relay string) {
		fmt.Fprintln(orders, relay, b.N)
		said(b, answers) // connected
		cpu := cpuTime(b)
		b.ResetTimer()
		fmt.Fprintln(orders, "begin")
		said(b, answers) // done
		b.StopTimer()
		b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
	}

	b.Run("loop", func(b *testing.B) {
		ln := listen(b, started(b, 1, Options{}), func(t *Task, c *Conn) {
			up, err := t.Loop().Dial(echo, time.Second)
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

func said(t testing.TB, r *bufio.Reader) string {
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// peersMark in the environment makes this program the relay's peers.
const peersMark = "LOOP_BENCHMARK_PEERS"

// TestPeersOfTheRelay is no test: it is the other process of BenchmarkRelay.
func TestPeersOfTheRelay(t *testing.T) {
	if os.Getenv(peersMark) == "" {
		t.Skip("only BenchmarkRelay runs this")
	}
	const message, callers = 512, 64
	fmt.Println(listenPlain(t, func(c net.Conn) { io.Copy(c, struct{ io.Reader }{c}) }))
	for {
		var relay string
		var n int
		if _, err := fmt.Scanln(&relay, &n); err != nil {
			return
		}
		begin := make(chan struct{})
		var all sync.WaitGroup
		for caller := range callers {
			c, err := net.Dial("tcp", relay)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				defer c.Close()
				buf := make([]byte, message)
				<-begin
				for i := caller; i < n; i += callers {
					if _, err := c.Write(buf); err != nil {
						t.Error(err)
					}
					if _, err := io.ReadFull(c, buf); err != nil {
						t.Error(err)
					}
				}
			})
		}
		fmt.Println("connected")
		fmt.Scanln(new(string))
		close(begin)
		all.Wait()
		fmt.Println("done")
	}
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
func listenPlain(b testing.TB, serve func(net.Conn)) *net.TCPAddr {
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
