package controller

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/load"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/rollout"
)

// OwnLoad is how own load gets to the pods.
type OwnLoad struct {
	Proxy *url.URL      // an outbound listener of the mesh, for nothing else
	From  mesh.Workload // whose calls that listener carries: it tells own load from users' requests
}

const (
	// ownTimeout is how long own load waits for an answer.
	ownTimeout = 10 * time.Second

	// headerSynthetic tells an application, and what it calls, that no user
	// asked.
	headerSynthetic = "Serin-Synthetic"

	// ownAgent is what own load says it is.
	ownAgent = "serin/own-load"
)

// load reads judge.load.
func (r *specReader) load() rollout.Load {
	l := r.spec.Judge.Load
	if l == nil {
		return rollout.Load{}
	}
	if strings.EqualFold(r.spec.Service.AppProtocol, "grpc") {
		r.wrong("spec.judge.load", "sends plain HTTP, and spec.service.appProtocol is grpc: remove it, and let a load test of yours call the canary")
	}
	if r.spec.Judge.Skip {
		r.wrong("spec.judge.load", "nothing is judged with skip, so there is nothing for own load to show: remove one of the two")
	}
	for i, req := range l.Requests {
		at := fmt.Sprintf("spec.judge.load.requests[%d]", i)
		if strings.ContainsFunc(req.Path, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			r.wrong(at+".path", "%q cannot be sent: write it as in a URL, with %%20 for a space", req.Path)
		}
		spec := ownSpec(req, [2]string{"stable", "canary"}, http.Header{})
		if err := spec.Validate(); err != nil {
			r.wrong(at, "%v", err)
		}
		for name, value := range req.Headers {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
				r.wrong(at+".headers", "%q: %q is no header", name, value)
			}
		}
	}
	return rollout.Load{Rate: float64(max(1, l.Rate)), UpTo: l.UpTo}
}

// ownSpec is one request of own load, to hosts of stable and canary in turn by
// an even chance.
func ownSpec(req v1alpha1.LoadRequest, hosts [2]string, marks http.Header) load.Spec {
	path := req.Path
	if path == "" {
		path = "/"
	}
	spec := load.Spec{
		Method: req.Method, Header: http.Header{}, Body: []byte(req.Body),
		AtRandom: true, Timeout: ownTimeout, DisableRedirects: true,
	}
	for _, host := range hosts {
		spec.URLs = append(spec.URLs, "http://"+host+path)
	}
	for name, value := range req.Headers {
		spec.Header.Set(name, value)
	}
	for name, values := range marks {
		spec.Header[name] = values
	}
	return spec
}

// ownSpecs are the loads, one for each request, of a release whose run has had
// so many requests of own load. Together they keep to the rate and the limit.
func ownSpecs(rel *kube.Delivery, had int64, proxy *url.URL) []load.Spec {
	r := rel.Release
	l := r.Spec.Judge.Load
	requests := l.Requests
	if len(requests) == 0 {
		requests = []v1alpha1.LoadRequest{{}}
	}
	port := strconv.Itoa(int(r.Spec.Service.Port))
	host := func(service string) string {
		return net.JoinHostPort(service+"."+rel.Names.Namespace, port)
	}
	marks := http.Header{headerSynthetic: {r.Namespace + "/" + r.Name}, "User-Agent": {ownAgent}}
	left := l.UpTo - had
	var out []load.Spec
	for i, req := range requests {
		spec := ownSpec(req, [2]string{host(rel.Names.StableService), host(rel.Names.CanaryService)}, marks)
		spec.Rate = float64(max(1, l.Rate)) / float64(len(requests))
		spec.Proxy = http.ProxyURL(proxy)
		spec.Seed = rand.Uint64()
		if l.UpTo > 0 {
			from, to := left*int64(i)/int64(len(requests)), left*int64(i+1)/int64(len(requests))
			if spec.Count = int(min(to-from, math.MaxInt32)); spec.Count <= 0 {
				continue
			}
		}
		out = append(out, spec)
	}
	return out
}

// sendOwn sends own load as long as the stored state asks for it. Pods that are
// only just coming back, after a restart, are not asked.
func (d *Deliver) sendOwn(ctx context.Context, rel *kube.Delivery, run *delivery) {
	if !run.stored.State.Want().Load || rel.Release.Spec.Judge.Load == nil || !run.settled {
		run.own.stop()
		return
	}
	now := &run.journal.State
	run.own.start(ctx, measured{now.Run.Number, rel.Release.Generation}, func() []load.Spec {
		return ownSpecs(rel, now.Evidence.Own.Requests(), d.OwnLoad.Proxy)
	})
}

// ownLoad sends the own load of one release, beside the loop. What it does
// follows from the stored state alone: nothing of it has to survive.
type ownLoad struct {
	send func(context.Context, load.Spec, func(load.Result)) (load.Report, error) // load.Run
	of   measured                                                                 // what is being sent
	end  context.CancelFunc                                                       // nil: nothing is
	done chan struct{}                                                            // closed when all of it was sent
}

// start sends until stop, or until it is called for another run or spec;
// nothing is sent twice. What a limit on the number leaves to be sent, because
// not all that was sent was counted, is sent a look later: then all is counted
// that will be.
func (o *ownLoad) start(ctx context.Context, of measured, specs func() []load.Spec) {
	if o.end != nil && o.of == of {
		select {
		case <-o.done:
			o.stop()
		default:
		}
		return
	}
	o.stop()
	ctx, o.end = context.WithCancel(ctx)
	o.of, o.done = of, make(chan struct{})
	var under sync.WaitGroup
	for _, spec := range specs() {
		under.Go(func() {
			// An error would be a spec that Validate refuses, and the answers
			// are counted where they pass: at the proxy.
			_, _ = o.send(ctx, spec, nil)
		})
	}
	done := o.done
	go func() {
		under.Wait()
		close(done)
	}()
}

// stop breaks off what is under way.
func (o *ownLoad) stop() {
	if o.end != nil {
		o.end()
		o.end = nil
	}
}
