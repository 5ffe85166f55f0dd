package metric

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxAnswer bounds what is read of an answer. One number with its names
	// takes a few hundred bytes; a query that gives megabytes is no check.
	maxAnswer = 4 << 20

	// maxDetail is how much of a provider's own words an error repeats.
	maxDetail = 300

	// minSecret is the length from which on a credential is looked for in
	// errors. Shorter ones would strike out parts of ordinary words.
	minSecret = 4

	ellipsis = "…"
)

// asker speaks HTTP with one provider.
type asker struct {
	provider string
	base     *url.URL
	header   http.Header
	client   *http.Client
	secrets  []string // longest first
}

// newAsker reads what all providers have in common. The address of Config wins
// over the provider's own, which may be empty.
func newAsker(c Config, own string) (*asker, error) {
	address := c.Address
	if address == "" {
		address = own
	}
	if address == "" {
		return nil, errors.New("no address: set it to the URL of the API, such as http://metrics.example:9090")
	}
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("the address is no URL: write one that begins with http:// or https://")
	}
	a := &asker{
		provider: c.Type,
		base:     base,
		header:   c.Headers.Clone(),
		client:   &http.Client{CheckRedirect: sameHost},
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	if c.InsecureSkipVerify {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		t.DisableKeepAlives = true // nobody closes a Provider
		a.client.Transport = t
	}
	for _, v := range c.Credentials {
		a.hide(strings.TrimSpace(string(v)))
	}
	for _, values := range c.Headers {
		for _, v := range values {
			a.hide(strings.Fields(v)...)
		}
	}
	if password, ok := base.User.Password(); ok {
		a.hide(password, basic(base.User.Username(), password))
	}
	for _, values := range base.Query() {
		a.hide(values...)
	}
	return a, nil
}

// hide keeps words out of errors.
func (a *asker) hide(words ...string) {
	for _, w := range words {
		if len(w) >= minSecret {
			a.secrets = append(a.secrets, w)
		}
	}
	slices.SortFunc(a.secrets, func(x, y string) int { return len(y) - len(x) })
}

// sameHost follows redirects only where credentials may go: headers of a
// provider's own, such as DD-API-KEY, would be sent along to any host.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) >= 5:
		return redirect("redirects without end: correct the address")
	case first.Scheme == "https" && req.URL.Scheme != "https":
		return redirect("redirects from https to http: correct the address")
	case req.URL.Host != first.Host && !upgrades(first, req.URL):
		return redirect("redirects to another host, " + req.URL.Host + ": make that the address, if it is right")
	}
	return nil
}

// upgrades reports whether a redirect goes from HTTP to HTTPS on the usual
// ports of one host.
func upgrades(from, to *url.URL) bool {
	return from.Scheme == "http" && to.Scheme == "https" && from.Hostname() == to.Hostname() &&
		(from.Port() == "" || from.Port() == "80") && (to.Port() == "" || to.Port() == "443")
}

// redirect says why a redirect is not followed.
type redirect string

func (r redirect) Error() string { return string(r) }

// url is a place below the address, whose own query is kept.
func (a *asker) url(path string, query url.Values) string {
	u := a.base.JoinPath(path)
	all := u.Query()
	maps.Copy(all, query)
	u.RawQuery = all.Encode()
	return u.String()
}

// place is the address without what may be secret in it.
func (a *asker) place() string {
	return (&url.URL{Scheme: a.base.Scheme, Host: a.base.Host, Path: a.base.Path}).String()
}

// get asks a place below the address.
func (a *asker) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url(path, query), nil)
	if err != nil {
		return nil, a.fail(err)
	}
	return a.send(req)
}

