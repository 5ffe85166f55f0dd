package analysis

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

const (
	// histogramFloor is the upper bound of the first bucket: nothing a user
	// feels is shorter.
	histogramFloor = 100 * time.Microsecond
	// histogramGrowth is the ratio of a bucket's bounds, so a quantile is off
	// by less than 2.5 %. Two buckets are 5 %, four 10.25 %: tolerances of
	// latency are whole numbers of buckets.
	histogramGrowth = 1.0246950765959598 // the root of 1.05
	// histogramBuckets reach from 100 µs to 105 s; the last one takes what is
	// longer.
	histogramBuckets = 570
)

// Histogram counts durations in fixed logarithmic buckets, so that two of them
// can be merged and compared. It is a plain value: assignment copies it. The
// zero value is empty.
type Histogram [histogramBuckets]uint32

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) { h[bucketOf(d)]++ }

// Merge adds the counts of o.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o {
		h[i] += n
	}
}

// Count returns how many durations were counted.
func (h *Histogram) Count() int64 { return count(h[:]) }

func count(buckets []uint32) int64 {
	var n int64
	for _, c := range buckets {
		n += int64(c)
	}
	return n
}

// Quantile returns the duration below which the share q (0 to 1) of the
// durations lie, interpolated within its bucket; 0 when nothing was counted.
// Durations over 105 s count as 105 s.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank := q * float64(total)
	var below float64
	for i, n := range h {
		if n == 0 {
			continue
		}
		if below+float64(n) >= rank {
			lo, hi := bucketBounds(i)
			part := max(0, rank-below) / float64(n)
			return lo + time.Duration(part*float64(hi-lo))
		}
		below += float64(n)
	}
	_, hi := bucketBounds(histogramBuckets - 1)
	return hi
}

// MarshalJSON writes the non-empty buckets alone, by index.
func (h Histogram) MarshalJSON() ([]byte, error) {
	m := make(map[string]uint32)
	for i, n := range h {
		if n > 0 {
			m[strconv.Itoa(i)] = n
		}
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var m map[string]uint32
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	*h = Histogram{}
	for key, n := range m {
		i, err := strconv.Atoi(key)
		if err != nil || i < 0 || i >= histogramBuckets {
			return fmt.Errorf("histogram: bucket %q: want a number from 0 to %d", key, histogramBuckets-1)
		}
		h[i] = n
	}
	return nil
}

func bucketOf(d time.Duration) int {
	if d <= histogramFloor {
		return 0
	}
	i := int(math.Ceil(math.Log(float64(d)/float64(histogramFloor)) / math.Log(histogramGrowth)))
	return min(i, histogramBuckets-1)
}

// bucketBound is the longest duration of a bucket other than the last.
func bucketBound(i int) time.Duration {
	return time.Duration(float64(histogramFloor) * math.Pow(histogramGrowth, float64(i)))
}

// bucketBounds returns the durations a bucket lies between; the last bucket has
// no width, it stands for its lower bound.
func bucketBounds(i int) (lo, hi time.Duration) {
	switch {
	case i == 0:
		return 0, histogramFloor
	case i == histogramBuckets-1:
		return bucketBound(i - 1), bucketBound(i - 1)
	default:
		return bucketBound(i - 1), bucketBound(i)
	}
}
