package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Report sums a run up.
type Report struct {
	Requests int64            // that ended, with an answer or an error
	Codes    map[int]int64    // answers by status code
	Errors   map[string]int64 // requests without an answer, by kind
	Unsent   int64            // due, but all slots were taken until the end of the run
	Elapsed  time.Duration
	Latency  Quantiles
}

// Rate is the number of requests per second that ended.
func (r Report) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Requests) / r.Elapsed.Seconds()
}

// Failed counts answers with 5xx and requests without one.
func (r Report) Failed() int64 {
	var n int64
	for code, count := range r.Codes {
		if code >= 500 {
			n += count
		}
	}
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// Quantiles of the durations, each at most 0.8 % above the true value.
type Quantiles struct {
	Mean, P50, P90, P95, P99, Max time.Duration
}

// MarshalJSON writes durations as milliseconds.
func (r Report) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	type latency struct {
		Mean float64 `json:"mean"`
		P50  float64 `json:"p50"`
		P90  float64 `json:"p90"`
		P95  float64 `json:"p95"`
		P99  float64 `json:"p99"`
		Max  float64 `json:"max"`
	}
	return json.Marshal(struct {
		Requests      int64            `json:"requests"`
		Failed        int64            `json:"failed"`
		Codes         map[int]int64    `json:"codes"`
		Errors        map[string]int64 `json:"errors"`
		Unsent        int64            `json:"unsent"`
		ElapsedMillis float64          `json:"elapsedMillis"`
		Rate          float64          `json:"rate"`
		LatencyMillis latency          `json:"latencyMillis"`
	}{
		r.Requests, r.Failed(), r.Codes, r.Errors, r.Unsent, ms(r.Elapsed), r.Rate(),
		latency{ms(r.Latency.Mean), ms(r.Latency.P50), ms(r.Latency.P90), ms(r.Latency.P95), ms(r.Latency.P99), ms(r.Latency.Max)},
	})
}

// String is the report in one line.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %v (%.1f/s):", r.Requests, r.Elapsed.Round(time.Millisecond), r.Rate())
	for _, code := range slices.Sorted(maps.Keys(r.Codes)) {
		fmt.Fprintf(&b, " %d × %d,", r.Codes[code], code)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(&b, " %d × %s,", r.Errors[kind], kind)
	}
	if r.Unsent > 0 {
		fmt.Fprintf(&b, " %d not sent in time,", r.Unsent)
	}
	l := r.Latency
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	fmt.Fprintf(&b, " p50 %v, p90 %v, p99 %v, max %v", round(l.P50), round(l.P90), round(l.P99), round(l.Max))
	return b.String()
}

func (r *Report) add(res Result) {
	r.Requests++
	if res.Err == nil {
		r.Codes[res.Code]++
		return
	}
	r.Errors[errorKind(res.Err)]++
}

// errorKind names an error without addresses and ports, so that equal troubles
// count as one.
func errorKind(err error) string {
	timeout, isNet := errors.AsType[net.Error](err)
	_, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), isNet && timeout.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed early"
	case isDNS:
		return "unknown host"
	default:
		return "other error"
	}
}

const (
	subBuckets = 128 // per power of two: quantiles are off by less than 1/128
	// An hour in microseconds is less than 2^32, so its bucket is below
	// (32-8)*subBuckets + 2*subBuckets.
	buckets     = 26 * subBuckets
	maxDuration = time.Hour
)

// histogram counts durations in buckets whose width grows with the duration:
// exact below 128 µs, 1/128 of the value above (as HdrHistogram does).
type histogram struct {
	counts [buckets]uint64
	n      uint64
	sum    time.Duration
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = min(max(d, 0), maxDuration)
	h.counts[bucketOf(uint64(d.Microseconds()))]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

func bucketOf(micros uint64) int {
	shift := max(bits.Len64(micros)-8, 0)
	return shift*subBuckets + int(micros>>shift)
}

// topOf is the largest duration that belongs to a bucket.
func topOf(bucket int) time.Duration {
	shift := max(bucket/subBuckets-1, 0)
	micros := (bucket-shift*subBuckets+1)<<shift - 1
	return time.Duration(micros)*time.Microsecond + 999*time.Nanosecond
}

// quantile returns a duration that the share q of all durations does not
// exceed; 0 without any.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.n)))
	rank = min(max(rank, 1), h.n)
	var seen uint64
	for i, c := range h.counts {
		seen += c
		if c > 0 && seen >= rank {
			return min(topOf(i), h.max)
		}
	}
	return 0
}

func (h *histogram) quantiles() Quantiles {
	if h.n == 0 {
		return Quantiles{}
	}
	return Quantiles{
		Mean: h.sum / time.Duration(h.n),
		P50:  h.quantile(0.5), P90: h.quantile(0.9), P95: h.quantile(0.95), P99: h.quantile(0.99),
		Max: h.max,
	}
}
