package istio

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"serin.dev/serin/internal/mesh"
)

// redirect translates a redirect. fromRequest says that the port is that of the
// request, which a snapshot can only say for a listener that is known.
func redirect(d *networking.HTTPRedirect, path string, r *report) (out *mesh.Redirect, fromRequest bool) {
	if d == nil {
		return nil, false
	}
	out = &mesh.Redirect{Code: int(d.RedirectCode), Scheme: strings.ToLower(d.Scheme), Authority: d.Authority, Path: d.Uri}
	if d.RedirectCode == 0 {
		out.Code = http.StatusMovedPermanently
	}
	if d.PrefixRewrite != "" {
		out.Prefix = &d.PrefixRewrite
	}
	switch p := d.RedirectPort.(type) {
	case *networking.HTTPRedirect_Port:
		if out.Port = uint16(p.Port); p.Port == 0 || uint32(out.Port) != p.Port {
			r.errorf(path+".port", "%d is not in 1..65535", p.Port)
		}
	case *networking.HTTPRedirect_DerivePort:
		fromRequest = p.DerivePort == networking.HTTPRedirect_FROM_REQUEST_PORT
	}
	probe := *out
	if fromRequest {
		probe.Port = 1 // any: it is not known yet
	}
	if err := probe.Validate(); err != nil {
		r.errorf(path, "%v", err)
	}
	return out, fromRequest
}

func directAnswer(d *networking.HTTPDirectResponse, path string, r *report) *mesh.DirectAnswer {
	if d == nil {
		return nil
	}
	out := &mesh.DirectAnswer{Status: int(d.Status)}
	switch b := d.GetBody().GetSpecifier().(type) {
	case *networking.HTTPBody_String_:
		out.Body = b.String_
	case *networking.HTTPBody_Bytes:
		out.Body = string(b.Bytes)
	}
	if err := out.Validate(); err != nil {
		r.errorf(path, "%v", err)
	}
	return out
}

func rewrite(w *networking.HTTPRewrite, path string, r *report) *mesh.Rewrite {
	if w == nil {
		return nil
	}
	out := &mesh.Rewrite{Authority: w.Authority}
	if w.Uri != "" {
		out.Path = &w.Uri
	}
	if x := w.UriRegexRewrite; x != nil {
		out.Regex = &mesh.RegexRewrite{Match: x.Match, Substitution: x.Rewrite}
	}
	if *out == (mesh.Rewrite{}) {
		r.errorf(path, "changes nothing: write uri, uriRegexRewrite or authority, or remove it")
		return nil
	}
	if err := out.Validate(); err != nil {
		r.errorf(path, "%v", err)
	}
	return out
}

// headers translates header edits. Envoy, and so Istio, has placeholders in
// values, such as %DOWNSTREAM_REMOTE_ADDRESS%; "%%" stands for a percent sign.
func headers(h *networking.Headers, path string, r *report) *mesh.HeaderEdits {
	if h == nil {
		return nil
	}
	out := &mesh.HeaderEdits{
		Request: headerEdit(h.Request, path+".request", r),
		Answer:  headerEdit(h.Response, path+".response", r),
	}
	if err := out.Validate(); err != nil {
		r.errorf(path, "%v", err)
	}
	return out
}

func headerEdit(o *networking.Headers_HeaderOperations, path string, r *report) mesh.HeaderEdit {
	var out mesh.HeaderEdit
	key := func(name string) string {
		if name = strings.ToLower(name); name == ":authority" {
			return "host"
		}
		return name
	}
	for _, name := range o.GetRemove() {
		out.Remove = append(out.Remove, key(name))
	}
	values := func(m map[string]string, field string) []mesh.Header {
		var list []mesh.Header
		for _, name := range slices.Sorted(maps.Keys(m)) {
			value := strings.ReplaceAll(m[name], "%%", "%")
			if strings.Count(m[name], "%") != 2*strings.Count(m[name], "%%") {
				r.warnf(at("%s.%s[%s]", path, field, name), "placeholders are not supported yet: %q is sent as it is written", m[name])
				value = m[name]
			}
			list = append(list, mesh.Header{Name: key(name), Value: value})
		}
		return list
	}
	out.Set = values(o.GetSet(), "set")
	out.Add = values(o.GetAdd(), "add")
	return out
}

func cors(c *networking.CorsPolicy, path string, r *report) *mesh.CORS {
	if c == nil {
		return nil
	}
	out := &mesh.CORS{
		Methods: slices.Clone(c.AllowMethods), Headers: slices.Clone(c.AllowHeaders), Expose: slices.Clone(c.ExposeHeaders),
		MaxAge: duration(c.MaxAge, 0, path+".maxAge", r), Credentials: c.AllowCredentials.GetValue(),
	}
	anyOrigin := mesh.StringMatch{Kind: mesh.Regex, Value: ".*"}
	for i, o := range c.AllowOrigins {
		m, ok := stringMatch(o, at("%s.allowOrigins[%d]", path, i), r)
		switch {
		case !ok || m == (mesh.StringMatch{}):
			continue
		case m.Kind == mesh.Exact && m.Value == "*":
			m = anyOrigin
		}
		out.Origins = append(out.Origins, m)
	}
	if len(c.AllowOrigins) == 0 { // else Istio does not look at the old form
		for _, o := range c.AllowOrigin {
			m := mesh.StringMatch{Kind: mesh.Exact, Value: o}
			if o == "*" {
				m = anyOrigin
			}
			out.Origins = append(out.Origins, m)
		}
	}
	if len(out.Origins) == 0 {
		r.warnf(path, "allows no origin: it has no effect; add allowOrigins")
	}
	if c.UnmatchedPreflights == networking.CorsPolicy_IGNORE {
		r.warnf(path+".unmatchedPreflights", "IGNORE is not supported yet: preflight requests of other origins go to the destination")
	}
	if err := out.Validate(); err != nil {
		r.errorf(path, "%v", err)
	}
	return out
}

