package proxy

import (
	"io"
	"log/slog"
	"net"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
	"serin.dev/serin/internal/telemetry"
)

// Config is what a Proxy is made with. The zero value works and records
// nothing.
type Config struct {
	// Recorder takes one record per request and per connection of bytes. It is
	// called on an event loop: it must not block, and must not keep the record
	// or its strings.
	Recorder telemetry.Recorder
	// Logger hears of listeners and of failed requests (at debug level, as
	// each is recorded too). nil = silence.
	Logger *slog.Logger
	// Seed makes the draws of splits and balancers repeatable: each listener
	// has its own stream, by the order of opening. 0 = random.
	Seed uint64
	// Loops is how many event loops share the connections, each on a core of
	// its own; 0 = one for each processor that Go uses.
	Loops int
	// Limits bound what callers and endpoints can make the proxy hold.
	Limits Limits
	// AccessLog is written one line per request.
	AccessLog AccessLog
	// Place is where this proxy runs, for policies that prefer near endpoints.
	Place mesh.Place
	// Listen opens the socket for an address; nil = a new one. A process that
	// was given its sockets hands them out here.
	Listen func(address string) (*net.TCPListener, error)
}

// Limits bound what callers and endpoints can make the proxy hold. In a field
// that is 0 the default is in force.
type Limits struct {
	// HeadBytes of one head, or of its trailers; default 60 KiB, as Envoy.
	HeadBytes int
	// Fields of one head; default 100, as Envoy.
	Fields int
	// HeaderTime is how long a caller may take over its head; default 10 s:
	// long for any network, short for one who holds connections on purpose.
	HeaderTime time.Duration
	// IdleTime closes a caller's connection without requests; default 5 min:
	// longer than the pools of common clients keep theirs (Go 90 s, Java 30 s,
	// Python 60 s), so that the client closes first and never sends into a
	// closing connection.
	IdleTime time.Duration
	// StreamIdle closes a connection of bytes on which nothing moves; default
	// 1 h, as Envoy's tcp_proxy: sessions of databases rest for long.
	StreamIdle time.Duration
	// Connections of callers per listener; default 65,536. More are closed at
	// once. An idle one costs about 1 KiB, so they fit into 64 MiB.
	Connections int
	// RequestsPerConnection ends a caller's connection after so many; default
	// none: only who balances connections instead of requests needs it.
	RequestsPerConnection int
	// Streams of one HTTP/2 caller at once; default 100, which RFC 9113 names
	// as the least.
	Streams int
	// RetryBuffer is how much of a request's body is kept for sending it again;
	// default 64 KiB. A longer one is sent once. Bodies that cannot be sent
	// again by the route's rules are not kept, so all others stream without
	// bound.
	RetryBuffer int
	// MirrorBuffer is how many bytes of bodies are held for mirrors on each
	// loop; default 64 MiB. A request whose copy finds no room is not mirrored,
	// and counted.
	MirrorBuffer int
	// Mirrors under way at once on each loop; default 256. More are dropped and
	// counted: a slow mirror must not hold memory without end.
	Mirrors int
	// Outside is how many connections are kept to hosts that are not of the
	// mesh, per loop and host; default 64.
	Outside int
}

func (l Limits) withDefaults() Limits {
	set(&l.HeadBytes, wire.DefaultHeadBytes)
	set(&l.Fields, wire.DefaultFields)
	set(&l.HeaderTime, 10*time.Second)
	set(&l.IdleTime, 5*time.Minute)
	set(&l.StreamIdle, time.Hour)
	set(&l.Connections, 65_536)
	set(&l.Streams, 100)
	set(&l.RetryBuffer, 64<<10)
	set(&l.MirrorBuffer, 64<<20)
	set(&l.Mirrors, 256)
	set(&l.Outside, 64)
	return l
}

func (l *Limits) wire() wire.Limits { return wire.Limits{HeadBytes: l.HeadBytes, Fields: l.Fields} }

// set gives a field that is 0 its default.
func set[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// AccessLog says what is written for each request and each connection of bytes.
type AccessLog struct {
	Format AccessLogFormat
	// To is written to by one goroutine, some lines at a time. Where it is
	// slower than the traffic, lines are dropped and counted; no request waits.
	To io.Writer
}

// AccessLogFormat is the form of a line.
type AccessLogFormat uint8

// The formats.
const (
	AccessLogOff  AccessLogFormat = iota
	AccessLogText                 // Istio's default line
	AccessLogJSON                 // the same fields, with Istio's names
)
