package metric

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoValues says that the provider answered, and that there is nothing to
// measure: an empty series, null or NaN (as 0/0 is in Prometheus).
var ErrNoValues = errors.New("no values")

// Provider is one metric system. It is safe for concurrent use.
type Provider interface {
	// Query asks for one number, which is never NaN but may be infinite. The
	// query is in the provider's own language, with all placeholders filled
	// in. How long to wait is up to ctx. Errors name provider and address
	// and are ErrNoValues or say what to change.
	Query(ctx context.Context, query string) (float64, error)

	// Online asks whether the provider answers and accepts the credentials,
	// without a query of the user's.
	Online(ctx context.Context) error

	// String is type and address, without anything secret.
	String() string
}

// Config says where and how to ask. It holds what Flagger's MetricTemplate has
// below spec.provider.
type Config struct {
	// Type is one of [Types].
	Type string
	// Address is the base URL of the API. Datadog, CloudWatch and New Relic
	// have one of their own.
	Address string
	// Region is CloudWatch's.
	Region string
	// Headers are sent along with every request.
	Headers http.Header
	// Credentials are the data of the Secret that the template names; nil
	// when it names none. The provider's file says which keys it reads.
	Credentials map[string][]byte
	// InsecureSkipVerify accepts any certificate.
	InsecureSkipVerify bool
	// Interval is the window of time that a check looks at, such as "1m".
	// Providers whose queries hold no window of their own need it.
	Interval string
}

// Template is a query with the provider that answers it.
type Template struct {
	Namespace, Name string
	Config          Config
	Query           string // with placeholders, see Render
}

// kinds are the providers, in the order in which messages list them.
func kinds() []kind {
	return []kind{
		{"prometheus", newPrometheus},
		{"datadog", newDatadog},
		{"cloudwatch", newCloudWatch},
		{"newrelic", newNewRelic},
		{"graphite", newGraphite},
		{"influxdb", newInfluxDB},
		{"dynatrace", newDynatrace},
		{"web", newWeb},
	}
}

type kind struct {
	name string
	make func(Config) (Provider, error)
}

// Types lists the providers by the names that [Config] has for them.
func Types() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// New makes the provider of a Config. It opens no connection; its errors say
// what of the Config to change.
func New(c Config) (Provider, error) {
	all := kinds()
	i := slices.IndexFunc(all, func(k kind) bool { return k.name == c.Type })
	if i < 0 {
		return nil, fmt.Errorf("unknown metric provider %q: take one of %s", c.Type, strings.Join(Types(), ", "))
	}
	p, err := all[i].make(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Type, err)
	}
	return p, nil
}

// Range is what a check accepts. The zero value accepts everything.
type Range struct {
	Min, Max *float64 // inclusive; nil for no bound
}

// Contains reports whether v is acceptable.
func (r Range) Contains(v float64) bool {
	return (r.Min == nil || v >= *r.Min) && (r.Max == nil || v <= *r.Max)
}

// String says the range in words, such as "at most 5".
func (r Range) String() string {
	switch {
	case r.Min != nil && r.Max != nil:
		return Number(*r.Min) + " to " + Number(*r.Max)
	case r.Min != nil:
		return "at least " + Number(*r.Min)
	case r.Max != nil:
		return "at most " + Number(*r.Max)
	default:
		return "any"
	}
}

// Number writes a value as short as it can be told from any other.
func Number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// window is the Interval of a Config as a time.
func window(c Config) (time.Duration, error) {
	d, err := time.ParseDuration(c.Interval)
	switch {
	case err != nil:
		return 0, fmt.Errorf("interval %q is not a time: write one such as 1m", c.Interval)
	case d < time.Second:
		return 0, fmt.Errorf("interval %q: want 1s or more", c.Interval)
	}
	return d, nil
}

// wideWindow is how far back is asked of systems whose newest points come late
// or are coarse: ten intervals, as Flagger does.
func wideWindow(c Config) (time.Duration, error) {
	d, err := window(c)
	return 10 * d, err
}

// measured is a value that a provider gave, unless it is none.
func measured(v float64) (float64, error) {
	if math.IsNaN(v) {
		return 0, ErrNoValues
	}
	return v, nil
}

// measuredOnly is the one value that was given, of values each of a series of
// its own.
func measuredOnly(values []float64) (float64, error) {
	switch len(values) {
	case 0:
		return 0, ErrNoValues
	case 1:
		return measured(values[0])
	default:
		return 0, fmt.Errorf("the query gives %d series, want one: aggregate them, such as by sum or avg", len(values))
	}
}
