package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// attempts and firstWait give a chat system that restarts 1 + 2 + 4
	// seconds to come back; an alert that comes later is no alert.
	attempts  = 4
	firstWait = time.Second

	// attemptLimit is how long one attempt may take, as in Flagger.
	attemptLimit = 5 * time.Second

	// longestWait bounds what a server that is asked too often can ask for.
	longestWait = 30 * time.Second

	// maxAnswer bounds what is read of an answer, and maxReason what of it an
	// error repeats.
	maxAnswer, maxReason = 64 << 10, 200

	// minSecret is the length from which on a part of an address counts as
	// secret; shorter ones are words such as api.
	minSecret = 6
)

// Severity says how much an alert matters. The zero value is Info.
type Severity int

// The severities, in ascending order.
const (
	Info  Severity = iota // something happens as planned
	Warn                  // somebody should look: a gate waits, a check warns
	Error                 // a release failed
)

// ParseSeverity reads info, warn or error; empty means info, as in Flagger.
func ParseSeverity(s string) (Severity, error) {
	switch s {
	case "", "info":
		return Info, nil
	case "warn":
		return Warn, nil
	case "error":
		return Error, nil
	default:
		return Info, fmt.Errorf("severity %q: write info, warn or error", s)
	}
}

func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warn:
		return "warn"
	case Error:
		return "error"
	}
	return "severity " + strconv.Itoa(int(s))
}

// Reaches reports whether who asked for alerts of at least that severity is told
// of s.
func (s Severity) Reaches(least Severity) bool { return s >= least }

// Alert is what there is to tell. Its texts are plain, without markup.
type Alert struct {
	Release, Namespace string
	Severity           Severity
	Title              string // one line: what happened
	Text               string // more lines, if there is more to say
	Fields             []Field
	Link               string // URL with more; empty for none
}

// Field is a named value of an alert, such as the evidence of a decision.
type Field struct{ Name, Value string }

// Config says whom to tell. It holds what Flagger's AlertProvider has, with
// what its Secret adds.
type Config struct {
	Type     string // slack, msteams, discord, rocket or gchat
	Address  string // of the webhook; secret
	Channel  string // "general" when empty; msteams and gchat have none
	Username string // "serin" when empty; msteams and gchat have none
	Proxy    string // HTTP proxy on the way; empty for that of the environment
	Token    string // of a Slack bot, for https://slack.com/api/chat.postMessage
}

// Sender tells one chat system. It is safe for concurrent use.
type Sender struct {
	config  Config
	payload func(Config, Alert) any
	address string
	host    string
	secrets []string
	client  *http.Client
}

