package main

import (
	"io/fs"
	"testing"
	"time"

	"serin.dev/serin/examples"
)

func TestScenariosPlayManifestsThatExist(t *testing.T) {
	for _, s := range scenarios() {
		var files []string
		switch actor := s.actor.(type) {
		case story:
			for _, c := range actor.chapters {
				files = append(files, "versions/"+c.manifest)
			}
		case workshop:
			for _, e := range actor {
				for _, file := range append(e.remove, e.apply...) {
					files = append(files, "exercises/"+file)
				}
			}
		default:
			t.Fatalf("%s: actor %T is not looked into here", s.name, actor)
		}
		for _, file := range append(files, "README.md") {
			if _, err := fs.Stat(examples.Files, s.name+"/"+file); err != nil {
				t.Errorf("scenario %s: %v", s.name, err)
			}
		}
	}
}

func TestLookAtThePage(t *testing.T) {
	const reviews = `<section id="reviews">`
	for _, c := range []struct {
		status int
		page   string
		want   look
	}{
		{200, reviews + `<p>Not one dull page.</p>`, noStars},
		{200, reviews + `<div class="stars black">★★★★★</div>`, blackStars},
		{200, reviews + `<div class="stars red">★★★★★</div>`, redStars},
		{200, reviews + `<p class="error">Ratings service is currently unavailable</p>`, noRatings},
		{200, reviews + `<strong>Error fetching product reviews!</strong>`, noReviews},
		{200, `no page at all`, "status 200 without reviews"},
		{503, reviews + `<div class="stars red">★★★★★</div>`, "status 503 without reviews"},
	} {
		if got := lookOf(c.status, c.page); got != c.want {
			t.Errorf("lookOf(%d, %s) = %q; want %q", c.status, c.page, got, c.want)
		}
	}
}

func TestVisitExpectsItsSharesAndNothingElse(t *testing.T) {
	half := visit{pages: 400, want: halves(noStars, redStars), takes: atOnce()}
	for _, c := range []struct {
		v    visit
		seen map[look]int
		want bool
	}{
		{half, map[look]int{noStars: 200, redStars: 200}, true},
		{half, map[look]int{noStars: 248, redStars: 152}, true},
		{half, map[look]int{noStars: 249, redStars: 151}, false},
		{half, map[look]int{noStars: 200, redStars: 199, blackStars: 1}, false},
		{half, map[look]int{redStars: 400}, false},
		{visit{pages: 20, want: all(redStars)}, map[look]int{redStars: 20}, true},
		{visit{pages: 20, want: all(redStars)}, map[look]int{redStars: 19, noStars: 1}, false},
		{visit{pages: 20, want: all(redStars)}, nil, false},
	} {
		if got := c.v.expects(c.seen); got != c.want {
			t.Errorf("%s: pages that show %v: %v; want %v", c.v.wanted(), c.seen, got, c.want)
		}
	}
	if got, want := half.wanted(), "38 to 62 % no stars, 38 to 62 % red stars, in 0s to 2s"; got != want {
		t.Errorf("wanted() = %q; want %q", got, want)
	}
	if s := about(6 * time.Second); s.from != 6*time.Second || s.to != 7*time.Second {
		t.Errorf("about(6s) = %v; want 6s to 7s", s)
	}
}
