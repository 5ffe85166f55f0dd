package demoapp

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bookinfo is the whole sample in memory: its services call each other without
// a network, so that in a synctest bubble a timeout takes no time at all.
type bookinfo struct {
	services map[string]http.Handler
	// fault, when set, comes between caller and callee: it may wait, and the
	// request goes no further if it returns a status.
	fault func(callee string, r *http.Request) (status int)
	seen  map[string]http.Header // of the last request, by callee
}

func newBookinfo(t *testing.T, reviewsVersion string) *bookinfo {
	t.Helper()
	b := &bookinfo{services: map[string]http.Handler{}, seen: map[string]http.Header{}}
	for name, version := range map[string]string{"productpage": "v1", "details": "v1", "reviews": reviewsVersion, "ratings": "v1"} {
		a, err := find(name)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := readConfig(a, env("SERIN_VERSION="+version, "POD_NAME="+name+"-"+version+"-0"))
		if err != nil {
			t.Fatal(err)
		}
		b.services[name] = newHandler(a, cfg, b, slog.New(slog.DiscardHandler))
	}
	return b
}

func (b *bookinfo) RoundTrip(r *http.Request) (*http.Response, error) {
	callee := r.URL.Hostname()
	b.seen[callee] = r.Header
	w := httptest.NewRecorder()
	if status := b.faultAt(callee, r); status != 0 {
		http.Error(w, "fault filter abort", status)
	} else {
		b.services[callee].ServeHTTP(w, r)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func (b *bookinfo) faultAt(callee string, r *http.Request) int {
	if b.fault == nil {
		return 0
	}
	return b.fault(callee, r)
}

// do sends a request to the product page, with the form as its body.
func (b *bookinfo) do(method, path string, form url.Values, header http.Header, cookies ...*http.Cookie) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	for k, v := range header {
		r.Header[k] = v
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.services["productpage"].ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// looks is what a person sees of the reviews.
var looks = regexp.MustCompile(`class="stars [a-z]+"|[★☆]{5}|Error fetching product [a-z]+!|Sorry, product [a-z]+ are currently unavailable for this book\.|Ratings service is currently unavailable|Reviewer[12]`)

func TestPageShowsWhatTheServicesBehindItDoAndWhenTheyGiveUp(t *testing.T) {
	delayed := func(callee string, r *http.Request) int {
		if callee == "ratings" {
			select {
			case <-time.After(7 * time.Second):
			case <-r.Context().Done():
			}
		}
		return 0
	}
	broken := func(name string) func(string, *http.Request) int {
		return func(callee string, _ *http.Request) int {
			if callee == name {
				return http.StatusInternalServerError
			}
			return 0
		}
	}
	once := func() func(string, *http.Request) int {
		calls := 0
		return func(callee string, _ *http.Request) int {
			if callee == "reviews" {
				if calls++; calls == 1 {
					return http.StatusServiceUnavailable
				}
			}
			return 0
		}
	}
	const (
		plain    = "Reviewer1 Reviewer2"
		noRating = "Ratings service is currently unavailable Reviewer1 Ratings service is currently unavailable Reviewer2"
		noReview = "Error fetching product reviews! Sorry, product reviews are currently unavailable for this book."
		black    = `class="stars black" ★★★★★ Reviewer1 class="stars black" ★★★★☆ Reviewer2`
		red      = `class="stars red" ★★★★★ Reviewer1 class="stars red" ★★★★☆ Reviewer2`
	)
	for _, c := range []struct {
		name    string
		reviews string
		fault   func(string, *http.Request) int
		want    string
		takes   time.Duration
	}{
		{"v1 shows no ratings", "v1", nil, plain, 0},
		{"v2 shows black stars", "v2", nil, black, 0},
		{"v3 shows red stars", "v3", nil, red, 0},
		{"v1 does not need ratings", "v1", delayed, plain, 0},
		{"the page gives up before v2 does, twice", "v2", delayed, noReview, 6 * time.Second},
		{"v3 gives up before the page does", "v3", delayed, noRating, 2500 * time.Millisecond},
		{"broken ratings cost the stars only", "v2", broken("ratings"), noRating, 0},
		{"broken reviews", "v2", broken("reviews"), noReview, 0},
		{"the second try succeeds", "v3", once(), red, 0},
		{"broken details", "v1", broken("details"), "Error fetching product details! Sorry, product details are currently unavailable for this book. " + plain, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBookinfo(t, c.reviews)
				b.fault = c.fault
				begun := time.Now()
				resp := b.do("GET", "/productpage?u=normal", nil, nil)
				if resp.StatusCode != 200 {
					t.Errorf("status %d; want 200", resp.StatusCode)
				}
				if took := time.Since(begun); took != c.takes {
					t.Errorf("the page took %v; want %v", took, c.takes)
				}
				page := text(t, resp)
				if diff := cmp.Diff(c.want, strings.Join(looks.FindAllString(page, -1), " ")); diff != "" {
					t.Errorf("seen on the page (-want +got):\n%s", diff)
				}
				if strings.Contains(page, "ZgotmplZ") || !strings.Contains(page, "The Comedy of Errors") {
					t.Errorf("page is not whole:\n%s", page)
				}
			})
		})
	}
}

