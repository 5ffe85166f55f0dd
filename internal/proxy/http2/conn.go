package http2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"serin.dev/serin/internal/proxy/loop"
	"serin.dev/serin/internal/proxy/wire"
)

// Transport is the connection below: a loop.Conn, or TLS over one. Read and
// Write wait in the manner of the loop; one task reads while another writes.
type Transport interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	Close() error
}

// waiter is a Transport that can tell when there is something to read, so that
// an idle connection holds no buffer. loop.Conn is one.
type waiter interface {
	OnReadable(func())
	Readable() bool
}

// Limits bound what a peer can make us hold or do. Zero means the default.
type Limits struct {
	Head wire.Limits // of one message's fields
	// Streams that a caller may have open at once; 100, which RFC 9113 names
	// as the least that lets clients work in parallel.
	Streams uint32
	// Window of one stream: how much of a body we hold for who reads slower
	// than the peer sends. 256 KiB keep 1 Gbit/s busy over 2 ms, and 100
	// streams hold 25 MiB at worst.
	Window uint32
}

func (l Limits) withDefaults() Limits {
	if l.Head.HeadBytes == 0 {
		l.Head.HeadBytes = wire.DefaultHeadBytes
	}
	if l.Head.Fields == 0 {
		l.Head.Fields = wire.DefaultFields
	}
	if l.Streams == 0 {
		l.Streams = 100
	}
	if l.Window == 0 {
		l.Window = 256 << 10
	}
	return l
}

// backlog is how many bytes may wait to be written before streams that have
// more to send wait, too: enough for one system call to be worth its price.
const backlog = 64 << 10

// ConnError is why a connection ended that should not have.
type ConnError struct {
	Code   Code
	Reason string
	Remote bool // the peer said so
}

func (e *ConnError) Error() string {
	who := "connection error"
	if e.Remote {
		who = "peer ended the connection"
	}
	return fmt.Sprintf("http/2: %s: %s: %s", who, e.Code, e.Reason)
}

// ErrClosed is the error of streams whose connection ended without a word, or
// was closed by us. It is wrapped together with the cause.
var ErrClosed = errors.New("http/2: connection closed")

// conn is what both sides share.
type conn struct {
	tr     Transport
	loop   *loop.Loop
	limits Limits
	side   side

	buf       []byte // lent by the loop; nil while idle
	from, end int    // of what was read and not yet looked at
	in        *block
	scratch   wire.Head // of a client's answers, and of what nobody wants
	guard     guard

	out, spare []byte // what is to be written; the buffer that is not in use
	enc        *encoder
	write      func(*loop.Task) // c.writeOut
	writing    bool             // its task runs
	controls   int              // frames in out that the peer caused
	room       waitList         // streams that wait for out to shrink, or for the window

	streams    map[uint32]*Stream
	lastPeer   uint32 // the highest stream that the peer opened
	window     int64  // what we may send on all streams together
	unreported uint32 // bytes received and not yet given back
	peer       struct {
		window    int64 // of a new stream
		frameSize int
		streams   uint32
	}
	reading   bool       // run reads
	task      *loop.Task // of run
	lingering bool       // our direction is ended, the peer's is not
	settled   bool       // the peer's settings were read
	leaving   bool       // no new streams: GOAWAY was sent or received
	err       error      // why the connection is over
	free      []*Stream
}

// side is what a server and a client do differently.
type side interface {
	// opened decides on the first HEADERS of a stream that the peer opens; nil
	// means that it is not wanted.
	opened(id uint32) (*Stream, error)
	// idle is called when the last stream is over.
	idle()
}

func newConn(tr Transport, l *loop.Loop, limits Limits, s side) *conn {
	c := &conn{tr: tr, loop: l, limits: limits.withDefaults(), side: s, streams: map[uint32]*Stream{}, window: defaultWindow}
	c.in = newBlock(c.limits.Head)
	c.enc = newEncoder()
	c.write = c.writeOut
	c.peer.window, c.peer.frameSize, c.peer.streams = defaultWindow, frameSize, assumedPeerStreams
	return c
}

