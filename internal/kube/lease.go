package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	leaseName      = "serin"
	leaseNamespace = metav1.NamespaceSystem

	// leaseTime is how long others wait since they last saw the Lease renewed.
	// A killed leader is followed within it and one retry.
	leaseTime = 10 * time.Second
	// actTime is how long a leader acts since it last renewed the Lease. What
	// is left to leaseTime is for writes that are under way by then.
	actTime = 7 * time.Second
	// leaseRetry leaves room for some renewals that fail.
	leaseRetry = time.Second
)

// ErrNotLeader refuses a write of a process that does not hold the Lease, or
// did not renew it in time, such as one that was stopped for a while.
var ErrNotLeader = errors.New("this process does not hold the lease (any more)")

// Lease is the right to act on an API of which several processes could take
// care: one of them has it at a time.
type Lease struct {
	elector *leaderelection.LeaderElector
	stop    context.CancelFunc
	ended   chan struct{}
}

// AwaitLease returns when this process has the Lease, or with the cause of ctx's
// end. Until then waiting is told who has it, each time that is another. The
// Lease is kept, whatever becomes of ctx, until Release.
func AwaitLease(ctx context.Context, config *rest.Config, waiting func(holder string)) (*Lease, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	machine, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("lease: name of this machine: %w", err)
	}
	// One of each process: a name that survived it could come to life twice.
	identity := fmt.Sprintf("%s/%d-%s", machine, os.Getpid(), rand.String(6))
	l := &Lease{ended: make(chan struct{})}
	got := make(chan struct{})
	l.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: leaseName, Namespace: leaseNamespace},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: leaseTime, RenewDeadline: actTime, RetryPeriod: leaseRetry,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(got) },
			OnStoppedLeading: func() {}, // ended tells
			OnNewLeader: func(holder string) {
				select {
				case <-got: // and lost
				default:
					if holder != identity {
						waiting(holder)
					}
				}
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go func() {
		defer close(l.ended)
		l.elector.Run(running)
	}()
	select {
	case <-got:
		return l, nil
	case <-ctx.Done():
		l.Release()
		return nil, context.Cause(ctx)
	}
}

// Lost is closed when the Lease is not this process's any more.
func (l *Lease) Lost() <-chan struct{} { return l.ended }

// Release gives the Lease back, so that another process has it at once. It must
// be called when nothing acts any more.
func (l *Lease) Release() {
	l.stop()
	<-l.ended
}

// held reports whether no other process can have the Lease now.
func (l *Lease) held() bool {
	return l.elector.IsLeader() && l.elector.Check(actTime-leaseTime) == nil
}

// Guard returns a configuration whose clients begin no write without the Lease.
func (l *Lease) Guard(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return guard{l.held, next} })
	return config
}

// guard stands before an API.
type guard struct {
	held func() bool
	next http.RoundTripper
}

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions || g.held() {
		return g.next.RoundTrip(r)
	}
	if r.Body != nil {
		// It was not read, and says nothing.
		_ = r.Body.Close()
	}
	return nil, ErrNotLeader
}
