package xds

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"serin.dev/serin/internal/mesh"
)

// The filters of a listener for HTTP by their names, under which routes carry
// what they are to do.
const (
	filterRemember  = "envoy.filters.http.header_to_metadata"
	filterCORS      = "envoy.filters.http.cors"
	filterDeny      = "envoy.filters.http.rbac.deny"
	filterAllow     = "envoy.filters.http.rbac.allow"
	filterRateLimit = "envoy.filters.http.local_ratelimit"
	filterFault     = "envoy.filters.http.fault"
	filterOutside   = "envoy.filters.http.dynamic_forward_proxy"
	filterRouter    = "envoy.filters.http.router"
)

// encodeFilters says what the filters do to the requests of a route.
func encodeFilters(r *mesh.Route) (map[string]*anypb.Any, error) {
	messages := map[string]proto.Message{}
	if r.CORS != nil {
		messages[filterCORS] = encodeCORS(r.CORS)
	}
	if r.Fault != nil {
		messages[filterFault] = encodeFault(r.Fault)
	}
	if r.RateLimit != nil {
		messages[filterRateLimit] = &ratelimitv3.LocalRateLimit{
			StatPrefix: statPrefix, TokenBucket: encodeBucket(r.RateLimit),
			FilterEnabled: always100(), FilterEnforced: always100(),
		}
	}
	if len(messages) == 0 {
		return nil, nil
	}
	out := map[string]*anypb.Any{}
	for name, m := range messages {
		var err error
		if out[name], err = pack(m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func decodeFilters(in map[string]*anypb.Any, r *mesh.Route) error {
	for name, packed := range in {
		var err error
		switch name {
		case filterCORS:
			var m corsv3.CorsPolicy
			if err = unpack(packed, &m); err == nil {
				r.CORS, err = decodeCORS(&m)
			}
		case filterFault:
			var m faultv3.HTTPFault
			if err = unpack(packed, &m); err == nil {
				r.Fault, err = decodeFault(&m)
			}
		case filterRateLimit:
			var m ratelimitv3.LocalRateLimit
			if err = unpack(packed, &m); err == nil {
				b := m.GetTokenBucket()
				r.RateLimit = &mesh.RateLimit{
					Burst: b.GetMaxTokens(), Fill: b.GetTokensPerFill().GetValue(), Per: b.GetFillInterval().AsDuration(),
				}
			}
		default:
			err = fmt.Errorf("is none of ours")
		}
		if err != nil {
			return fmt.Errorf("filter %s: %w", name, err)
		}
	}
	return nil
}

// statPrefix is required by Envoy in many places; its statistics are not ours.
const statPrefix = "serin"

func always100() *corev3.RuntimeFractionalPercent {
	return &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 100}}
}

func encodeShare(s mesh.Share) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{Numerator: uint32(s), Denominator: typev3.FractionalPercent_MILLION}
}

func decodeShare(p *typev3.FractionalPercent) (mesh.Share, error) {
	if p.GetDenominator() != typev3.FractionalPercent_MILLION {
		return 0, fmt.Errorf("share is not in millionths")
	}
	return mesh.Share(p.GetNumerator()), nil
}

func encodeBucket(r *mesh.RateLimit) *typev3.TokenBucket {
	return &typev3.TokenBucket{
		MaxTokens: r.Burst, TokensPerFill: wrapperspb.UInt32(r.Fill), FillInterval: durationpb.New(r.Per),
	}
}

func encodeCORS(c *mesh.CORS) *corsv3.CorsPolicy {
	out := &corsv3.CorsPolicy{
		AllowMethods:     strings.Join(c.Methods, ","),
		AllowHeaders:     strings.Join(c.Headers, ","),
		ExposeHeaders:    strings.Join(c.Expose, ","),
		AllowCredentials: wrapperspb.Bool(c.Credentials),
	}
	if c.MaxAge > 0 {
		out.MaxAge = strconv.FormatInt(int64(c.MaxAge/time.Second), 10)
	}
	for _, o := range c.Origins {
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, encodeString(o))
	}
	return out
}

