package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"serin.dev/serin/internal/proxy"
)

// limitsFlag is the value of --limit, which may be repeated. docs/proxies.md
// lists the names with their defaults and reasons.
type limitsFlag struct{ proxy.Limits }

func (f *limitsFlag) numbers() map[string]*int {
	return map[string]*int{
		"head-bytes": &f.HeadBytes, "fields": &f.Fields, "connections": &f.Connections, "requests-per-connection": &f.RequestsPerConnection,
		"streams": &f.Streams, "retry-bytes": &f.RetryBuffer, "mirror-bytes": &f.MirrorBuffer, "mirrors": &f.Mirrors, "outside": &f.Outside,
	}
}

func (f *limitsFlag) times() map[string]*time.Duration {
	return map[string]*time.Duration{"head-time": &f.HeaderTime, "idle-time": &f.IdleTime, "stream-idle-time": &f.StreamIdle}
}

// Set implements pflag.Value.
func (f *limitsFlag) Set(text string) error {
	name, value, _ := strings.Cut(text, "=")
	if number := f.numbers()[name]; number != nil {
		q, err := resource.ParseQuantity(value)
		n := q.Value()
		if err != nil || n < 1 || n > 1<<40 || q.CmpInt64(n) != 0 {
			return fmt.Errorf("%q is not a number above 0, such as 100 or 64Ki", value)
		}
		*number = int(n)
		return nil
	}
	if limit := f.times()[name]; limit != nil {
		d, err := time.ParseDuration(value)
		if err != nil || d < time.Millisecond {
			return fmt.Errorf("%q is not a time of 1ms or longer, such as 30s", value)
		}
		*limit = d
		return nil
	}
	names := slices.Concat(slices.Collect(maps.Keys(f.numbers())), slices.Collect(maps.Keys(f.times())))
	slices.Sort(names)
	return fmt.Errorf("%q is no limit: there are %s", name, strings.Join(names, ", "))
}

// Type implements pflag.Value.
func (f *limitsFlag) Type() string { return "NAME=VALUE" }

// String implements pflag.Value; what is not set has its default.
func (f *limitsFlag) String() string { return "" }
