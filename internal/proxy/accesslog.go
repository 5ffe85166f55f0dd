package proxy

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

const (
	// logQueue bounds the lines that wait to be written: 4,096 lines of some
	// 400 bytes ride out a disk that stalls for a tenth of a second at 40,000
	// requests a second.
	logQueue = 4096
	// toldEvery is how often the same trouble is spoken of at most.
	toldEvery = 10 * time.Second
)

// accessLog writes lines on one goroutine of its own. A loop that has a line
// never waits: it hands it over, or drops and counts it.
type accessLog struct {
	format  AccessLogFormat
	lines   chan *[]byte
	pool    sync.Pool // of *[]byte
	dropped atomic.Uint64
	done    chan struct{} // closed when all was written
}

// newAccessLog returns nil when there is nothing to write.
func newAccessLog(c AccessLog, log *slog.Logger) *accessLog {
	if c.Format == AccessLogOff || c.To == nil {
		return nil
	}
	a := &accessLog{format: c.Format, lines: make(chan *[]byte, logQueue), done: make(chan struct{})}
	a.pool.New = func() any { b := make([]byte, 0, 512); return &b }
	go a.write(c.To, log)
	return a
}

func (a *accessLog) write(to io.Writer, log *slog.Logger) {
	defer close(a.done)
	out := bufio.NewWriterSize(to, 64<<10)
	var told uint64
	var toldAt time.Time
	failing := false
	check := func(err error) {
		switch {
		case err != nil:
			// Said once: a pipe without a reader may stay so for ever. A reader
			// may come back to a named one, so each line is tried.
			if !failing {
				log.Warn("access log cannot be written; its lines are lost until it can", "err", err)
			}
			out.Reset(to) // a bufio.Writer stays broken otherwise
		case failing:
			log.Warn("access log is written again")
		}
		failing = err != nil
	}
	for line := range a.lines {
		_, err := out.Write(*line)
		a.pool.Put(line)
		if err != nil {
			check(err)
		} else if len(a.lines) == 0 {
			check(out.Flush())
		}
		if n := a.dropped.Load(); n > told && time.Since(toldAt) > toldEvery {
			log.Warn("access log is slower than the traffic", "dropped", n-told)
			told, toldAt = n, time.Now()
		}
	}
	check(out.Flush())
}

// close writes what is queued. No line may be added any more.
func (a *accessLog) close() {
	if a != nil {
		close(a.lines)
		<-a.done
	}
}

// add queues one line.
func (a *accessLog) add(e *logEntry) {
	line := a.pool.Get().(*[]byte)
	l := logLine{b: (*line)[:0], json: a.format == AccessLogJSON}
	l.write(e)
	*line = l.b
	select {
	case a.lines <- line:
	default:
		a.dropped.Add(1)
		a.pool.Put(line)
	}
}

// logEntry is what a line tells: the record, and what only people who search
// for a cause look at.
type logEntry struct {
	*telemetry.Request
	target       string        // the path with its query; "" of a connection
	details      string        // why this answer, in Envoy's words
	termination  string        // why a caller's connection was ended, without spaces
	failure      string        // why the endpoint could not be reached
	serviceTime  time.Duration // from the request's end to the answer's head
	forwardedFor string
	userAgent    string
	cluster      clusterName    // that was called
	upstream     netip.AddrPort // our end of the connection to the endpoint
	local        netip.AddrPort // our end of the caller's connection
	remote       netip.AddrPort // the caller's end
	serverName   string         // asked for by TLS
	route        string
}

// clusterName is printed as Istio names clusters: "outbound|80|v1|music.default".
type clusterName struct {
	port    uint16
	subset  string
	service mesh.ServiceName // "" = none
}

// logLine is a line in the making: text in Istio's default format, or JSON with
// its names.
type logLine struct {
	b    []byte
	json bool
	more bool // JSON: a field was written
}

// write makes the line of e.
func (l *logLine) write(e *logEntry) {
	if l.json {
		l.b = append(l.b, '{')
	}
	l.began(e.Start)
	l.request(e)
	l.number("response_code", int64(e.Code))
	l.word("response_flags", e.Flags)
	l.word("response_code_details", e.details)
	l.word("connection_termination_details", e.termination)
	l.quoted("upstream_transport_failure_reason", e.failure)
	l.number("bytes_received", e.Read)
	l.number("bytes_sent", e.Sent)
	l.number("duration", e.Duration.Milliseconds())
	if l.name("upstream_service_time"); e.serviceTime > 0 {
		l.b = strconv.AppendInt(l.b, e.serviceTime.Milliseconds(), 10)
	} else {
		l.nothing()
	}
	l.quoted("x_forwarded_for", e.forwardedFor)
	l.quoted("user_agent", e.userAgent)
	l.quoted("request_id", e.ID)
	l.quoted("authority", e.Host)
	l.quoted("upstream_host", e.Upstream)
	l.cluster(&e.cluster)
	l.address("upstream_local_address", e.upstream)
	l.address("downstream_local_address", e.local)
	l.address("downstream_remote_address", e.remote)
	l.word("requested_server_name", e.serverName)
	l.word("route_name", e.route)
	if l.json {
		l.b = append(l.b, '}')
	}
	l.b = append(l.b, '\n')
}

func (l *logLine) began(start time.Time) {
	const form = "2006-01-02T15:04:05.000Z"
	if l.json {
		l.name("start_time")
		l.b = append(start.UTC().AppendFormat(append(l.b, '"'), form), '"')
		return
	}
	l.b = append(start.UTC().AppendFormat(append(l.b, '['), form), ']')
}

