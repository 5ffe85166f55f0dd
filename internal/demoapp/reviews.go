package demoapp

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The reviews and ratings services of Istio's Bookinfo sample: the same paths,
// ports and JSON, and the same differences between the versions of reviews.

func reviewsApp() app {
	a := app{
		name:   "reviews",
		port:   9080,
		calls:  map[string]string{"ratings": "http://ratings:9080"},
		routes: reviewsRoutes,
	}
	for _, v := range []string{"v1", "v2", "v3"} {
		a.images = append(a.images, Image{"examples-bookinfo-reviews-" + v, []string{"demoapp", "reviews", v}})
	}
	return a
}

// stars says what a version of reviews shows: v1 no ratings, v2 black stars,
// v3 red ones; and how long it waits for ratings.
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
	mux.Handle("GET /health", s.read(func(*http.Request) (record, error) {
		return record{"status": "reviews is healthy"}, nil
	}))
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
			answer, err := s.call(ctx, r, http.MethodGet, "ratings", "/ratings/"+id, nil)
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
		return record{"id": id, "podname": s.pod, "reviews": []record{first, second}}, nil
	}))
}

func ratingsApp() app {
	return app{
		name:   "ratings",
		port:   9080,
		images: []Image{{"examples-bookinfo-ratings-v1", []string{"demoapp", "ratings", "v1"}}},
		routes: func(s *service, mux *http.ServeMux) {
			mux.Handle("GET /health", s.read(func(*http.Request) (record, error) {
				return record{"status": "ratings is healthy"}, nil
			}))
			mux.Handle("GET /ratings/{id}", s.read(func(r *http.Request) (record, error) {
				id, err := productID(r)
				if err != nil {
					return nil, err
				}
				return record{"id": id, "ratings": record{"Reviewer1": 5, "Reviewer2": 4}}, nil
			}))
		},
	}
}

// productID is the request's product, a number.
func productID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if _, err := strconv.Atoi(id); err != nil {
		return "", fail(http.StatusBadRequest, "product %q: want a number", id)
	}
	return id, nil
}
