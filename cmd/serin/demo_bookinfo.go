package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"serin.dev/serin/internal/mesh"
)

// workshop is a row of exercises on the Bookinfo sample.
type workshop []exercise

// exercise changes routes and looks at the page as some people see it.
type exercise struct {
	name  string // as its folder's README numbers it
	title string
	// Manifests of the folder exercises: taken away first, then applied.
	remove, apply []string
	visits        []visit
}

// visit is somebody's look at the page, several times over.
type visit struct {
	user    string // empty: nobody is signed in
	signOut bool   // before the first look
	pages   int
	want    []share // of the pages; nothing else may be seen
	takes   span    // each page
}

// share is how many percent of the pages show something.
type share struct {
	look      look
	low, high int
}

// span is an interval of time, both ends included.
type span struct{ from, to time.Duration }

// atOnce is what a page takes when nothing is delayed: milliseconds. The limit
// is below all of Bookinfo's own timeouts and leaves room for a busy machine.
func atOnce() span { return span{0, 2 * time.Second} }

// about is what a page takes that waits for the end of a timeout.
func about(timeout time.Duration) span { return span{timeout, timeout + time.Second} }

// somePages show what holds for all; manyPages show a share.
const (
	somePages = 20
	manyPages = 400
)

func all(l look) []share { return []share{{l, 100, 100}} }

// halves and thirds leave almost five standard deviations of manyPages on each
// side.
func halves(a, b look) []share { return []share{{a, 38, 62}, {b, 38, 62}} }
func thirds() []share {
	return []share{{noStars, 22, 45}, {blackStars, 22, 45}, {redStars, 22, 45}}
}

// bookinfo plays the exercises in the order of examples/bookinfo/README.md.
func bookinfo() scenario {
	return scenario{
		name:  "bookinfo",
		title: "Istio's Bookinfo sample runs: a product page, details, three versions of reviews, ratings.",
		look:  "%s/productpage    in a browser",
		actor: workshop{
			{name: "0", title: "Without routes the versions take turns", visits: []visit{
				{pages: manyPages, want: thirds(), takes: atOnce()},
			}},
			{name: "1.1", title: "All requests for reviews go to version 1", apply: []string{"simple-routing.yaml"}, visits: []visit{
				{pages: somePages, want: all(noStars), takes: atOnce()},
			}},
			{name: "1.2", title: "Jason sees version 2, others version 1", apply: []string{"rule-based-routing.yaml"}, visits: []visit{
				{user: "jason", pages: somePages, want: all(blackStars), takes: atOnce()},
				{user: "maria", pages: somePages, want: all(noStars), takes: atOnce()},
				{pages: somePages, want: all(noStars), takes: atOnce()},
			}},
			{name: "1.3", title: "Without the rules the versions take turns again", remove: []string{"simple-routing.yaml", "rule-based-routing.yaml"}, visits: []visit{
				{user: "jason", pages: manyPages, want: thirds(), takes: atOnce()},
			}},
			{name: "2.1", title: "All requests for reviews go to version 1", apply: []string{"traffic-shifting-v1.yaml"}, visits: []visit{
				{pages: somePages, want: all(noStars), takes: atOnce()},
			}},
			{name: "2.2", title: "Half of them go to version 3", apply: []string{"traffic-shifting-50-v3.yaml"}, visits: []visit{
				{pages: manyPages, want: halves(noStars, redStars), takes: atOnce()},
			}},
			{name: "2.3", title: "All of them go to version 3", apply: []string{"traffic-shifting-v3.yaml"}, visits: []visit{
				{pages: somePages, want: all(redStars), takes: atOnce()},
			}},
			{name: "3.1", title: "Ratings answers jason seven seconds late: version 2 would wait, the page does not",
				remove: []string{"traffic-shifting-v3.yaml"},
				apply:  []string{"virtual-service-all-v1.yaml", "virtual-service-reviews-test-v2.yaml", "ratings-test-delay.yaml"},
				visits: []visit{
					{user: "jason", pages: 1, want: all(noReviews), takes: about(6 * time.Second)},
					{user: "maria", pages: somePages, want: all(noStars), takes: atOnce()},
				}},
			{name: "3.2", title: "Version 3 waits 2.5 s for ratings: the delay costs the stars only", apply: []string{"traffic-shifting-v3.yaml"}, visits: []visit{
				{user: "jason", pages: 1, want: all(noRatings), takes: about(2500 * time.Millisecond)},
				{user: "maria", pages: somePages, want: all(redStars), takes: atOnce()},
			}},
			{name: "3.3", title: "Ratings answers jason with errors: the page says so at once", apply: []string{"ratings-test-abort.yaml"}, visits: []visit{
				{user: "jason", pages: somePages, want: all(noRatings), takes: atOnce()},
				{user: "jason", signOut: true, pages: somePages, want: all(redStars), takes: atOnce()},
			}},
			{name: "3.4", title: "Without the rules the versions take turns again", remove: []string{"virtual-service-all-v1.yaml"}, visits: []visit{
				{user: "jason", pages: manyPages, want: thirds(), takes: atOnce()},
			}},
		},
	}
}

