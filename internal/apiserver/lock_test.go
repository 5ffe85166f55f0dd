package apiserver

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A process that was killed a moment ago still has the lock until the kernel
// has cleared up after it; one that lives is not waited for.
func TestADyingHolderIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration // the holder lets go
		want  string        // in the error; "" = the lock is taken
	}{
		{1500 * time.Millisecond, ""},
		{lockPatience - 2*lockRetry, ""},
		{time.Minute, "is in use by process "},
	} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			holder, err := lockDir(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(tt.after, func() { holder.Close() })
			began := time.Now()
			f, err := lockDir(t.Context(), dir)
			took := time.Since(began)
			if err == nil {
				f.Close()
			}
			switch {
			case tt.want == "" && (err != nil || took < tt.after || took > tt.after+2*lockRetry):
				t.Errorf("let go after %v: %v after %v", tt.after, err, took)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || took != lockPatience):
				t.Errorf("let go after %v: %v after %v; want %q after %v", tt.after, err, took, tt.want, lockPatience)
			}
			holder.Close()
		})
	}
}
