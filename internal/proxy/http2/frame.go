package http2

import (
	"encoding/binary"
	"fmt"
)

// Preface is what a client sends first (RFC 9113, section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	frameHeader = 9
	// frameSize is the largest frame that we read, and the least that every
	// peer reads: the protocol's default. Larger ones would only let one
	// stream hold up the others for longer.
	frameSize = 16 << 10
)

type frameType uint8

const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindow
	frameContinuation
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// The settings (RFC 9113, section 6.5.2).
const (
	settingTableSize   = 1
	settingPush        = 2
	settingStreams     = 3
	settingWindow      = 4
	settingFrameSize   = 5
	settingFieldsSize  = 6
	settingConnect     = 8 // RFC 8441
	maxWindow          = 1<<31 - 1
	defaultWindow      = 1<<16 - 1
	defaultTable       = 4096
	largestFrame       = 1<<24 - 1
	assumedPeerStreams = 100 // until the peer's settings are there
)

// Code is why a stream or a connection was ended (RFC 9113, section 7).
type Code uint32

// The codes.
const (
	NoError Code = iota
	ProtocolError
	InternalError
	FlowControlError
	SettingsTimeout
	StreamClosed
	FrameSizeError
	RefusedStream
	Cancel
	CompressionError
	ConnectError
	EnhanceYourCalm
	InadequateSecurity
	HTTP11Required
)

// String names the code as the RFC does.
func (c Code) String() string {
	names := [...]string{
		"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
		"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint32(c))
}

// frame is one frame; its payload is a view of the connection's buffer.
type frame struct {
	kind    frameType
	flags   uint8
	stream  uint32
	payload []byte
}

func (f *frame) has(flag uint8) bool { return f.flags&flag != 0 }

// parseHeader reads a frame's header and the length of its payload.
func parseHeader(b []byte) (f frame, length int) {
	return frame{
		kind:   frameType(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
	}, int(b[0])<<16 | int(b[1])<<8 | int(b[2])
}

// unpad takes the padding of a DATA or HEADERS frame off. It reports false for
// padding longer than the frame.
func (f *frame) unpad() bool {
	if !f.has(flagPadded) {
		return true
	}
	if len(f.payload) == 0 || int(f.payload[0]) >= len(f.payload) {
		return false
	}
	f.payload = f.payload[1 : len(f.payload)-int(f.payload[0])]
	return true
}

func appendHeader(b []byte, length int, kind frameType, flags uint8, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), flags)
	return binary.BigEndian.AppendUint32(b, stream)
}

func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}

func appendReset(b []byte, stream uint32, code Code) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, frameReset, 0, stream), uint32(code))
}

func appendWindow(b []byte, stream, credit uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, frameWindow, 0, stream), credit)
}

func appendGoAway(b []byte, last uint32, code Code, reason string) []byte {
	b = appendHeader(b, 8+len(reason), frameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, reason...)
}

// appendBlock appends a block of fields as one HEADERS frame and as many
// CONTINUATION frames as the peer's frame size makes of it.
func appendBlock(b, block []byte, stream uint32, end bool, size int) []byte {
	kind, flags := frameHeaders, uint8(0)
	if end {
		flags = flagEndStream
	}
	for {
		n := min(len(block), size)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		b = append(appendHeader(b, n, kind, flags, stream), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return b
		}
		kind, flags = frameContinuation, 0
	}
}