// request writes what text has within one pair of quotes.
func (l *logLine) request(e *logEntry) {
	if l.json {
		l.quoted("method", e.Method)
		l.quoted("path", e.target)
		l.quoted("protocol", e.Protocol)
		return
	}
	l.b = append(l.b, ` "`...)
	for i, word := range [...]string{e.Method, e.target, e.Protocol} {
		if i > 0 {
			l.b = append(l.b, ' ')
		}
		l.escaped(orDash(word))
	}
	l.b = append(l.b, '"')
}

// name begins a field.
func (l *logLine) name(name string) {
	switch {
	case !l.json:
		l.b = append(l.b, ' ')
		return
	case l.more:
		l.b = append(l.b, ',')
	}
	l.more = true
	l.b = append(append(append(l.b, '"'), name...), `":`...)
}

// nothing stands for a value that is not there.
func (l *logLine) nothing() {
	if l.json {
		l.b = append(l.b, "null"...)
	} else {
		l.b = append(l.b, '-')
	}
}

func (l *logLine) number(name string, n int64) {
	l.name(name)
	l.b = strconv.AppendInt(l.b, n, 10)
}

// word writes a text that holds no space.
func (l *logLine) word(name, value string) {
	if l.json {
		l.quoted(name, value)
		return
	}
	l.name(name)
	l.escaped(orDash(value))
}

func (l *logLine) quoted(name, value string) {
	l.name(name)
	if l.json && value == "" {
		l.nothing()
		return
	}
	l.b = append(l.b, '"')
	l.escaped(orDash(value))
	l.b = append(l.b, '"')
}

func (l *logLine) address(name string, a netip.AddrPort) {
	l.name(name)
	switch {
	case !a.IsValid():
		l.nothing()
	case l.json:
		l.b = append(a.AppendTo(append(l.b, '"')), '"')
	default:
		l.b = a.AppendTo(l.b)
	}
}

func (l *logLine) cluster(c *clusterName) {
	l.name("upstream_cluster")
	if c.service == "" {
		l.nothing()
		return
	}
	if l.json {
		l.b = append(l.b, '"')
	}
	l.b = strconv.AppendUint(append(l.b, "outbound|"...), uint64(c.port), 10)
	l.b = append(append(append(l.b, '|'), c.subset...), '|')
	l.b = append(l.b, c.service...)
	if l.json {
		l.b = append(l.b, '"')
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// escaped writes a value so that it ends neither its quotes nor its line, in the
// form of JSON, which serves for text as well.
func (l *logLine) escaped(s string) {
	const hex = "0123456789abcdef"
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			l.b = append(l.b, '\\', c)
		case c < ' ':
			l.b = append(l.b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			l.b = append(l.b, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			l.b = utf8.AppendRune(l.b, r) // what is no UTF-8 becomes U+FFFD
			i += size
			continue
		}
		i++
	}
}

// entry is what the access log tells of the exchange.
func (ex *exchange) entry() *logEntry {
	e := &ex.logged
	*e = logEntry{
		Request:      &ex.record,
		details:      detailsOf(&ex.record),
		forwardedFor: ex.seen.forwardedFor,
		userAgent:    ex.seen.userAgent,
		upstream:     ex.from,
		local:        ex.conn.conn.Local(),
		remote:       ex.conn.conn.Remote(),
		serverName:   ex.conn.serverName,
	}
	if ex.request != nil {
		e.target = ex.request.Path
	}
	if ex.headIn > 0 {
		e.serviceTime = ex.headIn - ex.wholeIn
	}
	var connect errConnect
	if errors.As(ex.failure, &connect) {
		e.failure = connect.Error()
	}
	if g := ex.dec.group; g != nil {
		e.cluster = clusterName{g.port, g.subset, g.service}
	}
	if r := ex.dec.route; r != nil {
		e.route = r.name
	}
	return e
}

// detailsOf says in Envoy's words why the answer is what it is. The last flag
// counts; that of a delay or of exhausted retries explains no answer.
func detailsOf(r *telemetry.Request) string {
	last := ""
	for flag := range strings.SplitSeq(r.Flags, ",") {
		if flag != flagDelay && flag != flagRetryLimit {
			last = flag
		}
	}
	switch last {
	case "":
		if r.Attempts == 0 {
			return "direct_response"
		}
		return "via_upstream"
	case flagNoRoute:
		return "route_not_found"
	case flagNoCluster:
		return "cluster_not_found"
	case flagNoHealthy:
		return "no_healthy_upstream"
	case flagFault:
		return "fault_filter_abort"
	case flagRateLimited:
		return "local_rate_limited"
	case flagDenied:
		return "rbac_access_denied"
	case flagConnect:
		return "upstream_reset_before_response_started{remote_connection_failure}"
	case flagReset:
		return "upstream_reset{connection_termination}"
	case flagRemoteReset:
		return "upstream_reset{remote_reset}"
	case flagProtocol:
		return "upstream_reset{protocol_error}"
	case flagOverflow:
		return "upstream_reset_before_response_started{overflow}"
	case flagTimeout:
		return "response_timeout"
	case flagIdle:
		return "stream_idle_timeout"
	case flagMalformed:
		return "codec_error"
	case flagCallerGone:
		return "downstream_remote_disconnect"
	}
	return ""
}
