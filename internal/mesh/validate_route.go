package mesh

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Validate reports why no proxy could obey the route.
func (r *Route) Validate() error {
	if err := cmp.Or(validateMatches(r.Matches), validateSplit(r.Split)); err != nil {
		return err
	}
	actions := 0
	for _, set := range [...]bool{len(r.Split) > 0, r.Redirect != nil, r.Direct != nil} {
		if set {
			actions++
		}
	}
	switch {
	case actions > 1:
		return fmt.Errorf("has several of a split, a redirect and a direct answer")
	case len(r.Split) == 0 && (len(r.Affinity) > 0 || r.Rewrite != nil || len(r.Mirrors) > 0 || r.Retry != nil || r.Timeout != 0 || r.IdleTimeout != 0):
		return fmt.Errorf("has no split, and so no affinity, rewrite, mirror, retry or timeout")
	}
	if err := cmp.Or(
		in("affinity", validateHash(r.Affinity)),
		in("redirect", r.Redirect.Validate()),
		in("direct answer", r.Direct.Validate()),
		in("rewrite", r.Rewrite.Validate()),
		in("headers", r.Headers.Validate()),
		in("cors", r.CORS.Validate()),
		in("fault", r.Fault.Validate()),
		in("rate limit", r.RateLimit.Validate()),
	); err != nil {
		return err
	}
	for i := range r.Mirrors {
		if err := r.Mirrors[i].validate(); err != nil {
			return fmt.Errorf("mirror %d: %w", i, err)
		}
	}
	return cmp.Or(in("retry", r.Retry.Validate()), notNegative("timeout", r.Timeout))
}

func validateSplit(split []Destination) error {
	var sum uint64
	for i := range split {
		d := &split[i]
		if d.Service == "" {
			return fmt.Errorf("destination %d: has no service", i)
		}
		if err := d.Headers.Validate(); err != nil {
			return fmt.Errorf("destination %d: headers: %w", i, err)
		}
		sum += uint64(d.Weight)
	}
	switch {
	case len(split) > 1 && sum == 0:
		return fmt.Errorf("all weights are 0")
	case sum > math.MaxUint32:
		return fmt.Errorf("the weights sum up to more than %d", uint32(math.MaxUint32))
	}
	return nil
}

// Validate reports why no proxy could obey the redirect. Nil is valid.
func (r *Redirect) Validate() error {
	switch {
	case r == nil:
		return nil
	case !slices.Contains([]int{301, 302, 303, 307, 308}, r.Code):
		return fmt.Errorf("code %d is not 301, 302, 303, 307 or 308", r.Code)
	case r.Scheme != "" && r.Scheme != "http" && r.Scheme != "https":
		return fmt.Errorf("scheme %q is not http or https", r.Scheme)
	case r.Path != "" && r.Prefix != nil:
		return fmt.Errorf("replaces both the path and its prefix")
	case r.Scheme == "" && r.Authority == "" && r.Port == 0 && r.Path == "" && r.Prefix == nil:
		return fmt.Errorf("changes nothing: callers would come back for ever")
	}
	if err := checkAuthority(r.Authority); err != nil {
		return err
	}
	if r.Path != "" {
		return checkPath("path", r.Path)
	}
	if r.Prefix != nil {
		return cmp.Or(checkPath("prefix", *r.Prefix), noQuery(*r.Prefix))
	}
	return nil
}

func checkAuthority(a string) error {
	if strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/?#@\`, r) }) {
		return fmt.Errorf("authority %q is not host or host:port", a)
	}
	return nil
}

func checkPath(what, path string) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("%s %q does not begin with a slash", what, path)
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		return fmt.Errorf("%s %q has a character that no path has", what, path)
	}
	return nil
}

func noQuery(path string) error {
	if strings.Contains(path, "?") {
		return fmt.Errorf("%q has a query, of which only the one that was sent is kept", path)
	}
	return nil
}

// Validate reports why no proxy could obey the answer. Nil is valid.
func (d *DirectAnswer) Validate() error {
	switch {
	case d == nil:
		return nil
	case d.Status < 200 || d.Status > 599:
		return fmt.Errorf("status %d is not in 200..599", d.Status)
	case len(d.Body) > MaxDirectBody:
		return fmt.Errorf("body of %d bytes is larger than %d", len(d.Body), MaxDirectBody)
	}
	return nil
}

// Validate reports why no proxy could obey the rewrite. Nil is valid.
func (r *Rewrite) Validate() error {
	if r == nil {
		return nil
	}
	if r.Path != nil && r.Regex != nil {
		return fmt.Errorf("changes the path in two ways")
	}
	if err := checkAuthority(r.Authority); err != nil {
		return err
	}
	if r.Path != nil {
		return cmp.Or(checkPath("path", *r.Path), noQuery(*r.Path))
	}
	if r.Regex != nil {
		_, _, err := r.Regex.Compile()
		return cmp.Or(err, CheckHeaderValue(r.Regex.Substitution))
	}
	return nil
}

