package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"time"
)

// look is what a person sees of the reviews on Bookinfo's page.
type look string

const (
	noStars    look = "no stars"
	blackStars look = "black stars"
	redStars   look = "red stars"
	noRatings  look = "Ratings service is currently unavailable"
	noReviews  look = "Error fetching product reviews!"
)

// lookOf reads a page. What fits none of the above is shown by its status.
func lookOf(status int, page string) look {
	switch {
	case status != http.StatusOK || !strings.Contains(page, `id="reviews"`):
		return look(fmt.Sprintf("status %d without reviews", status))
	case strings.Contains(page, string(noReviews)):
		return noReviews
	case strings.Contains(page, string(noRatings)):
		return noRatings
	case strings.Contains(page, `class="stars black"`):
		return blackStars
	case strings.Contains(page, `class="stars red"`):
		return redStars
	default:
		return noStars
	}
}

// visitor is a person with a browser: it keeps cookies.
type visitor struct {
	gateway string
	client  *http.Client
}

// patience is how long a visitor waits for a page.
const patience = 15 * time.Second

func newVisitor(gateway string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic("cookiejar.New fails only for its options: " + err.Error())
	}
	// Not through a proxy of the environment: the gateway is on this machine.
	return &visitor{gateway, &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{}}}
}

// sight is one look at the page.
type sight struct {
	look look
	took time.Duration
}

func (v *visitor) look(ctx context.Context) (sight, error) {
	begun := time.Now()
	status, page, err := v.send(ctx, http.MethodGet, "/productpage", nil)
	if err != nil {
		return sight{}, err
	}
	return sight{lookOf(status, page), time.Since(begun)}, nil
}

func (v *visitor) signIn(ctx context.Context, user string) error {
	_, page, err := v.send(ctx, http.MethodPost, "/login", url.Values{"username": {user}, "passwd": {"any"}})
	if err == nil && !strings.Contains(page, `<strong id="user">`+user+`</strong>`) {
		err = errors.New("the page does not greet the user")
	}
	if err != nil {
		return fmt.Errorf("sign in as %s: %w", user, err)
	}
	return nil
}

func (v *visitor) signOut(ctx context.Context) error {
	_, page, err := v.send(ctx, http.MethodPost, "/logout", url.Values{})
	if err == nil && !strings.Contains(page, `name="username"`) {
		err = errors.New("the page does not offer to sign in")
	}
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

// send sends a request, with a form if there is one, and follows redirects.
func (v *visitor) send(ctx context.Context, method, path string, form url.Values) (status int, page string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, v.gateway+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// pay makes the visit. People keep their sessions from visit to visit.
func (v visit) pay(ctx context.Context, p *player, people map[string]*visitor) (visitFact, error) {
	fact := visitFact{User: v.user, SignedOut: v.signOut, Pages: v.pages, Seen: map[look]int{}, Want: v.wanted()}
	who := people[v.user]
	if who == nil {
		who = newVisitor(p.gateway)
		people[v.user] = who
		if v.user != "" {
			if err := who.signIn(ctx, v.user); err != nil {
				return fact, err
			}
		}
	}
	if v.signOut {
		if err := who.signOut(ctx); err != nil {
			return fact, err
		}
		delete(people, v.user)
	}
	took := make([]time.Duration, v.pages)
	for i := range took {
		s, err := who.look(ctx)
		if err != nil {
			return fact, err
		}
		fact.Seen[s.look]++
		took[i] = s.took
	}
	slices.Sort(took)
	fact.FastestSeconds, fact.MedianSeconds, fact.SlowestSeconds = millis(took[0]), millis(took[v.pages/2]), millis(took[v.pages-1])
	fact.OK = v.takes.from <= took[0] && took[v.pages-1] <= v.takes.to && v.expects(fact.Seen)
	return fact, nil
}

// expects reports whether the pages show what they must, and nothing else.
func (v visit) expects(seen map[look]int) bool {
	counted := 0
	for _, s := range v.want {
		n := seen[s.look]
		counted += n
		if 100*n < s.low*v.pages || 100*n > s.high*v.pages {
			return false
		}
	}
	return counted == v.pages
}

// wanted says what expects, in words.
func (v visit) wanted() string {
	var parts []string
	for _, s := range v.want {
		part := string(s.look)
		if s.low < 100 {
			part = fmt.Sprintf("%d to %d %% %s", s.low, s.high, s.look)
		}
		parts = append(parts, part)
	}
	return fmt.Sprintf("%s, in %v to %v", strings.Join(parts, ", "), v.takes.from, v.takes.to)
}

// millis are seconds with three digits.
func millis(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// exerciseFact is one exercise as it went.
type exerciseFact struct {
	Exercise     string      `json:"exercise"`
	Title        string      `json:"title"`
	Deleted      []string    `json:"deleted,omitempty"`
	Applied      []string    `json:"applied,omitempty"`
	EffectMillis int64       `json:"effectMillis"` // of the slowest change, from the command to the last proxy's ack
	Visits       []visitFact `json:"visits"`
	OK           bool        `json:"ok"`
}

// visitFact is what one person saw.
type visitFact struct {
	User           string       `json:"user"` // empty: nobody was signed in
	SignedOut      bool         `json:"signedOut,omitempty"`
	Pages          int          `json:"pages"`
	Seen           map[look]int `json:"seen"`
	Want           string       `json:"want"`
	FastestSeconds float64      `json:"fastestSeconds"`
	MedianSeconds  float64      `json:"medianSeconds"`
	SlowestSeconds float64      `json:"slowestSeconds"`
	OK             bool         `json:"ok"`
}

// String is a line such as "jason: 20 pages, 20 × black stars, 0.010 s each: ok".
func (f visitFact) String() string {
	who, pages := f.User, "pages"
	switch {
	case who == "":
		who = "nobody"
	case f.SignedOut:
		who += ", signed out"
	}
	if f.Pages == 1 {
		pages = "page"
	}
	var seen []string
	for l, n := range f.Seen {
		seen = append(seen, fmt.Sprintf("%d × %s", n, l))
	}
	slices.Sort(seen)
	verdict := "ok"
	if !f.OK {
		verdict = "NOT OK, want " + f.Want
	}
	took := fmt.Sprintf("%.3f s", f.MedianSeconds)
	if f.Pages > 1 {
		took += " each"
	}
	return fmt.Sprintf("%s: %d %s, %s, %s: %s", who, f.Pages, pages, strings.Join(seen, ", "), took, verdict)
}