func fault(f *networking.HTTPFaultInjection, path string, r *report) *mesh.Fault {
	if f == nil {
		return nil
	}
	out := &mesh.Fault{Delay: delay(f.Delay, path+".delay", r), Abort: abort(f.Abort, path+".abort", r)}
	if f.Delay == nil && f.Abort == nil {
		r.errorf(path, "is empty: add a delay or an abort")
	}
	if err := out.Validate(); err != nil && !r.failedBelow(path) {
		r.errorf(path, "%v", err)
	}
	if *out == (mesh.Fault{}) {
		return nil
	}
	return out
}

func delay(d *networking.HTTPFaultInjection_Delay, path string, r *report) *mesh.Delay {
	if d == nil {
		return nil
	}
	kind, ok := d.HttpDelayType.(*networking.HTTPFaultInjection_Delay_FixedDelay)
	if !ok {
		if d.HttpDelayType == nil {
			r.errorf(path+".fixedDelay", "is not set: say how long requests wait, such as 5s")
		} // else untranslated says so
		return nil
	}
	out := &mesh.Delay{Time: duration(kind.FixedDelay, time.Millisecond, path+".fixedDelay", r)}
	old := share(float64(d.Percent), path+".percent", r)
	out.Share = percentage(d.Percentage, old, path+".percentage", r)
	warnOfNone(out.Share, path, r)
	return out
}

// warnOfNone tells what surprises most people: Istio's default is no request.
func warnOfNone(s mesh.Share, path string, r *report) {
	if s == 0 && !r.failedBelow(path) {
		r.warnf(path+".percentage", "is 0, as without one: no request is affected; write {value: 100} for all")
	}
}

func abort(a *networking.HTTPFaultInjection_Abort, path string, r *report) *mesh.Abort {
	if a == nil {
		return nil
	}
	out := &mesh.Abort{Share: percentage(a.Percentage, 0, path+".percentage", r)}
	switch e := a.ErrorType.(type) {
	case *networking.HTTPFaultInjection_Abort_HttpStatus:
		if out.Status = int(e.HttpStatus); out.Status < 200 || out.Status > 599 {
			r.errorf(path+".httpStatus", "%d is not in 200..599", e.HttpStatus)
		}
	case *networking.HTTPFaultInjection_Abort_GrpcStatus:
		if out.GRPC = slices.Index(grpcCodes(), e.GrpcStatus); out.GRPC < 0 {
			r.errorf(path+".grpcStatus", "unknown code %q%s; known: %s", e.GrpcStatus,
				didYouMean(e.GrpcStatus, strings.ToUpper(e.GrpcStatus), grpcCodes()), listed(grpcCodes()))
		}
	case *networking.HTTPFaultInjection_Abort_Http2Error:
		return nil // untranslated says so
	default:
		r.errorf(path+".httpStatus", "is not set: say which status requests are answered with, such as 503")
	}
	warnOfNone(out.Share, path, r)
	return out
}

// grpcCodes are the names of gRPC's status codes, by number.
func grpcCodes() []string {
	return []string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
		"UNAUTHENTICATED",
	}
}

// retry translates a retry policy. What is not said is as in Istio's default.
func retry(p *networking.HTTPRetry, path string, r *report) *mesh.Retry {
	if p == nil {
		return nil
	}
	if p.Attempts == 0 {
		if p.PerTryTimeout != nil || p.RetryOn != "" {
			r.errorf(path+".attempts", "is 0, which switches retries off: say how many, or remove the other fields")
		}
		return &mesh.Retry{}
	}
	out := mesh.DefaultRetry()
	out.Attempts = count(p.Attempts, path+".attempts", r)
	out.PerTryTimeout = duration(p.PerTryTimeout, time.Millisecond, path+".perTryTimeout", r)
	out.Base = duration(p.Backoff, time.Millisecond, path+".backoff", r)
	if p.RetryIgnorePreviousHosts != nil {
		out.AvoidPrevious = p.RetryIgnorePreviousHosts.Value
	}
	if p.RetryOn != "" {
		out.On, out.Codes = retryOn(p.RetryOn, path+".retryOn", r)
	}
	if err := out.Validate(); err != nil && !r.failedBelow(path) {
		r.errorf(path, "%v", err)
	}
	return out
}

// retryOn reads Envoy's names of conditions, and status codes among them.
func retryOn(list, path string, r *report) (on mesh.RetryOn, codes []int) {
	for _, name := range strings.Split(list, ",") {
		name = strings.TrimSpace(name)
		if code, err := strconv.Atoi(name); err == nil {
			if code < 200 || code > 599 {
				r.errorf(path, "status %d is not in 200..599", code)
			} else if !slices.Contains(codes, code) {
				codes = append(codes, code)
			}
			continue
		}
		condition, ok := mesh.ParseRetryOn(name)
		on |= condition
		switch name {
		case "retriable-status-codes", "": // said by the codes
			ok = true
		case "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure":
			ok = true
			r.warnf(path, "%s is not supported yet: it has no effect", name)
		}
		if !ok {
			known := strings.Split((mesh.RetryOn(1<<12) - 1).String(), ",")
			r.errorf(path, "unknown condition %q%s; known: status codes, %s", name, didYouMean(name, name, known), listed(known))
		}
	}
	return on, codes
}
