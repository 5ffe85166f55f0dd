package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
)

// Validate reports why no proxy could obey the policy; certificates are those
// of the snapshot.
func (p *Policy) Validate(certificates map[string]*Certificate) error {
	switch {
	case p == nil:
		return fmt.Errorf("is nil")
	case p.Balancer > Maglev:
		return fmt.Errorf("unknown balancer %d", p.Balancer)
	case p.RingSize > MaxRingSize:
		return fmt.Errorf("ring of %d points is larger than %d", p.RingSize, MaxRingSize)
	case p.TableSize > MaxTableSize:
		return fmt.Errorf("table of %d places is larger than %d", p.TableSize, MaxTableSize)
	case p.TableSize != 0 && !big.NewInt(int64(p.TableSize)).ProbablyPrime(0):
		return fmt.Errorf("table size %d is no prime", p.TableSize)
	}
	return cmp.Or(
		in("hash", validateHash(p.Hash)),
		in("warmup", p.Warmup.validate()),
		in("locality", p.Locality.validate()),
		in("pool", p.Pool.validate()),
		in("outlier", p.Outlier.validate()),
		in("budget", p.Budget.validate()),
		in("tls", p.TLS.validate(certificates)),
		in("health", p.Health.validate()),
	)
}

func validateHash(keys []HashKey) error {
	for i := range keys {
		if err := keys[i].validate(); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
	}
	return nil
}

func (k *HashKey) validate() error {
	switch {
	case k.Source > HashQuery:
		return fmt.Errorf("unknown source %d", k.Source)
	case k.Source == HashSourceIP && k.Name != "":
		return fmt.Errorf("a source address has no name, and not %q", k.Name)
	case k.Source == HashQuery && k.Name == "":
		return fmt.Errorf("a query parameter needs its name")
	case k.Source != HashCookie && (k.Make || k.TTL != 0 || k.Path != ""):
		return fmt.Errorf("only cookies are made")
	case !k.Make && (k.TTL != 0 || k.Path != ""):
		return fmt.Errorf("has a time or path for a cookie that is not made")
	case k.TTL < 0:
		return fmt.Errorf("time %v is negative", k.TTL)
	case k.Source == HashCookie && !isToken(k.Name):
		return fmt.Errorf("%q is not the name of a cookie", k.Name)
	case strings.ContainsFunc(k.Path, func(r rune) bool { return r < ' ' || r >= 0x7f || r == ';' }):
		return fmt.Errorf("%q is not the path of a cookie", k.Path)
	case k.Source == HashHeader:
		return CheckHeaderName(k.Name)
	}
	return nil
}

func (w *Warmup) validate() error {
	switch {
	case w == nil:
		return nil
	case w.Duration <= 0:
		return fmt.Errorf("duration %v is not above zero", w.Duration)
	case w.MinPercent > 100:
		return fmt.Errorf("minimum %d %% is not in 1..100", w.MinPercent)
	case !(w.Aggression >= 0) || math.IsInf(w.Aggression, 0):
		return fmt.Errorf("aggression %v is not above zero", w.Aggression)
	}
	return nil
}

func (l *Locality) validate() error {
	if l == nil {
		return nil
	}
	if len(l.Distribute) > 0 && (l.Failover || len(l.FailoverTo) > 0) {
		return fmt.Errorf("both distributes and fails over")
	}
	for _, from := range slices.Sorted(maps.Keys(l.FailoverTo)) {
		if to := l.FailoverTo[from]; from == "" || to == "" || from == to || strings.ContainsAny(from+to, "/*") {
			return fmt.Errorf("failover from %q to %q: two regions are needed", from, to)
		}
	}
	for i, d := range l.Distribute {
		var sum uint64
		for _, to := range slices.Sorted(maps.Keys(d.To)) {
			if err := checkPlaces(to); err != nil {
				return fmt.Errorf("distribution %d: to %q: %w", i, to, err)
			}
			sum += uint64(d.To[to])
		}
		switch err := checkPlaces(d.From); {
		case err != nil:
			return fmt.Errorf("distribution %d: from %q: %w", i, d.From, err)
		case sum == 0:
			return fmt.Errorf("distribution %d: all weights are 0", i)
		case sum > math.MaxUint32:
			return fmt.Errorf("distribution %d: the weights sum up to more than %d", i, uint32(math.MaxUint32))
		}
	}
	return nil
}