// ready returns when the page shows reviews of each version.
func (workshop) ready(ctx context.Context, p *player) error {
	missing := map[look]bool{noStars: true, blackStars: true, redStars: true}
	visitor := newVisitor(p.gateway)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(missing) > 0 {
		seen, err := visitor.look(ctx)
		if err == nil {
			delete(missing, seen.look)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("page: %w: no pages yet with %v: %w", context.Cause(ctx), slices.Sorted(maps.Keys(missing)), err)
		}
	}
	return nil
}

// play goes through all exercises, also when one fails.
func (w workshop) play(ctx context.Context, p *player, report *demoReport) error {
	people := map[string]*visitor{}
	var failed []string
	for _, e := range w {
		p.say("── %s  %s", e.name, e.title)
		fact, err := e.play(ctx, p, people)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("exercise %s: %w", e.name, err)
		}
		p.say("")
		report.Exercises = append(report.Exercises, fact)
		if !fact.OK {
			failed = append(failed, e.name)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d exercises did not show what they must: %s", len(failed), len(w), strings.Join(failed, ", "))
	}
	return nil
}

func (e exercise) play(ctx context.Context, p *player, people map[string]*visitor) (exerciseFact, error) {
	fact := exerciseFact{Exercise: e.name, Title: e.title, Deleted: e.remove, Applied: e.apply, OK: true}
	for _, step := range []struct {
		word  string
		files []string
		do    func(context.Context, *player, string) (time.Duration, error)
	}{{"delete", e.remove, takeAway}, {"apply", e.apply, bring}} {
		for _, file := range step.files {
			took, err := step.do(ctx, p, "exercises/"+file)
			if err != nil {
				return fact, err
			}
			fact.EffectMillis = max(fact.EffectMillis, took.Milliseconds())
			p.say("   %-6s %s: in effect after %d ms", step.word, file, took.Milliseconds())
		}
	}
	for _, v := range e.visits {
		seen, err := v.pay(ctx, p, people)
		if err != nil {
			return fact, err
		}
		p.say("   %s", seen)
		fact.Visits = append(fact.Visits, seen)
		fact.OK = fact.OK && seen.OK
	}
	return fact, nil
}

// effectTime is how long the proxies may take to run a change; they need
// milliseconds.
const effectTime = 10 * time.Second

// bring applies a file of VirtualServices and returns when the proxies run
// them, and how long that took.
func bring(ctx context.Context, p *player, file string) (time.Duration, error) {
	begun := time.Now()
	applied, err := p.do(ctx, file, applyObject)
	if err != nil {
		return 0, err
	}
	for _, obj := range applied {
		err := p.awaitEffect(ctx, obj, func(generation int64) bool { return generation >= obj.GetGeneration() })
		if err != nil {
			return 0, err
		}
	}
	took := time.Since(begun)
	// What anyone reads from the API now must be what was asked for.
	read, err := p.do(ctx, file, func(ctx context.Context, client objectClient, want *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		got, err := getObject(ctx, client, want)
		if err != nil {
			return nil, err
		}
		return got, sameSpec(want, got)
	})
	if err == nil && len(read) != len(applied) {
		err = errors.New("not all objects could be read back")
	}
	return took, err
}

// takeAway deletes a file's VirtualServices and returns when no proxy runs
// them any more, and how long that took.
func takeAway(ctx context.Context, p *player, file string) (time.Duration, error) {
	begun := time.Now()
	deleted, err := p.do(ctx, file, deleteObject)
	if err != nil {
		return 0, err
	}
	for _, obj := range deleted {
		if err := p.awaitEffect(ctx, obj, func(generation int64) bool { return generation == 0 }); err != nil {
			return 0, err
		}
	}
	return time.Since(begun), nil
}

// awaitEffect returns when the proxies run the object in a generation that is
// done; 0 means none.
func (p *player) awaitEffect(ctx context.Context, obj *unstructured.Unstructured, done func(generation int64) bool) error {
	origin := mesh.Origin{Kind: obj.GetKind(), Namespace: obj.GetNamespace(), Name: obj.GetName()}
	tooLong := time.After(effectTime)
	for {
		if done(p.acks.Route(origin).Generation) {
			return nil
		}
		select {
		case <-p.acked:
		case <-tooLong:
			return fmt.Errorf("%s %s: the proxies do not run the change after %v: see its events", origin.Kind, origin.Name, effectTime)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func sameSpec(want, got *unstructured.Unstructured) error {
	var text [2]string
	for i, obj := range []*unstructured.Unstructured{want, got} {
		data, err := json.Marshal(obj.Object["spec"])
		if err != nil {
			return err
		}
		text[i] = string(data)
	}
	if text[0] != text[1] {
		return fmt.Errorf("reads %s, applied was %s", text[1], text[0])
	}
	return nil
}