func decodeCORS(m *corsv3.CorsPolicy) (*mesh.CORS, error) {
	list := func(joined string) []string {
		if joined == "" {
			return nil
		}
		return strings.Split(joined, ",")
	}
	c := &mesh.CORS{
		Methods: list(m.GetAllowMethods()), Headers: list(m.GetAllowHeaders()), Expose: list(m.GetExposeHeaders()),
		Credentials: m.GetAllowCredentials().GetValue(),
	}
	if m.GetMaxAge() != "" {
		seconds, err := strconv.ParseUint(m.GetMaxAge(), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("max age %q is no number of seconds", m.GetMaxAge())
		}
		c.MaxAge = time.Duration(seconds) * time.Second
	}
	for _, o := range m.GetAllowOriginStringMatch() {
		origin, err := decodeString(o)
		if err != nil {
			return nil, err
		}
		c.Origins = append(c.Origins, origin)
	}
	return c, nil
}

func encodeFault(f *mesh.Fault) *faultv3.HTTPFault {
	out := &faultv3.HTTPFault{}
	if d := f.Delay; d != nil {
		out.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(d.Time)},
			Percentage:         encodeShare(d.Share),
		}
	}
	if a := f.Abort; a != nil {
		out.Abort = &faultv3.FaultAbort{Percentage: encodeShare(a.Share)}
		if a.Status != 0 {
			out.Abort.ErrorType = &faultv3.FaultAbort_HttpStatus{HttpStatus: uint32(a.Status)}
		} else {
			out.Abort.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: uint32(a.GRPC)}
		}
	}
	return out
}

func decodeFault(m *faultv3.HTTPFault) (*mesh.Fault, error) {
	out := &mesh.Fault{}
	if d := m.GetDelay(); d != nil {
		share, err := decodeShare(d.GetPercentage())
		if err != nil {
			return nil, err
		}
		out.Delay = &mesh.Delay{Share: share, Time: d.GetFixedDelay().AsDuration()}
	}
	if a := m.GetAbort(); a != nil {
		share, err := decodeShare(a.GetPercentage())
		if err != nil {
			return nil, err
		}
		out.Abort = &mesh.Abort{Share: share}
		switch e := a.GetErrorType().(type) {
		case *faultv3.FaultAbort_HttpStatus:
			out.Abort.Status = int(e.HttpStatus)
		case *faultv3.FaultAbort_GrpcStatus:
			out.Abort.GRPC = int(e.GrpcStatus)
		default:
			return nil, fmt.Errorf("abort %T is none of ours", e)
		}
	}
	return out, nil
}

// encodeHash makes hash policies of which the first that finds its key is the
// last that is asked.
func encodeHash(keys []mesh.HashKey) []*routev3.RouteAction_HashPolicy {
	var out []*routev3.RouteAction_HashPolicy
	for _, k := range keys {
		p := &routev3.RouteAction_HashPolicy{Terminal: true}
		switch k.Source {
		case mesh.HashHeader:
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_Header_{
				Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: k.Name},
			}
		case mesh.HashCookie:
			cookie := &routev3.RouteAction_HashPolicy_Cookie{Name: k.Name, Path: k.Path}
			if k.Make {
				cookie.Ttl = durationpb.New(k.TTL)
			}
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_Cookie_{Cookie: cookie}
		case mesh.HashSourceIP:
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_ConnectionProperties_{
				ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
			}
		case mesh.HashQuery:
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_QueryParameter_{
				QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: k.Name},
			}
		}
		out = append(out, p)
	}
	return out
}

func decodeHash(in []*routev3.RouteAction_HashPolicy) ([]mesh.HashKey, error) {
	var out []mesh.HashKey
	for _, p := range in {
		switch p := p.GetPolicySpecifier().(type) {
		case *routev3.RouteAction_HashPolicy_Header_:
			out = append(out, mesh.HashKey{Source: mesh.HashHeader, Name: p.Header.GetHeaderName()})
		case *routev3.RouteAction_HashPolicy_Cookie_:
			out = append(out, mesh.HashKey{
				Source: mesh.HashCookie, Name: p.Cookie.GetName(), Path: p.Cookie.GetPath(),
				Make: p.Cookie.GetTtl() != nil, TTL: p.Cookie.GetTtl().AsDuration(),
			})
		case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
			out = append(out, mesh.HashKey{Source: mesh.HashSourceIP})
		case *routev3.RouteAction_HashPolicy_QueryParameter_:
			out = append(out, mesh.HashKey{Source: mesh.HashQuery, Name: p.QueryParameter.GetName()})
		default:
			return nil, fmt.Errorf("hash policy %T is none of ours", p)
		}
	}
	return out, nil
}