// begin sends our settings.
func (c *conn) begin(push bool) {
	settings := make([]byte, 0, 32)
	if !push {
		settings = appendSetting(settings, settingPush, 0)
	} else {
		settings = appendSetting(settings, settingStreams, c.limits.Streams)
		settings = appendSetting(settings, settingConnect, 1)
	}
	settings = appendSetting(settings, settingWindow, c.limits.Window)
	settings = appendSetting(settings, settingFieldsSize, uint32(c.limits.Head.HeadBytes))
	c.out = append(appendHeader(c.out, len(settings), frameSettings, 0, 0), settings...)
	// The connection's own window never stops a stream: the streams' do that,
	// so that one that is not read does not hold up the others.
	c.out = appendWindow(c.out, 0, maxWindow-defaultWindow)
	c.flush()
}

// run reads frames until the connection ends. The reason is never nil; io.EOF
// is the peer's own end between frames.
func (c *conn) run(t *loop.Task) error {
	c.reading, c.task = true, t
	err := c.err
	for err == nil {
		err = c.next(t)
	}
	c.fail(err)
	c.linger(t)
	if c.buf != nil {
		c.loop.Release(c.buf)
		c.buf = nil
	}
	return c.err
}

// lingerTime bounds how long a peer may take to read our last words.
const lingerTime = time.Second

// linger reads on, and throws away, until the peer has closed: closing with
// bytes unread would make the kernel take back what was just written. What is
// still to be written is waited for.
func (c *conn) linger(t *loop.Task) {
	c.reading = false
	if c.lingering && c.buf == nil {
		c.buf = c.loop.Buffer()
	}
	for c.lingering {
		if _, err := c.tr.Read(c.buf); err != nil {
			break
		}
	}
	for c.writing {
		_ = t.Park() // whoever interrupts it has interrupted the connection, too
	}
	c.task = nil
	c.close()
}

// next reads one frame and acts on it.
func (c *conn) next(t *loop.Task) error {
	if err := c.fill(t, frameHeader); err != nil {
		return err
	}
	f, length := parseHeader(c.buf[c.from:])
	if length > frameSize {
		return &ConnError{Code: FrameSizeError, Reason: "a frame is longer than was agreed"}
	}
	c.from += frameHeader
	if err := c.fill(t, length); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	f.payload = c.buf[c.from : c.from+length]
	c.from += length
	if err := c.guard.check(&f, c.loop.Now()); err != nil {
		return err
	}
	return c.take(&f)
}