// checkPlaces checks a pattern of Distribution.
func checkPlaces(pattern string) error {
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		if part == "" || i > 2 || strings.Contains(part, "*") && (part != "*" || i < len(parts)-1) {
			return fmt.Errorf(`is not region/zone/subzone, with "*" for the rest`)
		}
	}
	return nil
}

func (p *Pool) validate() error {
	if p.ConcurrentStreams > math.MaxInt32 {
		return fmt.Errorf("%d concurrent streams are more than HTTP/2 can count", p.ConcurrentStreams)
	}
	return cmp.Or(
		notNegative("connect timeout", p.ConnectTimeout),
		notNegative("idle timeout", p.IdleTimeout),
		notNegative("max connection age", p.MaxConnectionAge),
		notNegative("tcp keepalive time", p.TCPKeepaliveTime),
		notNegative("tcp keepalive interval", p.TCPKeepaliveInterval),
	)
}

func (o *Outlier) validate() error {
	switch {
	case o == nil:
		return nil
	case o.MaxPercent > 100:
		return fmt.Errorf("max percent %d is not in 0..100", o.MaxPercent)
	case o.MinHealthPercent > 100:
		return fmt.Errorf("min health percent %d is not in 0..100", o.MinHealthPercent)
	case o.MaxEjection != 0 && o.MaxEjection < cmp.Or(o.BaseEjection, DefaultBaseEjection):
		return fmt.Errorf("ejects for %v at most, and for %v to begin with", o.MaxEjection, cmp.Or(o.BaseEjection, DefaultBaseEjection))
	}
	return cmp.Or(notNegative("interval", o.Interval), notNegative("base ejection", o.BaseEjection))
}

func (b *RetryBudget) validate() error {
	if b == nil {
		return nil
	}
	return b.Percent.validate()
}

func (t *ClientTLS) validate(certificates map[string]*Certificate) error {
	if t == nil {
		return nil
	}
	if t.SNI != "" {
		if err := CheckHost(t.SNI); err != nil || t.SNI[0] == '*' {
			return fmt.Errorf("sni %q is not the name of one host", t.SNI)
		}
	}
	if c := certificates[t.CA]; t.CA != "" && (c == nil || len(c.CA) == 0) {
		return fmt.Errorf("no authorities are named %q", t.CA)
	}
	if c := certificates[t.Certificate]; t.Certificate != "" && (c == nil || len(c.Chain) == 0) {
		return fmt.Errorf("no key pair is named %q", t.Certificate)
	}
	if slices.Contains(t.SubjectAlts, "") {
		return fmt.Errorf("a subject alternative name is empty")
	}
	return nil
}

func (h *HealthCheck) validate() error {
	switch {
	case h == nil:
		return nil
	case h.Interval <= 0 || h.Timeout <= 0:
		return fmt.Errorf("interval %v and timeout %v must be above zero", h.Interval, h.Timeout)
	case h.UnhealthyAfter == 0 || h.HealthyAfter == 0:
		return fmt.Errorf("unhealthy after %d and healthy after %d must be at least 1", h.UnhealthyAfter, h.HealthyAfter)
	case h.Path == "" && h.Host != "":
		return fmt.Errorf("has a host %q and no path to ask it for", h.Host)
	}
	if h.Path != "" {
		return cmp.Or(checkPath("path", h.Path), checkAuthority(h.Host))
	}
	return nil
}
