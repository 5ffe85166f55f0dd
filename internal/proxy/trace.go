package proxy

import (
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"

	"serin.dev/serin/internal/proxy/wire"
)

// Trace contexts pass as they are: a span between two applications that only
// their proxy would know of says nothing that the record of the request does
// not. A request without any context is given a traceparent (W3C Trace
// Context, level 1), so that whatever it causes can be told to belong
// together. It is marked as sampled: where applications follow their parent's
// word, an unsampled one would end tracing for them.

// identity is the memory of the names that a request is given.
type identity struct {
	id     [36]byte // x-request-id
	parent [55]byte // traceparent
	key    [24]byte // sec-websocket-key
}

// requestID makes a random UUID (RFC 9562, version 4). It is a name, not a
// secret. The result is valid until the next call.
func (n *identity) requestID() string {
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(3<<62) | 1<<63
	b := n.id[:0]
	b = append(appendHex(b, hi>>32, 8), '-')
	b = append(appendHex(b, hi>>16, 4), '-')
	b = append(appendHex(b, hi, 4), '-')
	b = append(appendHex(b, lo>>48, 4), '-')
	return view(appendHex(b, lo, 12))
}

// traceParent makes a root context: version 00, random ids, sampled. The
// result is valid until the next call.
func (n *identity) traceParent() string {
	b := append(n.parent[:0], "00-"...)
	b = appendHex(b, rand.Uint64()|1, 16) // an id of zeros would be none
	b = append(appendHex(b, rand.Uint64(), 16), '-')
	b = append(appendHex(b, rand.Uint64()|1, 16), "-01"...)
	return view(b)
}

// webSocketKey makes a key that an endpoint answers to (RFC 6455, section 4.1).
// Who has asked by HTTP/2 has none. The result is valid until the next call.
func (n *identity) webSocketKey() string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), rand.Uint64())
	b = binary.BigEndian.AppendUint64(b, rand.Uint64())
	base64.StdEncoding.Encode(n.key[:], b)
	return view(n.key[:])
}

// appendHex appends the lowest digits of v.
func appendHex(dst []byte, v uint64, digits int) []byte {
	const hex = "0123456789abcdef"
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hex[v>>shift&15])
	}
	return dst
}

// glance is what a hop needs to know of a request's fields, found in one pass.
// Strings are views; "" is absent.
type glance struct {
	requestID    string
	userAgent    string
	forwardedFor string
	proto        string // x-forwarded-proto
	traced       bool
	fromEnvoy    bool // some are of the kind that withoutEnvoys removes
}

func glanceAt(fields []wire.Field) (g glance) {
	for i := range fields {
		f := &fields[i]
		switch f.Name {
		case "x-request-id":
			g.requestID = f.Value
		case "user-agent":
			g.userAgent = f.Value
		case "x-forwarded-for":
			g.forwardedFor = f.Value // the last one, if there are several
		case "x-forwarded-proto":
			g.proto = f.Value
		case "traceparent", "b3", "x-b3-traceid", "x-amzn-trace-id", "grpc-trace-bin":
			g.traced = true // W3C, B3 in one field and in several, X-Ray, gRPC's binary form
		default:
			g.fromEnvoy = g.fromEnvoy || strings.HasPrefix(f.Name, envoyPrefix)
		}
	}
	return g
}

const envoyPrefix = "x-envoy-"

// withoutEnvoys removes what an Envoy tells other Envoys, and takes from nobody
// else: whom it believes to be internal, how to retry, what the path was. An
// endpoint may trust it. The list is that of Envoy, which lets other names pass.
func withoutEnvoys(fields []wire.Field) []wire.Field {
	return slices.DeleteFunc(fields, func(f wire.Field) bool {
		name, ok := strings.CutPrefix(f.Name, envoyPrefix)
		if !ok {
			return false
		}
		switch name {
		case "decorator-operation", "downstream-service-cluster", "downstream-service-node", "expected-rq-timeout-ms", "external-address",
			"force-trace", "hedge-on-per-try-timeout", "internal", "ip-tags", "max-retries", "original-host", "original-path", "original-url",
			"retriable-header-names", "retriable-status-codes", "retry-grpc-on", "retry-on", "upstream-alt-stat-name",
			"upstream-rq-per-try-timeout-ms", "upstream-rq-timeout-alt-response", "upstream-rq-timeout-ms", "upstream-stream-duration-ms":
			return true
		}
		return false
	})
}
