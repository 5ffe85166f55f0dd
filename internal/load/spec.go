package load

import (
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Spec says what to send.
type Spec struct {
	// URLs are asked in turn, or AtRandom: each by an even chance; at least
	// one, http or https.
	URLs     []string
	AtRandom bool
	Method   string // default: GET
	Header   http.Header
	Host     string // in place of the URL's
	Body     []byte

	// Rate is the number of requests per second in all. 0 sends as fast as
	// Concurrency allows: a closed loop.
	Rate     float64
	Arrivals Arrivals
	Seed     uint64 // of Poisson arrivals, and of what is AtRandom

	// The run ends after Duration or Count, whichever comes first; zero is
	// no limit. Without any it ends with its context.
	Duration time.Duration
	Count    int

	// Concurrency bounds the requests under way. Default: 100.
	Concurrency int
	// Timeout of one request, from its start to the last byte. Default: 20 s.
	Timeout time.Duration

	// Proxy as in http.Transport; nil is none.
	Proxy              func(*http.Request) (*url.URL, error)
	DisableKeepAlive   bool
	DisableCompression bool
	// DisableRedirects makes a redirect an answer like any other.
	DisableRedirects bool
}

// Arrivals says how requests are spread over time. The zero value is Even.
type Arrivals uint8

// The kinds of arrivals.
const (
	Even    Arrivals = iota // every 1/Rate
	Poisson                 // independent of each other, as users are
)

const (
	defaultConcurrency = 100
	maxConcurrency     = 10_000
	maxRate            = 1_000_000
	defaultTimeout     = 20 * time.Second
)

// Validate says what is wrong with a Spec.
func (s Spec) Validate() error {
	_, err := s.withDefaults()
	return err
}

// withDefaults returns the Spec without unset fields, or says what is wrong.
func (s Spec) withDefaults() (Spec, error) {
	if s.Method == "" {
		s.Method = http.MethodGet
	}
	if s.Concurrency == 0 {
		s.Concurrency = defaultConcurrency
	}
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	switch {
	case len(s.URLs) == 0:
		return s, fmt.Errorf("no URL: give at least one")
	case !(s.Rate >= 0 && s.Rate <= maxRate):
		return s, fmt.Errorf("rate %v: want 0 to %d requests per second", s.Rate, maxRate)
	case s.Concurrency < 0 || s.Concurrency > maxConcurrency:
		return s, fmt.Errorf("concurrency %d: want 1 to %d", s.Concurrency, maxConcurrency)
	case s.Count < 0:
		return s, fmt.Errorf("count %d: want 0 or more", s.Count)
	case s.Duration < 0:
		return s, fmt.Errorf("duration %v: want 0 or more", s.Duration)
	case s.Timeout < 0:
		return s, fmt.Errorf("timeout %v: want more than 0", s.Timeout)
	}
	for _, address := range s.URLs {
		if err := checkURL(s.Method, address); err != nil {
			return s, err
		}
	}
	return s, nil
}

func checkURL(method, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("URL %q: %w", address, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("URL %q: want one such as http://music.default:30001/api/v1/music/1", address)
	}
	_, err = http.NewRequest(method, address, nil) // knows what a method may be
	return err
}