// New checks a Config; it opens no connection.
func New(c Config) (*Sender, error) {
	all := payloads()
	payload, ok := all[c.Type]
	if !ok {
		return nil, fmt.Errorf("unknown alert provider %q: take one of slack, msteams, discord, rocket, gchat", c.Type)
	}
	u, err := url.Parse(c.Address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s: the address is no URL: write that of the webhook, which begins with https://", c.Type)
	}
	if c.Type == "discord" && !strings.HasSuffix(u.Path, "/slack") {
		u = u.JoinPath("slack") // where Discord takes messages in Slack's shape
	}
	if c.Channel == "" {
		c.Channel = "general"
	}
	if c.Username == "" {
		c.Username = "serin"
	}
	s := &Sender{
		config: c, payload: payload, address: u.String(), host: u.Host, secrets: secretsOf(u, c.Token),
		client: &http.Client{
			Timeout:       attemptLimit,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if c.Proxy != "" {
		proxy, err := url.Parse(c.Proxy)
		if err != nil || proxy.Host == "" {
			return nil, fmt.Errorf("%s: the proxy is no URL: write one such as http://proxy.example:3128", c.Type)
		}
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Proxy = http.ProxyURL(proxy)
		t.DisableKeepAlives = true // nobody closes a Sender
		s.client.Transport = t
	}
	return s, nil
}

// secretsOf lists what must not be shown: the parts of a webhook's path and
// query, and the token.
func secretsOf(u *url.URL, token string) []string {
	words := append(strings.Split(u.Path, "/"), strings.Fields(token)...)
	for _, values := range u.Query() {
		words = append(words, values...)
	}
	if password, ok := u.User.Password(); ok {
		words = append(words, password)
	}
	return slices.DeleteFunc(words, func(w string) bool { return len(w) < minSecret })
}

// Send sends an alert, again when nobody took it and there is hope, and returns
// when it was taken, when it never will be, or when ctx ends.
func (s *Sender) Send(ctx context.Context, a Alert) error {
	body, err := json.Marshal(s.payload(s.config, a))
	if err != nil {
		return fmt.Errorf("%s: %w", s.config.Type, err)
	}
	wait := firstWait
	for n := 1; ; n++ {
		hope, after, err := s.attempt(ctx, body)
		switch {
		case err == nil:
			return nil
		case !hope || n == attempts:
			return fmt.Errorf("%s at %s: %w", s.config.Type, s.host, err)
		}
		select {
		case <-time.After(max(wait, after)):
		case <-ctx.Done():
			return fmt.Errorf("%s at %s: %w; last: %w", s.config.Type, s.host, ctx.Err(), err)
		}
		wait *= 2
	}
}

// attempt sends a message once. Of a failure it says whether there is hope that
// it passes, and when to try again at the soonest.
func (s *Sender) attempt(ctx context.Context, body []byte) (hope bool, after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.address, bytes.NewReader(body))
	if err != nil {
		return false, 0, errors.New("the address is no URL")
	}
	req.Header.Set("Content-Type", "application/json")
	if s.config.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.config.Token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			if outer.Timeout() {
				return true, 0, errors.New("no answer in time")
			}
			err = outer.Err // the outer one shows the address
		}
		return true, 0, fmt.Errorf("%w: check the address and the proxy", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil && resp.StatusCode < 300 {
		err = nil // it was taken, whatever it would have said
	}
	switch code := resp.StatusCode; {
	case err != nil:
		return true, 0, fmt.Errorf("%s, and the answer broke off", resp.Status)
	case code < 200 || code > 299:
		text := resp.Status
		if r := s.reason(answer); r != "" {
			text += ": " + r
		}
		if code == http.StatusTooManyRequests || code >= 500 {
			return true, retryAfter(resp), errors.New(text)
		}
		return false, 0, fmt.Errorf("%s: check address, channel and token of the alert provider", text)
	}
	return false, 0, s.slackRefusal(answer)
}

// slackRefusal finds the refusal that Slack's API, unlike its webhooks, sends
// with status 200.
func (s *Sender) slackRefusal(answer []byte) error {
	var said struct {
		OK *bool
	}
	if s.config.Token == "" || json.Unmarshal(answer, &said) != nil || said.OK == nil || *said.OK {
		return nil
	}
	return fmt.Errorf("refused: %s: check channel and token of the alert provider", s.reason(answer))
}

// reason is the short reason that an answer gives, if it gives one without a
// secret.
func (s *Sender) reason(answer []byte) string {
	text := strings.TrimSpace(string(answer))
	if strings.HasPrefix(text, "{") {
		var said struct {
			Error   json.RawMessage
			Message string
		}
		if json.Unmarshal(answer, &said) != nil {
			return ""
		}
		var plain string
		var nested struct{ Message string }
		switch {
		case said.Message != "":
			text = said.Message
		case json.Unmarshal(said.Error, &plain) == nil:
			text = plain
		case json.Unmarshal(said.Error, &nested) == nil:
			text = nested.Message
		default:
			return ""
		}
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	secret := func(w string) bool { return strings.Contains(text, w) }
	if len(text) > maxReason || strings.HasPrefix(text, "<") || slices.ContainsFunc(s.secrets, secret) {
		return ""
	}
	return text
}

// retryAfter is what an answer asks for, if it says so in seconds.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.ParseFloat(resp.Header.Get("Retry-After"), 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, longestWait.Seconds()) * float64(time.Second))
}