func TestSessionTellsTheServicesWhoItIs(t *testing.T) {
	b := newBookinfo(t, "v2")
	trace := http.Header{
		"X-Request-Id": {"r-1"},
		"Traceparent":  {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"B3":           {"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"},
	}
	// look returns whom the page greets and whom each service heard of.
	greeting := regexp.MustCompile(`<strong id="user">(.*?)</strong>`)
	look := func(header http.Header, cookies ...*http.Cookie) string {
		t.Helper()
		h := trace.Clone()
		for k, v := range header {
			h[k] = v
		}
		page := text(t, b.do("GET", "/productpage", nil, h, cookies...))
		out := "-"
		if m := greeting.FindStringSubmatch(page); m != nil {
			out = m[1]
		}
		for _, callee := range []string{"details", "reviews", "ratings"} {
			out += " " + strings.Join(b.seen[callee].Values(userHeader), ",")
			for name := range trace {
				if diff := cmp.Diff(trace[name], b.seen[callee].Values(name)); diff != "" {
					t.Errorf("%s of the call to %s (-want +got):\n%s", name, callee, diff)
				}
			}
		}
		return out
	}
	signIn := func(name string) []*http.Cookie {
		t.Helper()
		resp := b.do("POST", "/login", url.Values{"username": {name}, "passwd": {"x"}}, nil)
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/productpage" || len(resp.Cookies()) != 1 || !resp.Cookies()[0].HttpOnly {
			t.Fatalf("sign in as %q: %d %v; want a redirect to the page with one cookie that scripts cannot read", name, resp.StatusCode, resp.Header)
		}
		return resp.Cookies()
	}
	jason := signIn("jason")
	for _, c := range []struct {
		who     string
		header  http.Header
		cookies []*http.Cookie
		want    string
	}{
		{"nobody", nil, nil, "-   "},
		{"jason", nil, jason, "jason jason jason jason"},
		{"jason, whatever a header says", http.Header{userHeader: {"eve"}}, jason, "jason jason jason jason"},
		{"a header alone", http.Header{userHeader: {"eve"}}, nil, "- eve eve eve"},
		{"a name to quote", nil, signIn(" Zoë <3; "), "Zoë &lt;3; Zoë <3; Zoë <3; Zoë <3;"},
		{"a cookie of somebody else", nil, []*http.Cookie{{Name: userCookie, Value: "a%0Ab"}}, "-   "},
	} {
		if got := look(c.header, c.cookies...); got != c.want {
			t.Errorf("%s: page and services see %q; want %q", c.who, got, c.want)
		}
	}
	for _, method := range []string{"GET", "POST"} {
		resp := b.do(method, "/logout", nil, nil, jason...)
		if c := resp.Cookies(); resp.StatusCode != http.StatusSeeOther || len(c) != 1 || c[0].Name != userCookie || c[0].MaxAge >= 0 {
			t.Errorf("%s /logout: %d %v; want a redirect that takes the cookie away", method, resp.StatusCode, resp.Header)
		}
	}
	for _, name := range []string{"", "  ", "a\nb", strings.Repeat("x", maxUserName+1), "\xff"} {
		if resp := b.do("POST", "/login", url.Values{"username": {name}}, nil); resp.StatusCode != http.StatusBadRequest || len(resp.Cookies()) > 0 {
			t.Errorf("sign in as %q: %d %v; want 400 and no session", name, resp.StatusCode, resp.Header)
		}
	}
}

func TestProductsAreThereInJSON(t *testing.T) {
	b := newBookinfo(t, "v3")
	for _, c := range []struct {
		path string
		code int
		want string
	}{
		{"/", 302, ``},
		{"/health", 200, `{"status":"productpage is healthy","version":"v1"}`},
		{"/api/v1/products", 200, string(marshal(products()))},
		{"/api/v1/products/0", 200, `{"ISBN-10":"1234567890","ISBN-13":"123-1234567890","author":"William Shakespeare","id":0,"language":"English","pages":200,"publisher":"PublisherA","type":"paperback","version":"v1","year":1595}`},
		{"/api/v1/products/0/reviews", 200, `{"id":"0","podname":"reviews-v3-0","reviews":[` +
			`{"rating":{"color":"red","stars":5},"reviewer":"Reviewer1","text":"Twins, shipwreck, confusion: not one dull page."},` +
			`{"rating":{"color":"red","stars":4},"reviewer":"Reviewer2","text":"Funny, though one misses the grand speeches of the tragedies."}],"version":"v1"}`},
		{"/api/v1/products/0/ratings", 200, `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4},"version":"v1"}`},
		{"/api/v1/products/zero", 400, `{"error":"product \"zero\": want a number","version":"v1"}`},
		{"/api/v1/products/-1/ratings", 400, `{"error":"product \"-1\": want a number","version":"v1"}`},
	} {
		resp := b.do("GET", c.path, nil, nil)
		got := text(t, resp)
		if c.code == 302 {
			got = "" // the standard library's
		}
		if resp.StatusCode != c.code || strings.TrimSpace(got) != strings.TrimSpace(c.want) {
			t.Errorf("GET %s: %d %s\nwant %d %s", c.path, resp.StatusCode, got, c.code, c.want)
		}
	}
}

