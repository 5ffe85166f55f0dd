package demoapp

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The page of Bookinfo that people open: a book, its details and its reviews,
// with a form to sign in. Who signs in is known to the services behind the page
// by the header end-user, so that routes can be made for single users.

// pageTimeout bounds one call for the page. Together with the second try for
// reviews it makes six seconds, which is less than reviews v2 waits for ratings.
const pageTimeout = 3 * time.Second

const (
	userCookie  = "user" // of the session; its value is the name, query-escaped
	userHeader  = "End-User"
	maxUserName = 40 // characters
)

func productpageApp() app {
	return app{
		name: "productpage",
		port: bookinfoPort,
		calls: map[string]string{
			"details": "http://details:9080",
			"reviews": "http://reviews:9080",
			"ratings": "http://ratings:9080",
		},
		images: bookinfoImages("productpage", "v1"),
		routes: productpageRoutes,
	}
}

//go:embed productpage.html
var productpageHTML string

// product is what the page itself knows of a book.
type product struct {
	ID          int    `json:"id"`
	Title       string `json:"title"`
	Description string `json:"descriptionHtml"`
}

func products() []product {
	return []product{{
		ID:    0,
		Title: "The Comedy of Errors",
		Description: "Two pairs of twins, parted as babies in a shipwreck, meet in one town without knowing it, " +
			"and for a day nobody is who he is taken for. It is Shakespeare’s shortest play.",
	}}
}

func productpageRoutes(s *service, mux *http.ServeMux) {
	p := &productpage{service: s, html: template.Must(template.New("productpage").Parse(productpageHTML))}
	handle := func(pattern string, h http.Handler) { mux.Handle(pattern, identify(h)) }

	bookinfoHealth(s, mux, "productpage is healthy")
	mux.Handle("GET /{$}", http.RedirectHandler("/productpage", http.StatusFound))
	handle("GET /productpage", http.HandlerFunc(p.page))
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("/logout", p.logout)
	mux.HandleFunc("GET /api/v1/products", func(w http.ResponseWriter, r *http.Request) {
		if err := s.luck(r); err != nil {
			s.refuse(w, r, err)
			return
		}
		s.write(w, http.StatusOK, "application/json", marshal(products()))
	})
	for pattern, ask := range map[string]func(*http.Request, int) (record, error){
		"GET /api/v1/products/{id}":         p.details,
		"GET /api/v1/products/{id}/reviews": p.reviews,
		"GET /api/v1/products/{id}/ratings": p.ratings,
	} {
		handle(pattern, s.read(func(r *http.Request) (record, error) {
			id, err := productID(r)
			if err != nil {
				return nil, err
			}
			return ask(r, id)
		}))
	}
}

// productpage is the service with its page.
type productpage struct {
	*service
	html *template.Template
}

func (p *productpage) details(r *http.Request, id int) (record, error) {
	return p.ask(r, "details", id)
}

// reviews asks twice: the sample's way of coping with a slow service.
func (p *productpage) reviews(r *http.Request, id int) (record, error) {
	answer, err := p.ask(r, "reviews", id)
	if err != nil && r.Context().Err() == nil {
		p.log.Warn("asking for reviews again", "error", err.Error())
		answer, err = p.ask(r, "reviews", id)
	}
	return answer, err
}

func (p *productpage) ratings(r *http.Request, id int) (record, error) {
	return p.ask(r, "ratings", id)
}

// ask calls a service that answers for products under its own name.
func (p *productpage) ask(r *http.Request, upstream string, id int) (record, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	return p.call(ctx, r, http.MethodGet, upstream, "/"+upstream+"/"+strconv.Itoa(id), nil)
}

// pageView is what the page shows.
type pageView struct {
	User         string // empty: nobody is signed in
	MaxUser      int
	Product      product
	Details      *bookDetails // nil: could not be had
	Reviews      *bookReviews // nil: could not be had
	Version, Pod string       // that made the page
}