// framing are the headers that say how long a message or a connection is. An
// edit of them would let two readers of one message disagree.
func framing(name string) bool {
	switch name {
	case "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// Validate reports why no proxy could obey the edits. Nil is valid.
func (e *HeaderEdits) Validate() error {
	if e == nil {
		return nil
	}
	return cmp.Or(in("request", e.Request.validate(true)), in("answer", e.Answer.validate(false)))
}

func (e *HeaderEdit) validate(request bool) error {
	for _, name := range e.Remove {
		if err := checkEdited(name, false); err != nil {
			return fmt.Errorf("remove %q: %w", name, err)
		}
	}
	for _, h := range e.Set {
		if err := cmp.Or(checkEdited(h.Name, request), CheckHeaderValue(h.Value)); err != nil {
			return fmt.Errorf("set %q: %w", h.Name, err)
		}
		if h.Name == "host" && (h.Value == "" || checkAuthority(h.Value) != nil) {
			return fmt.Errorf(`set "host": %q is not host or host:port`, h.Value)
		}
	}
	for _, h := range e.Add {
		if err := cmp.Or(checkEdited(h.Name, false), CheckHeaderValue(h.Value)); err != nil {
			return fmt.Errorf("add %q: %w", h.Name, err)
		}
	}
	return nil
}

func checkEdited(name string, host bool) error {
	switch {
	case framing(name):
		return fmt.Errorf("is part of the framing and cannot be edited")
	case name == "host" && !host:
		return fmt.Errorf("can be set in requests, and nothing else")
	}
	return CheckHeaderName(name)
}

// Validate reports why no proxy could obey the rule. Nil is valid.
func (c *CORS) Validate() error {
	if c == nil {
		return nil
	}
	for i, o := range c.Origins {
		if err := o.validate(onOrigin); err != nil {
			return fmt.Errorf("origin %d: %w", i, err)
		}
	}
	for _, names := range [...][]string{c.Methods, c.Headers, c.Expose} {
		for _, name := range names {
			if !isToken(name) {
				return fmt.Errorf("%q is not a token", name)
			}
		}
	}
	return notNegative("max age", c.MaxAge)
}

// Validate reports why no proxy could obey the fault. Nil is valid.
func (f *Fault) Validate() error {
	if f == nil {
		return nil
	}
	if d := f.Delay; d != nil {
		if d.Time <= 0 {
			return fmt.Errorf("delay: %v is not above zero", d.Time)
		}
		if err := d.Share.validate(); err != nil {
			return fmt.Errorf("delay: %w", err)
		}
	}
	if a := f.Abort; a != nil {
		switch {
		case a.Status != 0 && (a.Status < 200 || a.Status > 599):
			return fmt.Errorf("abort: status %d is not in 200..599", a.Status)
		case a.Status != 0 && a.GRPC != 0:
			return fmt.Errorf("abort: by HTTP status and by gRPC status")
		case a.GRPC < 0 || a.GRPC > 16:
			return fmt.Errorf("abort: gRPC status %d is not in 0..16", a.GRPC)
		}
		if err := a.Share.validate(); err != nil {
			return fmt.Errorf("abort: %w", err)
		}
	}
	return nil
}

func (s Share) validate() error {
	if s > Everything {
		return fmt.Errorf("share of %s is more than everything", s)
	}
	return nil
}

// Validate reports why no proxy could obey the limit. Nil is valid.
func (r *RateLimit) Validate() error {
	switch {
	case r == nil:
		return nil
	case r.Burst == 0:
		return fmt.Errorf("a burst of 0 lets nothing through")
	case r.Fill == 0:
		return fmt.Errorf("a fill of 0 lets nothing through after the first burst")
	case r.Per < MinRatePeriod:
		return fmt.Errorf("%v is shorter than %v", r.Per, MinRatePeriod)
	}
	return nil
}

func (m *Mirror) validate() error {
	switch d := &m.Destination; {
	case d.Service == "":
		return fmt.Errorf("has no service")
	case d.Weight != 0 || d.Headers != nil:
		return fmt.Errorf("has a weight or headers, which are of a split")
	}
	return m.Share.validate()
}

// Validate reports why no proxy could obey the policy. Nil is valid.
func (r *Retry) Validate() error {
	if r == nil {
		return nil
	}
	for _, code := range r.Codes {
		if code < 200 || code > 599 {
			return fmt.Errorf("code %d is not in 200..599", code)
		}
	}
	switch {
	case r.On >= retryConditionsEnd:
		return fmt.Errorf("unknown condition %#x", uint32(r.On))
	case r.Max != 0 && r.Max < cmp.Or(r.Base, DefaultRetryBase):
		return fmt.Errorf("waits at most %v, and %v to begin with", r.Max, cmp.Or(r.Base, DefaultRetryBase))
	}
	return cmp.Or(notNegative("per try timeout", r.PerTryTimeout), notNegative("base", r.Base), notNegative("max", r.Max))
}

func notNegative(what string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s %v is negative", what, d)
	}
	return nil
}