// send returns the body of an answer of success.
func (a *asker) send(req *http.Request) ([]byte, error) {
	for name, values := range a.header {
		if req.Header.Get(name) == "" {
			req.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if host := a.header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, a.fail(unreachable(req.Context(), err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, a.fail(unreachable(req.Context(), err))
	case len(body) > maxAnswer:
		return nil, a.fail(fmt.Errorf("the answer has more than %d MB: let the query give one number", maxAnswer>>20))
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, a.fail(refused(resp, body))
	}
	return body, nil
}

// fail says who failed, without any secret.
func (a *asker) fail(err error) error {
	text := err.Error()
	if shown := a.strike(text); shown != text {
		err = errors.New(shown)
	}
	return fmt.Errorf("%s: %w", a, err)
}

func (a *asker) String() string { return a.provider + " at " + a.place() }

// strike takes secrets out of a text, and the beginnings of secrets at places
// where clip has cut it.
func (a *asker) strike(text string) string {
	for _, s := range a.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	for _, s := range a.secrets {
		for n := len(s) - 1; n >= minSecret; n-- {
			text = strings.ReplaceAll(text, s[:n]+ellipsis, "***"+ellipsis)
		}
	}
	return text
}

// result is what a provider makes of an answer it has read.
func (a *asker) result(v float64, err error) (float64, error) {
	if err != nil {
		return 0, a.fail(err)
	}
	return v, nil
}

// unreachable says why no answer came. The URL of a question, which net/http
// puts in front, is left out: it may hold secrets and is long.
func unreachable(ctx context.Context, err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if r, ok := errors.AsType[redirect](err); ok {
		return r
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%w: trust who signed it on this machine, or set insecureSkipVerify", err)
	}
	return fmt.Errorf("%w: check that it runs and that the address is right", err)
}

// refused says what an answer other than success means.
func refused(resp *http.Response, body []byte) error {
	text := resp.Status
	if d := detail(body); d != "" {
		text += ": " + d
	}
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Errorf("%s: check the credentials in the Secret, and what they allow", text)
	case code == http.StatusNotFound:
		return fmt.Errorf("%s: check the address", text)
	case code == http.StatusTooManyRequests:
		return fmt.Errorf("%s: it is asked too often; choose a longer interval", text)
	case code >= 400 && code < 500:
		return fmt.Errorf("%s: check the query", text)
	default:
		return errors.New(text)
	}
}

// detail finds the message in the body of an error, whichever provider wrote
// it; a page of HTML has none.
func detail(body []byte) string {
	body = bytes.TrimSpace(body)
	var text string
	switch {
	case len(body) == 0:
	case body[0] == '{':
		text = jsonDetail(body)
	case body[0] == '<':
		var doc struct {
			Code    string `xml:"Error>Code"`
			Message string `xml:"Error>Message"`
		}
		if xml.Unmarshal(body, &doc) == nil && doc.Code != "" {
			text = doc.Code + ": " + doc.Message
		}
	default:
		line, _, _ := bytes.Cut(body, []byte("\n"))
		text = string(line)
	}
	return clip(text)
}

// jsonDetail knows the shapes {"error": "…"}, {"error": {"message": "…"}},
// {"errors": ["…"]}, {"errors": [{"message": "…"}]} and {"message": "…"}.
func jsonDetail(body []byte) string {
	var doc struct {
		Error, Errors, Message json.RawMessage
	}
	if json.Unmarshal(body, &doc) != nil {
		return ""
	}
	for _, raw := range []json.RawMessage{doc.Error, doc.Errors, doc.Message} {
		var text string
		var list []string
		var nested struct{ Message string }
		var all []struct{ Message string }
		switch {
		case len(raw) == 0:
		case json.Unmarshal(raw, &text) == nil && text != "":
			return text
		case json.Unmarshal(raw, &list) == nil && len(list) > 0:
			return strings.Join(list, "; ")
		case json.Unmarshal(raw, &nested) == nil && nested.Message != "":
			return nested.Message
		case json.Unmarshal(raw, &all) == nil && len(all) > 0:
			return all[0].Message
		}
	}
	return ""
}

// clip makes a provider's words one line of bearable length.
func clip(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if len(text) <= maxDetail {
		return text
	}
	cut := maxDetail
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + ellipsis
}

// decode reads an answer in JSON.
func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer is not that of this kind of provider (%w): check type and address", err)
	}
	return nil
}

// credential is a value of the Secret; tools that make Secrets from files leave
// line ends.
func (c Config) credential(key string) string {
	return strings.TrimSpace(string(c.Credentials[key]))
}

// need reads credentials without which there is no asking.
func (c Config) need(keys ...string) ([]string, error) {
	var values, missing []string
	for _, k := range keys {
		v := c.credential(k)
		if v == "" {
			missing = append(missing, k)
		}
		values = append(values, v)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no %s among the credentials: name a Secret with it in secretRef", strings.Join(missing, " and no "))
	}
	return values, nil
}

// login adds what a Secret with a token, or a username and a password, asks for.
func (a *asker) login(c Config) error {
	if c.Credentials == nil {
		return nil
	}
	if token := c.credential("token"); token != "" {
		a.header.Set("Authorization", "Bearer "+token)
		return nil
	}
	return a.loginBasic(c)
}

func (a *asker) loginBasic(c Config) error {
	if c.Credentials == nil {
		return nil
	}
	pair, err := c.need("username", "password")
	if err != nil {
		return err
	}
	pass := basic(pair[0], pair[1])
	a.header.Set("Authorization", "Basic "+pass)
	a.hide(pass)
	return nil
}

// basic is what HTTP's basic authentication makes of a name and a password.
func basic(username, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
}
