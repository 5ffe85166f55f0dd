package proxy

import (
	"cmp"
	"slices"
	"time"

	"serin.dev/serin/internal/mesh"
)

// retrying says what follows from the outcome of a try.
type retrying struct {
	again bool
	wait  time.Duration // before the next try
	flag  string        // URX when there would be another try if there were any left
}

// retry decides whether a request is sent once more, after so many retries.
// What the budget says, and whether the request can be sent again at all, is
// for the caller to ask.
func retry(p *mesh.Retry, retries uint32, o outcome, d *draws) retrying {
	switch {
	case p.Attempts == 0 || !wants(p, o):
		return retrying{}
	case retries >= p.Attempts:
		return retrying{flag: flagRetryLimit}
	}
	return retrying{again: true, wait: backOff(p, retries+1, d)}
}

// wants reports whether an outcome is one of those to retry, with Envoy's
// meaning of each condition.
func wants(p *mesh.Retry, o outcome) bool {
	on := func(conditions mesh.RetryOn) bool { return p.On&conditions != 0 }
	// Envoy sees a 5xx or a gateway error in whatever ends without an answer.
	const whatever = mesh.RetryReset | mesh.Retry5xx | mesh.RetryGatewayError
	switch o.kind {
	case connectFailed:
		return on(whatever|mesh.RetryConnectFailure) || !o.sent && on(mesh.RetryResetBeforeRequest)
	case refused:
		return on(whatever|mesh.RetryRefusedStream) || !o.sent && on(mesh.RetryResetBeforeRequest)
	case broken, timedOut:
		return on(whatever) || !o.sent && on(mesh.RetryResetBeforeRequest)
	case answered:
	}
	switch {
	case slices.Contains(p.Codes, o.status),
		o.status >= 500 && on(mesh.Retry5xx),
		o.status >= 502 && o.status <= 504 && on(mesh.RetryGatewayError),
		o.status == 409 && on(mesh.RetryRetriable4xx):
		return true
	}
	switch o.grpc {
	case 1:
		return on(mesh.RetryGRPCCancelled)
	case 4:
		return on(mesh.RetryGRPCDeadline)
	case 8:
		return on(mesh.RetryGRPCExhausted)
	case 13:
		return on(mesh.RetryGRPCInternal)
	case 14:
		return on(mesh.RetryGRPCUnavailable)
	}
	return false
}

// backOff draws the wait before the n-th retry (full jitter; Brooker, AWS
// Architecture Blog, 2015).
func backOff(p *mesh.Retry, n uint32, d *draws) time.Duration {
	base := cmp.Or(p.Base, mesh.DefaultRetryBase)
	most := cmp.Or(p.Max, 10*base)
	// Beyond 2^16 times the base every sensible Max is reached.
	most = min(most, base*(1<<min(n, 16)-1))
	return time.Duration(d.below(uint64(max(most, 1))))
}