type bookDetails struct {
	Author, Type, Publisher, Language string
	Year, Pages                       int
	ISBN10                            string `json:"ISBN-10"`
	ISBN13                            string `json:"ISBN-13"`
}

type bookReviews struct {
	PodName string
	Reviews []struct {
		Reviewer, Text string
		Rating         *bookRating // nil: this version shows none
	}
}

type bookRating struct {
	Stars int
	Color string
	Error string
}

// Given and Missing are the stars to draw.
func (r *bookRating) Given() string   { return strings.Repeat("★", min(max(r.Stars, 0), 5)) }
func (r *bookRating) Missing() string { return strings.Repeat("☆", 5-min(max(r.Stars, 0), 5)) }

// page shows the book. What cannot be had is said on the page, which is there
// all the same.
func (p *productpage) page(w http.ResponseWriter, r *http.Request) {
	if err := p.luck(r); err != nil {
		p.refuse(w, r, err)
		return
	}
	v := pageView{User: signedIn(r), MaxUser: maxUserName, Product: products()[0], Version: p.version, Pod: p.pod}
	show(p, r, v.Product, "details", p.details, &v.Details)
	show(p, r, v.Product, "reviews", p.reviews, &v.Reviews)
	var page bytes.Buffer
	if err := p.html.Execute(&page, v); err != nil {
		p.refuse(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store") // the next look may be another version's
	p.write(w, http.StatusOK, "text/html; charset=utf-8", page.Bytes())
}

// show asks for a part of a product's page and leaves it nil if it cannot be had.
func show[T any](p *productpage, r *http.Request, of product, part string, ask func(*http.Request, int) (record, error), into **T) {
	answer, err := ask(r, of.ID)
	if err == nil {
		var t T
		if err = json.Unmarshal(marshal(answer), &t); err == nil {
			*into = &t
			return
		}
	}
	p.log.Error("page without "+part, "request_id", r.Header.Get("X-Request-Id"), "error", err.Error())
}

// login begins a session. Any password will do: the name says who wants to be
// shown what, and protects nothing.
func (p *productpage) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		p.refuse(w, r, fail(http.StatusBadRequest, "sign in: %w", err))
		return
	}
	name := strings.TrimSpace(r.PostForm.Get("username"))
	if !validUser(name) {
		p.refuse(w, r, fail(http.StatusBadRequest, "sign in: username: want 1 to %d printable characters", maxUserName))
		return
	}
	setUser(w, &http.Cookie{Value: url.QueryEscape(name)})
	http.Redirect(w, r, "/productpage", http.StatusSeeOther)
}

// logout ends the session, also by a plain link as in the sample.
func (p *productpage) logout(w http.ResponseWriter, r *http.Request) {
	setUser(w, &http.Cookie{MaxAge: -1})
	http.Redirect(w, r, "/productpage", http.StatusSeeOther)
}

func setUser(w http.ResponseWriter, c *http.Cookie) {
	c.Name, c.Path, c.HttpOnly, c.SameSite = userCookie, "/", true, http.SameSiteLaxMode
	http.SetCookie(w, c)
}

// signedIn returns the session's user, or "".
func signedIn(r *http.Request) string {
	c, err := r.Cookie(userCookie)
	if err != nil {
		return ""
	}
	name, err := url.QueryUnescape(c.Value)
	if err != nil || !validUser(name) {
		return ""
	}
	return name
}

// validUser tells what can be carried in a header and shown.
func validUser(name string) bool {
	n := utf8.RuneCountInString(name)
	return n >= 1 && n <= maxUserName && utf8.ValidString(name) && strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// identify tells the services behind the page who is signed in. Without a
// session the caller's own header goes on, as for every application here.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user := signedIn(r); user != "" {
			r = r.Clone(r.Context())
			r.Header.Set(userHeader, user)
		}
		next.ServeHTTP(w, r)
	})
}
