package istio

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/internal/mesh"
)

// AnnotationRateLimit on a VirtualService limits each of its HTTP routes, in
// each proxy, to so many requests: "100/s", "100/s burst 200". The unit is s,
// m or h. So many may come at once; without burst it is the number before the
// slash. What is more is answered with 429. Istio has no field for it.
const AnnotationRateLimit = "serin.dev/rate-limit"

func rateLimit(annotations map[string]string, r *report) *mesh.RateLimit {
	text, ok := annotations[AnnotationRateLimit]
	if !ok {
		return nil
	}
	l, err := parseRateLimit(text)
	if err != nil {
		r.errorf("metadata.annotations["+AnnotationRateLimit+"]", `%v: write such as "100/s" or "100/s burst 200", with s, m or h`, err)
		return nil
	}
	return l
}

func parseRateLimit(text string) (*mesh.RateLimit, error) {
	words := strings.Fields(text)
	if len(words) != 1 && (len(words) != 3 || words[1] != "burst") {
		return nil, fmt.Errorf("%q is no rate", text)
	}
	number, unit, _ := strings.Cut(words[0], "/")
	per, ok := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	if !ok {
		return nil, fmt.Errorf("%q has no unit of time", words[0])
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("%q is no number of requests", number)
	}
	l := &mesh.RateLimit{Burst: uint32(n), Fill: uint32(n), Per: per}
	if len(words) == 3 {
		burst, err := strconv.ParseUint(words[2], 10, 32)
		if err != nil || burst == 0 {
			return nil, fmt.Errorf("burst %q is no number of requests", words[2])
		}
		l.Burst = uint32(burst)
	}
	// The bucket is filled as often as proxies can, which spreads the requests
	// best: 100/s are 5 each 50 ms.
	for often := per / mesh.MinRatePeriod; often > 1; often-- {
		if n%uint64(often) == 0 && per%often == 0 {
			l.Fill, l.Per = uint32(n/uint64(often)), per/often
			break
		}
	}
	return l, nil
}
