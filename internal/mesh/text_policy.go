package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Compare orders scopes by port and subset, the widest first.
func (s PolicyScope) Compare(other PolicyScope) int {
	return cmp.Or(cmp.Compare(s.Port, other.Port), cmp.Compare(s.Subset, other.Subset))
}

// String writes "port 80, subset v1", or "all".
func (s PolicyScope) String() string {
	var p parts
	p.add(s.Port != 0, "port %d", s.Port)
	p.add(s.Subset != "", "subset %s", s.Subset)
	if len(p) == 0 {
		return "all"
	}
	return strings.Join(p, ", ")
}

// String writes the policy in one line.
func (p *Policy) String() string {
	w := parts{p.Balancer.String()}
	w.add(len(p.Hash) > 0, "hash %s", hashText(p.Hash))
	w.add(p.RingSize != 0, "ring of %d", p.RingSize)
	w.add(p.TableSize != 0, "table of %d", p.TableSize)
	if u := p.Warmup; u != nil {
		w.add(true, "warm up in %v from %d%% with aggression %v", u.Duration, u.MinPercent, u.Aggression)
	}
	if p.Locality != nil {
		w.add(true, "%s", p.Locality)
	}
	w.pool(&p.Pool)
	if p.Outlier != nil {
		w.add(true, "%s", p.Outlier)
	}
	if p.Budget != nil {
		w.add(true, "retries at most %s or %d", p.Budget.Percent, p.Budget.MinConcurrency)
	}
	if p.TLS != nil {
		w.add(true, "%s", p.TLS)
	}
	if p.Health != nil {
		w.add(true, "%s", p.Health)
	}
	return strings.Join(w, ", ")
}

func hashText(keys []HashKey) string {
	var p parts
	for _, k := range keys {
		p.add(true, "%s", k)
	}
	return strings.Join(p, " or ")
}

// String writes "header x-user", "cookie user, made for 1h0m0s at /".
func (k HashKey) String() string {
	s := ""
	switch k.Source {
	case HashHeader:
		s = "header " + k.Name
	case HashCookie:
		s = "cookie " + k.Name
	case HashSourceIP:
		s = "source address" + k.Name
	case HashQuery:
		s = "query " + k.Name
	default:
		s = fmt.Sprintf("hash(%d) %s", uint8(k.Source), k.Name)
	}
	var p parts
	p.add(k.Make, "made")
	p.add(k.TTL != 0, "for %v", k.TTL)
	p.add(k.Path != "", "at %s", k.Path)
	if len(p) > 0 {
		s += ", " + strings.Join(p, " ")
	}
	return s
}

// String writes the rules in one line.
func (l *Locality) String() string {
	var p parts
	p.add(l.Failover, "nearest first")
	for _, from := range slices.Sorted(maps.Keys(l.FailoverTo)) {
		p.add(true, "%s fails over to %s", from, l.FailoverTo[from])
	}
	for _, d := range l.Distribute {
		var to parts
		for _, place := range slices.Sorted(maps.Keys(d.To)) {
			to.add(true, "%d to %s", d.To[place], place)
		}
		p.add(true, "from %s %s", d.From, strings.Join(to, " and "))
	}
	if len(p) == 0 {
		return "no locality"
	}
	return strings.Join(p, ", ")
}

func (p *parts) pool(o *Pool) {
	for _, limit := range [...]struct {
		what string
		n    uint32
	}{
		{"connections", o.MaxConnections},
		{"pending requests", o.MaxPending},
		{"requests", o.MaxRequests},
		{"retries", o.MaxRetries},
		{"requests per connection", o.RequestsPerConn},
		{"concurrent streams", o.ConcurrentStreams},
	} {
		p.add(limit.n != 0, "at most %d %s", limit.n, limit.what)
	}
	p.add(o.ConnectTimeout != 0, "connect within %v", o.ConnectTimeout)
	p.add(o.IdleTimeout != 0, "idle for %v", o.IdleTimeout)
	p.add(o.MaxConnectionAge != 0, "connections live %v", o.MaxConnectionAge)
	p.add(o.HTTP2, "by HTTP/2")
	p.add(o.TCPKeepalive, "tcp keepalive")
	p.add(o.TCPKeepaliveTime != 0, "probed after %v", o.TCPKeepaliveTime)
	p.add(o.TCPKeepaliveInterval != 0, "probed each %v", o.TCPKeepaliveInterval)
	p.add(o.TCPKeepaliveProbes != 0, "probed %d times", o.TCPKeepaliveProbes)
}

// String writes the rules in one line.
func (o *Outlier) String() string {
	var p parts
	p.add(o.Consecutive5xx != 0, "after %d of 5xx", o.Consecutive5xx)
	p.add(o.ConsecutiveGateway != 0, "after %d of 502 503 504", o.ConsecutiveGateway)
	p.add(o.ConsecutiveLocal != 0, "after %d without an answer", o.ConsecutiveLocal)
	p.add(o.SplitLocal, "no answer counted apart")
	p.add(o.Interval != 0, "looked at each %v", o.Interval)
	p.add(o.BaseEjection != 0, "for %v", o.BaseEjection)
	p.add(o.MaxEjection != 0, "for at most %v", o.MaxEjection)
	p.add(true, "at most %d%%", o.MaxPercent)
	p.add(o.MinHealthPercent != 0, "while %d%% are healthy", o.MinHealthPercent)
	return "eject " + strings.Join(p, " ")
}

// String writes the settings in one line.
func (t *ClientTLS) String() string {
	p := parts{"tls"}
	p.add(t.SNI != "", "for %s", t.SNI)
	p.add(t.CA != "", "signed by %s", t.CA)
	p.add(t.Certificate != "", "as %s", t.Certificate)
	p.add(len(t.SubjectAlts) > 0, "named %s", strings.Join(t.SubjectAlts, " or "))
	p.add(t.Insecure, "not verified")
	return strings.Join(p, " ")
}

// String writes the check in one line.
func (h *HealthCheck) String() string {
	what := "connection"
	if h.Path != "" {
		what = "GET " + h.Path
	}
	var p parts
	p.add(true, "check %s", what)
	p.add(h.Host != "", "of %s", h.Host)
	p.add(true, "each %v within %v, out after %d, in after %d", h.Interval, h.Timeout, h.UnhealthyAfter, h.HealthyAfter)
	return strings.Join(p, " ")
}
