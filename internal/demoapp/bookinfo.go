package demoapp

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The services behind the product page of Istio's Bookinfo sample, details,
// reviews and ratings: the same paths, ports and JSON, the same differences
// between the versions of reviews and, above all, the same timeouts, which do
// not go together. The page itself is in productpage.go.

// bookinfoPort is where all of Bookinfo's services are called.
const bookinfoPort = 9080

// bookinfoImages are the sample's own images of an application. In these the
// version is part of the name, and the tag that of the sample.
func bookinfoImages(name string, versions ...string) []Image {
	var images []Image
	for _, v := range versions {
		images = append(images, Image{"examples-bookinfo-" + name + "-" + v, []string{"demoapp", name, v}})
	}
	return images
}

// bookinfoHealth is the address that Bookinfo's manifests and load tests ask.
func bookinfoHealth(s *service, mux *http.ServeMux, status string) {
	mux.Handle("GET /health", s.read(func(*http.Request) (record, error) {
		return record{"status": status}, nil
	}))
}

func detailsApp() app {
	return app{
		name:   "details",
		port:   bookinfoPort,
		images: bookinfoImages("details", "v1"),
		routes: func(s *service, mux *http.ServeMux) {
			bookinfoHealth(s, mux, "details is healthy")
			mux.Handle("GET /details/{id}", s.read(func(r *http.Request) (record, error) {
				id, err := productID(r)
				if err != nil {
					return nil, err
				}
				return record{
					"id": id, "author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200,
					"publisher": "PublisherA", "language": "English", "ISBN-10": "1234567890", "ISBN-13": "123-1234567890",
				}, nil
			}))
		},
	}
}

func reviewsApp() app {
	return app{
		name:   "reviews",
		port:   bookinfoPort,
		calls:  map[string]string{"ratings": "http://ratings:9080"},
		images: bookinfoImages("reviews", "v1", "v2", "v3"),
		routes: reviewsRoutes,
	}
}

// stars says what a version of reviews shows: v1 no ratings, v2 black stars,
// v3 red ones; and how long it waits for ratings. The wait of v2 is longer than
// the product page waits for it, which is the sample's mistake; v3 mends it.
func stars(version string) (color string, wait time.Duration) {
	switch {
	case strings.HasPrefix(version, "v2"):
		return "black", 10 * time.Second
	case strings.HasPrefix(version, "v3"):
		return "red", 2500 * time.Millisecond
	default:
		return "", 0
	}
}

func reviewsRoutes(s *service, mux *http.ServeMux) {
	bookinfoHealth(s, mux, "reviews is healthy")
	mux.Handle("GET /reviews/{id}", s.read(func(r *http.Request) (record, error) {
		id, err := productID(r)
		if err != nil {
			return nil, err
		}
		first := record{"reviewer": "Reviewer1", "text": "Twins, shipwreck, confusion: not one dull page."}
		second := record{"reviewer": "Reviewer2", "text": "Funny, though one misses the grand speeches of the tragedies."}
		if color, wait := stars(s.version); color != "" {
			ctx, cancel := context.WithTimeout(r.Context(), wait)
			defer cancel()
			answer, err := s.call(ctx, r, http.MethodGet, "ratings", "/ratings/"+strconv.Itoa(id), nil)
			if err != nil {
				s.log.Warn("answering without ratings", "error", err.Error())
			}
			given, _ := answer["ratings"].(map[string]any)
			for _, review := range []record{first, second} {
				if n, ok := given[review["reviewer"].(string)]; ok {
					review["rating"] = record{"stars": n, "color": color}
				} else {
					review["rating"] = record{"error": "Ratings service is currently unavailable"}
				}
			}
		}
		return record{"id": strconv.Itoa(id), "podname": s.pod, "reviews": []record{first, second}}, nil
	}))
}

func ratingsApp() app {
	return app{
		name:   "ratings",
		port:   bookinfoPort,
		images: bookinfoImages("ratings", "v1"),
		routes: func(s *service, mux *http.ServeMux) {
			var given ratings
			bookinfoHealth(s, mux, "ratings is healthy")
			mux.Handle("GET /ratings/{id}", s.read(func(r *http.Request) (record, error) {
				id, err := productID(r)
				if err != nil {
					return nil, err
				}
				return record{"id": id, "ratings": given.of(id)}, nil
			}))
			set := s.handle(func(r *http.Request) (record, error) {
				id, err := productID(r)
				if err != nil {
					return nil, err
				}
				body, err := decode(r)
				if err != nil {
					return nil, err
				}
				if err := given.set(id, body); err != nil {
					return nil, err
				}
				return record{"id": id, "ratings": given.of(id)}, nil
			})
			mux.Handle("PUT /ratings/{id}", set)
			mux.Handle("POST /ratings/{id}", set)
		},
	}
}

// ratings are the stars that reviewers gave to products, in memory: each pod
// has its own. The zero value holds the sample's.
type ratings struct {
	mu       sync.Mutex
	products map[int]record // stars by reviewer, never changed once they are in
}

func (g *ratings) of(id int) record {
	g.mu.Lock()
	defer g.mu.Unlock()
	if stars, ok := g.products[id]; ok {
		return stars
	}
	return record{"Reviewer1": 5, "Reviewer2": 4}
}

// set replaces all ratings of a product; stars is g's from then on.
func (g *ratings) set(id int, stars record) error {
	for reviewer, n := range stars {
		if n, ok := n.(float64); !ok || n != float64(int(n)) || n < 1 || n > 5 {
			return fail(http.StatusBadRequest, "rating of %q: want a whole number from 1 to 5", reviewer)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.products[id]; !known && len(g.products) >= maxRecords {
		return fail(http.StatusConflict, "%d products are rated, which is all there may be: rate one of them", maxRecords)
	}
	if g.products == nil {
		g.products = map[int]record{}
	}
	g.products[id] = stars
	return nil
}

// productID is the request's product.
func productID(r *http.Request) (int, error) {
	text := r.PathValue("id")
	id, err := strconv.Atoi(text)
	if err != nil || id < 0 {
		return 0, fail(http.StatusBadRequest, "product %q: want a number", text)
	}
	return id, nil
}
