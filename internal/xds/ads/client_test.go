package ads

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestOfTwoProxiesWithOneIDBothWaitLongerAndLonger(t *testing.T) {
	lost, twin := errors.New("connection refused"), status.Error(codes.Aborted, "another proxy with the same id")
	const ms, s = time.Millisecond, time.Second
	type end struct {
		got  bool
		err  error
		wait time.Duration
		told bool
	}
	var p patience
	var got []end
	want := []end{
		{false, lost, 50 * ms, true}, {false, lost, 100 * ms, false}, {false, lost, 200 * ms, false},
		{true, lost, 50 * ms, true}, // it was back
		{true, twin, 5 * s, true}, {true, twin, 10 * s, false}, {true, twin, 20 * s, false}, {true, twin, 40 * s, false}, {true, twin, time.Minute, false}, {true, twin, time.Minute, false},
		{true, lost, 50 * ms, true},
		{true, twin, 5 * s, true},
	}
	for _, e := range want {
		wait, say := p.after(e.got, e.err)
		got = append(got, end{e.got, e.err, wait, say != ""})
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(end{}), cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
		t.Errorf("ends of streams (-want +got):\n%s", diff)
	}
}