// fill waits until n bytes are there: a buffer holds the largest payload.
func (c *conn) fill(t *loop.Task, n int) error {
	for c.end-c.from < n {
		if c.err != nil {
			return c.err
		}
		if c.buf != nil && c.from == c.end {
			c.from, c.end = 0, 0
			if err := c.rest(t); err != nil {
				return err
			}
		}
		if c.buf == nil {
			c.buf = c.loop.Buffer()
		}
		if c.from+n > len(c.buf) {
			c.end = copy(c.buf, c.buf[c.from:c.end])
			c.from = 0
		}
		got, err := c.tr.Read(c.buf[c.end:])
		c.end += got
		if err != nil && c.end-c.from < n {
			if err == io.EOF && c.end > c.from {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// rest waits without a buffer while the connection has no stream.
func (c *conn) rest(t *loop.Task) error {
	w, ok := c.tr.(waiter)
	if !ok || len(c.streams) > 0 || w.Readable() {
		return nil
	}
	c.loop.Release(c.buf)
	c.buf = nil
	w.OnReadable(t.Wake)
	err := t.Park()
	w.OnReadable(nil)
	return err
}

// take acts on one frame. An error ends the connection.
func (c *conn) take(f *frame) error {
	if c.in.pieces != nil && f.kind != frameContinuation {
		return protocol("fields of a message are interrupted")
	}
	if !c.settled && f.kind != frameSettings {
		return protocol("the first frame is not SETTINGS")
	}
	switch f.kind {
	case frameData:
		return c.takeData(f)
	case frameHeaders:
		return c.takeHeaders(f)
	case frameContinuation:
		return c.takeContinuation(f)
	case frameReset:
		return c.takeReset(f)
	case frameSettings:
		return c.takeSettings(f)
	case framePing:
		return c.takePing(f)
	case frameGoAway:
		return c.takeGoAway(f)
	case frameWindow:
		return c.takeWindow(f)
	case framePriority:
		if len(f.payload) != 5 || f.stream == 0 {
			return &ConnError{Code: FrameSizeError, Reason: "malformed PRIORITY"}
		}
		return nil
	case framePushPromise:
		return protocol("PUSH_PROMISE was not allowed")
	}
	return nil // an extension that we do not know (RFC 9113, section 5.5)
}

func protocol(reason string) error { return &ConnError{Code: ProtocolError, Reason: reason} }

func (c *conn) takeData(f *frame) error {
	size := uint32(len(f.payload))
	if f.stream == 0 || !f.unpad() {
		return protocol("malformed DATA")
	}
	c.giveBack(size)
	s := c.streams[f.stream]
	if s == nil {
		return c.stray(f.stream)
	}
	return s.receive(f.payload, size, f.has(flagEndStream))
}

// giveBack reopens the connection's window by what was received.
func (c *conn) giveBack(n uint32) {
	c.unreported += n
	if c.unreported >= 1<<20 {
		c.out = appendWindow(c.out, 0, c.unreported)
		c.unreported = 0
		c.flush()
	}
}

// stray judges a frame of a stream that is not open. One that is over is
// common: what was on its way when we reset it.
func (c *conn) stray(id uint32) error {
	if c.opens(id) && id > c.lastPeer || !c.opens(id) && id >= c.nextOwn() {
		return protocol("frame of a stream that was not opened")
	}
	return nil
}

// opens reports whether the stream is one that the peer opens.
func (c *conn) opens(id uint32) bool {
	_, server := c.side.(*Server)
	return (id%2 == 1) == server
}

func (c *conn) nextOwn() uint32 {
	if client, ok := c.side.(*Client); ok {
		return client.next
	}
	return 2
}

func (c *conn) takeHeaders(f *frame) error {
	if f.stream == 0 || !f.unpad() {
		return protocol("malformed HEADERS")
	}
	if f.has(flagPriority) {
		if len(f.payload) < 5 {
			return &ConnError{Code: FrameSizeError, Reason: "malformed HEADERS"}
		}
		f.payload = f.payload[5:]
	}
	if f.has(flagEndHeaders) {
		return c.takeBlock(f.stream, f.payload, f.has(flagEndStream))
	}
	c.in.begin(f)
	return nil
}

func (c *conn) takeContinuation(f *frame) error {
	if c.in.pieces == nil || f.stream != c.in.stream {
		return protocol("CONTINUATION of nothing")
	}
	c.in.pieces = append(c.in.pieces, f.payload...)
	// Compressed, so this is generous: what is in the tables costs a byte.
	if len(c.in.pieces) > c.limits.Head.HeadBytes {
		return &ConnError{Code: EnhanceYourCalm, Reason: "fields of a message are too long"}
	}
	if !f.has(flagEndHeaders) {
		return nil
	}
	pieces := c.in.pieces
	c.in.pieces = nil
	return c.takeBlock(f.stream, pieces, c.in.end)
}

// takeBlock decodes the fields of a message: they must be decoded also when
// nobody wants them.
func (c *conn) takeBlock(id uint32, fragment []byte, end bool) error {
	s := c.streams[id]
	first := false
	if s == nil && c.opens(id) && id > c.lastPeer {
		var err error
		if s, err = c.side.opened(id); err != nil {
			return err
		}
		first = s != nil
	}
	h := &c.scratch
	_, client := c.side.(*Client)
	trailer := false
	if s != nil {
		trailer = s.expectsTrailers()
		h = s.headFor(trailer)
	}
	if err := c.in.decode(fragment, h, client, trailer); err != nil {
		return &ConnError{Code: CompressionError, Reason: err.Error()}
	}
	if s == nil {
		return c.stray(id)
	}
	s.headed(c.in, trailer, end, first)
	return nil
}

func (c *conn) takeReset(f *frame) error {
	if len(f.payload) != 4 || f.stream == 0 {
		return &ConnError{Code: FrameSizeError, Reason: "malformed RST_STREAM"}
	}
	s := c.streams[f.stream]
	if s == nil {
		return c.stray(f.stream)
	}
	if _, server := c.side.(*Server); server && !s.answered {
		if err := c.guard.reset(); err != nil {
			return err
		}
	}
	s.fail(&StreamError{Code: Code(binary.BigEndian.Uint32(f.payload)), Remote: true})
	return nil
}

func (c *conn) takeSettings(f *frame) error {
	if f.stream != 0 || len(f.payload)%6 != 0 || f.has(flagAck) && len(f.payload) > 0 {
		return &ConnError{Code: FrameSizeError, Reason: "malformed SETTINGS"}
	}
	if f.has(flagAck) {
		return nil
	}
	c.settled = true
	for p := f.payload; len(p) > 0; p = p[6:] {
		if err := c.setting(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	c.out = appendHeader(c.out, 0, frameSettings, flagAck, 0)
	return c.control()
}

func (c *conn) setting(id uint16, value uint32) error {
	switch id {
	case settingWindow:
		if value > maxWindow {
			return &ConnError{Code: FlowControlError, Reason: "the window is too large"}
		}
		change := int64(value) - c.peer.window
		c.peer.window = int64(value)
		for _, s := range c.streams {
			if s.window += change; s.window > maxWindow {
				return &ConnError{Code: FlowControlError, Reason: "the window is too large"}
			}
		}
		c.room.wakeAll()
	case settingFrameSize:
		if value < frameSize || value > largestFrame {
			return protocol("the frame size is out of range")
		}
		// Larger frames than ours would only let one stream delay others.
	case settingStreams:
		c.peer.streams = value
	case settingPush:
		if value > 1 {
			return protocol("ENABLE_PUSH is neither 0 nor 1")
		}
	}
	return nil
}

func (c *conn) takePing(f *frame) error {
	if len(f.payload) != 8 || f.stream != 0 {
		return &ConnError{Code: FrameSizeError, Reason: "malformed PING"}
	}
	if f.has(flagAck) {
		return nil
	}
	c.out = append(appendHeader(c.out, 8, framePing, flagAck, 0), f.payload...)
	return c.control()
}

// takeGoAway ends streams that the peer has not looked at; the others go on.
func (c *conn) takeGoAway(f *frame) error {
	if len(f.payload) < 8 || f.stream != 0 {
		return &ConnError{Code: FrameSizeError, Reason: "malformed GOAWAY"}
	}
	c.leaving = true
	last := binary.BigEndian.Uint32(f.payload) &^ (1 << 31)
	for id, s := range c.streams {
		if !c.opens(id) && id > last {
			s.fail(&StreamError{Code: RefusedStream, Remote: true})
		}
	}
	if len(c.streams) == 0 {
		c.side.idle()
	}
	return nil
}

func (c *conn) takeWindow(f *frame) error {
	if len(f.payload) != 4 {
		return &ConnError{Code: FrameSizeError, Reason: "malformed WINDOW_UPDATE"}
	}
	credit := int64(binary.BigEndian.Uint32(f.payload) &^ (1 << 31))
	if f.stream == 0 {
		if c.window += credit; credit == 0 || c.window > maxWindow {
			return &ConnError{Code: FlowControlError, Reason: "malformed WINDOW_UPDATE"}
		}
		c.room.wakeAll()
		return nil
	}
	s := c.streams[f.stream]
	if s == nil {
		return c.stray(f.stream)
	}
	if s.window += credit; credit == 0 || s.window > maxWindow {
		s.offended(FlowControlError)
		return nil
	}
	s.wakeWriter()
	return nil
}

// control counts a frame that the peer made us send. One who asks and does not
// read the answers would fill our memory.
func (c *conn) control() error {
	if c.controls++; c.controls > maxControls {
		return &ConnError{Code: EnhanceYourCalm, Reason: tooMany}
	}
	c.flush()
	return nil
}

// flush lets what is in out be written soon.
func (c *conn) flush() {
	if !c.writing && len(c.out) > 0 {
		c.writing = true
		c.loop.Go(c.write)
	}
}

// writeOut writes until nothing is left.
func (c *conn) writeOut(*loop.Task) {
	for len(c.out) > 0 {
		b := c.out
		c.out, c.spare = c.spare[:0], nil
		c.controls = 0
		_, err := c.tr.Write(b)
		c.spare = b[:0]
		if err != nil {
			c.out = c.out[:0]
			c.fail(err)
			break
		}
		c.room.wakeAll()
	}
	c.writing = false
	if c.err != nil && c.task != nil {
		c.task.Wake()
	}
	if len(c.streams) == 0 && cap(c.out)+cap(c.spare) > backlog {
		c.out, c.spare = nil, nil
	}
	if c.err != nil {
		c.hangUp()
	}
}

// fail ends the connection and all its streams, and tells the peer why if it
// is to blame. The first reason counts.
func (c *conn) fail(err error) {
	if c.err != nil {
		return
	}
	var mine *ConnError
	if errors.As(err, &mine) && !mine.Remote {
		c.out = appendGoAway(c.out, c.lastPeer, mine.Code, mine.Reason)
	}
	c.err, c.leaving = err, true
	lost := err
	if mine == nil {
		lost = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	for _, s := range c.streams {
		s.fail(lost)
	}
	c.room.wakeAll()
	if c.task != nil {
		c.task.Wake() // it may rest
	}
	if timed, ok := c.tr.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = timed.SetWriteDeadline(c.loop.Now().Add(lingerTime)) // of one that is closed, writing tells
	}
	if len(c.out) > 0 {
		c.flush()
		return
	}
	if !c.writing {
		c.hangUp()
	}
}

// hangUp ends the connection when everything is written. If it is read, its
// reader sees the end of it.
func (c *conn) hangUp() {
	half, ok := c.tr.(interface {
		CloseWrite() error
		SetReadDeadline(time.Time) error
	})
	if c.reading && ok && half.SetReadDeadline(c.loop.Now().Add(lingerTime)) == nil && half.CloseWrite() == nil {
		c.lingering = true
		return
	}
	c.close()
}

func (c *conn) close() {
	// What Close says does not matter any more: the reason is in c.err.
	_ = c.tr.Close()
}

// leave tells the peer to open no more streams; those that are open go on.
func (c *conn) leave() {
	if c.leaving {
		return
	}
	c.leaving = true
	c.out = appendGoAway(c.out, c.lastPeer, NoError, "")
	c.flush()
}

// forget drops a stream that is over on both sides.
func (c *conn) forget(s *Stream) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	if len(c.streams) == 0 {
		c.side.idle()
	}
}

// waitList is tasks that wait for the same thing.
type waitList struct{ tasks []*loop.Task }

func (w *waitList) add(t *loop.Task) { w.tasks = append(w.tasks, t) }

func (w *waitList) remove(t *loop.Task) {
	for i := range w.tasks {
		if w.tasks[i] == t {
			w.tasks = append(w.tasks[:i], w.tasks[i+1:]...)
			return
		}
	}
}

// wakeAll wakes them in the order in which they came; each looks again.
func (w *waitList) wakeAll() {
	for _, t := range w.tasks {
		t.Wake()
	}
	w.tasks = w.tasks[:0]
}