func TestRatingsCanBeSet(t *testing.T) {
	ratings := start(t, "ratings", http.DefaultTransport, io.Discard)
	for _, step := range []struct {
		do   string
		code int
		want string
	}{
		{`GET /ratings/0`, 200, `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4},"version":"v1"}`},
		{`PUT /ratings/0 {"Reviewer1":1}`, 200, `{"id":0,"ratings":{"Reviewer1":1},"version":"v1"}`},
		{`GET /ratings/0`, 200, `{"id":0,"ratings":{"Reviewer1":1},"version":"v1"}`},
		{`POST /ratings/7 {"Reviewer2":3}`, 201, `{"id":7,"ratings":{"Reviewer2":3},"version":"v1"}`},
		{`PUT /ratings/0 {"Reviewer1":6}`, 400, `{"error":"rating of \"Reviewer1\": want a whole number from 1 to 5","version":"v1"}`},
		{`PUT /ratings/0 {"Reviewer1":"5"}`, 400, `{"error":"rating of \"Reviewer1\": want a whole number from 1 to 5","version":"v1"}`},
		{`PUT /ratings/0 {"Reviewer1":2.5}`, 400, `{"error":"rating of \"Reviewer1\": want a whole number from 1 to 5","version":"v1"}`},
		{`PUT /ratings/x {}`, 400, `{"error":"product \"x\": want a number","version":"v1"}`},
		{`GET /ratings/0`, 200, `{"id":0,"ratings":{"Reviewer1":1},"version":"v1"}`},
	} {
		method, rest, _ := strings.Cut(step.do, " ")
		path, body, _ := strings.Cut(rest, " ")
		resp, got := do(t, method, ratings.URL+path, body, nil)
		if resp.StatusCode != step.code || got != step.want {
			t.Errorf("%s: %d %s\nwant %d %s", step.do, resp.StatusCode, got, step.code, step.want)
		}
	}
	for id := 1; id < maxRecords; id++ {
		do(t, "PUT", fmt.Sprintf("%s/ratings/%d", ratings.URL, id), `{}`, nil)
	}
	if resp, got := do(t, "PUT", ratings.URL+"/ratings/9999", `{}`, nil); resp.StatusCode != http.StatusConflict {
		t.Errorf("one product too many: %d %s; want 409", resp.StatusCode, got)
	}
	if resp, got := do(t, "PUT", ratings.URL+"/ratings/7", `{"Reviewer1":2}`, nil); resp.StatusCode != 200 {
		t.Errorf("a product that is rated: %d %s; want 200", resp.StatusCode, got)
	}
}

func TestVersionsOfReviewsDifferInTheirStars(t *testing.T) {
	ratings := start(t, "ratings", http.DefaultTransport, io.Discard)
	for version, want := range map[string]string{
		"v1":   ``,
		"v2":   `{"color":"black","stars":5} {"color":"black","stars":4}`,
		"v2.1": `{"color":"black","stars":5} {"color":"black","stars":4}`,
		"v3":   `{"color":"red","stars":5} {"color":"red","stars":4}`,
	} {
		reviews := start(t, "reviews", http.DefaultTransport, io.Discard, "SERIN_VERSION="+version, "RATINGS_URL="+ratings.URL)
		_, body := do(t, "GET", reviews.URL+"/reviews/0", "", nil)
		if got := starsOf(t, body); got != want {
			t.Errorf("reviews %s shows %q; want %q", version, got, want)
		}
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	defer gone.Close()
	reviews := start(t, "reviews", http.DefaultTransport, io.Discard, "SERIN_VERSION=v3", "RATINGS_URL="+gone.URL)
	resp, body := do(t, "GET", reviews.URL+"/reviews/0", "", nil)
	want := `{"error":"Ratings service is currently unavailable"} {"error":"Ratings service is currently unavailable"}`
	if got := starsOf(t, body); got != want || resp.StatusCode != 200 {
		t.Errorf("reviews without ratings: %d %q; want 200 %q", resp.StatusCode, got, want)
	}
}

func starsOf(t *testing.T, body string) string {
	t.Helper()
	var answer struct {
		Reviews []struct{ Rating json.RawMessage }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Reviews) != 2 {
		t.Fatalf("%v in %s; want two reviews", err, body)
	}
	return strings.TrimSpace(string(answer.Reviews[0].Rating) + " " + string(answer.Reviews[1].Rating))
}
