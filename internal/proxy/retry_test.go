package proxy

import (
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
)

// TestRetryConditionsMeanWhatEnvoysMean: for each outcome, the conditions under
// which it is tried again.
func TestRetryConditionsMeanWhatEnvoysMean(t *testing.T) {
	names := map[mesh.RetryOn]string{
		mesh.RetryConnectFailure: "connect-failure", mesh.RetryRefusedStream: "refused-stream", mesh.RetryReset: "reset",
		mesh.RetryResetBeforeRequest: "reset-before-request", mesh.Retry5xx: "5xx", mesh.RetryGatewayError: "gateway-error",
		mesh.RetryRetriable4xx: "retriable-4xx", mesh.RetryGRPCCancelled: "cancelled", mesh.RetryGRPCDeadline: "deadline-exceeded",
		mesh.RetryGRPCInternal: "internal", mesh.RetryGRPCExhausted: "resource-exhausted", mesh.RetryGRPCUnavailable: "unavailable",
	}
	const lost = mesh.RetryReset | mesh.Retry5xx | mesh.RetryGatewayError
	status := func(n int) outcome { return outcome{status: n, grpc: noGRPC, sent: true} }
	grpc := func(n int) outcome { return outcome{status: 200, grpc: n, sent: true} }
	for _, tt := range []struct {
		name string
		outcome
		on mesh.RetryOn
	}{
		{"200", status(200), 0},
		{"404", status(404), 0},
		{"409", status(409), mesh.RetryRetriable4xx},
		{"500", status(500), mesh.Retry5xx},
		{"501", status(501), mesh.Retry5xx},
		{"502", status(502), mesh.Retry5xx | mesh.RetryGatewayError},
		{"503", status(503), mesh.Retry5xx | mesh.RetryGatewayError},
		{"504", status(504), mesh.Retry5xx | mesh.RetryGatewayError},
		{"505", status(505), mesh.Retry5xx},
		{"gRPC ok", grpc(0), 0},
		{"gRPC cancelled", grpc(1), mesh.RetryGRPCCancelled},
		{"gRPC deadline exceeded", grpc(4), mesh.RetryGRPCDeadline},
		{"gRPC not found", grpc(5), 0},
		{"gRPC resource exhausted", grpc(8), mesh.RetryGRPCExhausted},
		{"gRPC internal", grpc(13), mesh.RetryGRPCInternal},
		{"gRPC unavailable", grpc(14), mesh.RetryGRPCUnavailable},
		{"not connected", outcome{kind: connectFailed}, lost | mesh.RetryConnectFailure | mesh.RetryResetBeforeRequest},
		{"refused", outcome{kind: refused}, lost | mesh.RetryRefusedStream | mesh.RetryResetBeforeRequest},
		{"refused after the head", outcome{kind: refused, sent: true}, lost | mesh.RetryRefusedStream},
		{"reset", outcome{kind: broken, sent: true}, lost},
		{"reset before the request", outcome{kind: broken}, lost | mesh.RetryResetBeforeRequest},
		{"timed out", outcome{kind: timedOut, sent: true}, lost},
	} {
		for on, name := range names {
			if got, want := retry(&mesh.Retry{Attempts: 1, On: on}, 0, tt.outcome, new(draws)).again, tt.on&on != 0; got != want {
				t.Errorf("%s with %s: again = %t, want %t", tt.name, name, got, want)
			}
		}
	}
	if !retry(&mesh.Retry{Attempts: 1, Codes: []int{404, 429}}, 0, status(429), new(draws)).again {
		t.Error("429 is not tried again although it is one of the codes")
	}
}

func TestRetriesEnd(t *testing.T) {
	bad := outcome{status: 503, grpc: noGRPC}
	for _, tt := range []struct {
		attempts, retries uint32
		outcome           outcome
		want              retrying
	}{
		{0, 0, bad, retrying{}},
		{2, 0, bad, retrying{again: true}},
		{2, 1, bad, retrying{again: true}},
		{2, 2, bad, retrying{flag: flagRetryLimit}},
		{2, 2, outcome{status: 200}, retrying{}},
	} {
		got := retry(&mesh.Retry{Attempts: tt.attempts, On: mesh.Retry5xx}, tt.retries, tt.outcome, new(draws))
		if got.wait = 0; got != tt.want {
			t.Errorf("after %d of %d retries, %+v: %+v, want %+v", tt.retries, tt.attempts, tt.outcome, got, tt.want)
		}
	}
}

// TestBackOffIsFullyJittered: uniform between nothing and the bound.
func TestBackOffIsFullyJittered(t *testing.T) {
	const ms, draw = time.Millisecond, 20_000
	for _, tt := range []struct {
		policy mesh.Retry
		n      uint32
		most   time.Duration
	}{
		{mesh.Retry{}, 1, 25 * ms},
		{mesh.Retry{}, 2, 75 * ms},
		{mesh.Retry{}, 3, 175 * ms},
		{mesh.Retry{}, 4, 250 * ms},
		{mesh.Retry{}, 1 << 31, 250 * ms},
		{mesh.Retry{Base: 10 * ms, Max: 40 * ms}, 1, 10 * ms},
		{mesh.Retry{Base: 10 * ms, Max: 40 * ms}, 2, 30 * ms},
		{mesh.Retry{Base: 10 * ms, Max: 40 * ms}, 3, 40 * ms},
		{mesh.Retry{Base: time.Hour, Max: 20 * time.Hour}, 9, 20 * time.Hour},
	} {
		var d draws
		var quarters [4]int
		for range draw {
			w := backOff(&tt.policy, tt.n, &d)
			if w < 0 || w >= tt.most {
				t.Fatalf("retry %d of %+v waits %v, want less than %v", tt.n, tt.policy, w, tt.most)
			}
			quarters[4*w/tt.most]++
		}
		for i, n := range quarters {
			if n < draw/4-300 || n > draw/4+300 {
				t.Errorf("retry %d of %+v: %d waits in quarter %d of %v, want %d ± 300", tt.n, tt.policy, n, i, tt.most, draw/4)
			}
		}
	}
}
