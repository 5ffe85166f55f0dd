package controller

import (
	"context"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/load"
)

func ownDelivery(l v1alpha1.Load) *kube.Delivery {
	r := &v1alpha1.Release{}
	r.Namespace, r.Name = "shop", "cart"
	r.Spec.Service.Port = 8080
	r.Spec.Judge.Load = &l
	rel := &kube.Delivery{Release: r}
	rel.Names.Namespace, rel.Names.StableService, rel.Names.CanaryService = "shop", "cart-stable", "cart-canary"
	return rel
}

func TestOwnLoadAsksBothVersionsByAnEvenChance(t *testing.T) {
	l := v1alpha1.Load{Rate: 30, UpTo: 100, Requests: []v1alpha1.LoadRequest{
		{Path: "/items?page=1", Headers: map[string]string{"x-user": "robot", "serin-synthetic": "no"}},
		{Method: "POST", Path: "/search", Body: "{}"},
		{},
	}}
	specs := ownSpecs(ownDelivery(l), 30, &url.URL{Scheme: "http", Host: "127.0.0.1:1"})
	var got []string
	count := 0
	for _, s := range specs {
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
		if !s.AtRandom || s.Rate != 10 || s.Proxy == nil || s.Header.Get("serin-synthetic") != "shop/cart" {
			t.Errorf("%+v; want a third of the rate, at random, through the mesh, marked", s)
		}
		count += s.Count
		got = append(got, s.Method+" "+strings.Join(s.URLs, " ")+" "+s.Header.Get("x-user")+string(s.Body))
	}
	want := []string{
		" http://cart-stable.shop:8080/items?page=1 http://cart-canary.shop:8080/items?page=1 robot",
		"POST http://cart-stable.shop:8080/search http://cart-canary.shop:8080/search {}",
		" http://cart-stable.shop:8080/ http://cart-canary.shop:8080/ ",
	}
	if diff := cmp.Diff(want, got); diff != "" || count != 70 {
		t.Errorf("%d requests, want the 70 that are left (-want +got):\n%s", count, diff)
	}
	if none := ownSpecs(ownDelivery(l), 100, nil); len(none) != 0 {
		t.Errorf("%d loads when the limit is reached; want none", len(none))
	}
	if one := ownSpecs(ownDelivery(v1alpha1.Load{Rate: 5}), 7, nil); len(one) != 1 || one[0].Count != 0 || one[0].Rate != 5 {
		t.Errorf("%+v; want GET / without a limit", one)
	}
}

func TestOwnLoadRunsWhileItIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, begun atomic.Int32
		finish := make(chan struct{})
		o := ownLoad{send: func(ctx context.Context, _ load.Spec, _ func(load.Result)) (load.Report, error) {
			running.Add(1)
			begun.Add(1)
			defer running.Add(-1)
			select {
			case <-ctx.Done():
			case <-finish:
			}
			return load.Report{}, nil
		}}
		want := func(what string, nowRunning, everBegun int32) {
			t.Helper()
			synctest.Wait()
			if running.Load() != nowRunning || begun.Load() != everBegun {
				t.Errorf("%s: %d of %d loads run; want %d of %d", what, running.Load(), begun.Load(), nowRunning, everBegun)
			}
		}
		specs := func() []load.Spec { return []load.Spec{{}} }
		run7 := measured{run: 7, generation: 1}
		o.start(t.Context(), run7, specs)
		o.start(t.Context(), run7, specs)
		want("asked for twice", 1, 1)
		o.start(t.Context(), measured{run: 7, generation: 2}, specs)
		want("after a change of the spec", 1, 2)
		close(finish)
		want("all is sent", 0, 2)
		o.start(t.Context(), measured{run: 7, generation: 2}, specs)
		want("at the look after that", 0, 2)
		finish = make(chan struct{})
		o.start(t.Context(), measured{run: 7, generation: 2}, specs)
		want("when it still lacks evidence", 1, 3)
		o.stop()
		o.stop()
		want("stopped", 0, 3)
	})
}

func TestOwnLoadThatCannotBeSentIsRefused(t *testing.T) {
	f := func(fields, want string) {
		t.Helper()
		err := Check(&v1alpha1.Release{Spec: *spec(t, strings.Replace(goodSpec, "failureLimit: 1", "failureLimit: 1, "+fields, 1))})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("with %s: error = %v, want %q", fields, err, want)
		}
	}
	f("load: {}", "")
	f("load: {requests: [{method: 'G E T'}]}", "spec.judge.load.requests[0]: ")
	f("load: {requests: [{path: '/%zz'}]}", "spec.judge.load.requests[0]: ")
	f("load: {requests: [{method: 'G(T'}]}", "spec.judge.load.requests[0]: ")
	f("load: {requests: [{path: '/a b'}]}", `spec.judge.load.requests[0].path: "/a b" cannot be sent`)
	f("load: {rate: 10}, skip: true", "spec.judge.load: nothing is judged with skip")
	f("load: {requests: [{}, {headers: {'x y': a}}]}", `spec.judge.load.requests[1].headers: "x y"`)
	f("load: {upTo: -1}", "spec.judge.load.upTo: -1 is negative")
	grpc := spec(t, strings.Replace(goodSpec, "failureLimit: 1", "failureLimit: 1, load: {}", 1))
	grpc.Service.AppProtocol = "grpc"
	if _, err := planOf(grpc); err == nil || !strings.Contains(err.Error(), "spec.judge.load: sends plain HTTP") {
		t.Errorf("of grpc: %v", err)
	}
}
