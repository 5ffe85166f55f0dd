package load

import (
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

// ParseHey reads a command line of the load generator hey
// (github.com/rakyll/hey), which Flagger's load-test webhooks carry:
//
//	hey -z 1m -q 10 -c 2 http://reviews-canary.default:9080/health
//
// As there, -q is per worker, so this sends 20 requests per second; -z sets a
// duration and lifts -n; without both 200 requests are sent. Words are split as
// a shell splits them, but nothing is expanded, and pipes and the like are
// refused. A flag that is not supported is an error, never ignored.
func ParseHey(command string) (Spec, error) {
	words, err := splitWords(command)
	if err != nil {
		return Spec{}, err
	}
	if len(words) == 0 || words[0] != "hey" {
		return Spec{}, fmt.Errorf("only hey can be run: write a command such as hey -z 1m -q 10 -c 2 http://host:port/path")
	}
	var h heyFlags
	set := h.flags()
	if err := set.Parse(words[1:]); err != nil {
		var known []string
		set.VisitAll(func(f *flag.Flag) { known = append(known, "-"+f.Name) })
		return Spec{}, fmt.Errorf("hey: %w: supported are %s", err, strings.Join(known, " "))
	}
	if set.NArg() != 1 {
		return Spec{}, fmt.Errorf("hey: want one URL after the flags, got %q", set.Args())
	}
	spec, err := h.spec(set.Arg(0))
	if err != nil {
		return Spec{}, fmt.Errorf("hey: %w", err)
	}
	if _, err := spec.withDefaults(); err != nil {
		return Spec{}, fmt.Errorf("hey: %w", err)
	}
	return spec, nil
}

type heyFlags struct {
	method, body, contentType, accept, host, auth, agent, proxy string

	requests, workers, timeout int // timeout in seconds
	ratePerWorker              float64
	duration                   time.Duration
	header                     http.Header

	noKeepAlive, noCompression, noRedirects bool
}

func (h *heyFlags) flags() *flag.FlagSet {
	set := flag.NewFlagSet("hey", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.IntVar(&h.requests, "n", 200, "")
	set.IntVar(&h.workers, "c", 50, "")
	set.Float64Var(&h.ratePerWorker, "q", 0, "")
	set.DurationVar(&h.duration, "z", 0, "")
	set.IntVar(&h.timeout, "t", 20, "")
	set.StringVar(&h.method, "m", "GET", "")
	set.StringVar(&h.body, "d", "", "")
	set.StringVar(&h.contentType, "T", "text/html", "")
	set.StringVar(&h.accept, "A", "", "")
	set.StringVar(&h.host, "host", "", "")
	set.StringVar(&h.auth, "a", "", "")
	set.StringVar(&h.agent, "U", "", "")
	set.StringVar(&h.proxy, "x", "", "")
	set.BoolVar(&h.noKeepAlive, "disable-keepalive", false, "")
	set.BoolVar(&h.noCompression, "disable-compression", false, "")
	set.BoolVar(&h.noRedirects, "disable-redirects", false, "")
	h.header = http.Header{}
	set.Func("H", "", func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t\r\n") {
			return fmt.Errorf("want a header such as %q", "end-user: jason")
		}
		h.header.Add(textproto.TrimString(name), strings.TrimSpace(value))
		return nil
	})
	return set
}

func (h *heyFlags) spec(address string) (Spec, error) {
	switch {
	case h.workers <= 0:
		return Spec{}, fmt.Errorf("-c %d: want 1 or more workers", h.workers)
	case h.duration < 0:
		return Spec{}, fmt.Errorf("-z %v: want a time such as 1m", h.duration)
	case h.duration == 0 && h.requests < h.workers:
		return Spec{}, fmt.Errorf("-n %d: want at least as many requests as workers (-c %d)", h.requests, h.workers)
	case h.timeout < 0:
		return Spec{}, fmt.Errorf("-t %d: want seconds", h.timeout)
	}
	spec := Spec{
		URLs:               []string{address},
		Method:             strings.ToUpper(h.method),
		Header:             h.header,
		Host:               h.host,
		Body:               []byte(h.body),
		Rate:               h.ratePerWorker * float64(h.workers),
		Duration:           h.duration,
		Concurrency:        h.workers,
		Timeout:            time.Duration(h.timeout) * time.Second,
		DisableKeepAlive:   h.noKeepAlive,
		DisableCompression: h.noCompression,
		DisableRedirects:   h.noRedirects,
	}
	if h.duration == 0 {
		spec.Count = h.requests / h.workers * h.workers // each worker sends as many
	}
	if h.timeout == 0 {
		spec.Timeout = 24 * time.Hour // hey: none
	}
	for name, value := range map[string]string{"Content-Type": h.contentType, "Accept": h.accept, "User-Agent": h.agent} {
		if value != "" && h.header.Get(name) == "" {
			h.header.Set(name, value)
		}
	}
	if host := h.header.Get("Host"); host != "" && spec.Host == "" {
		spec.Host = host
	}
	h.header.Del("Host") // Go sends Spec.Host alone
	if h.auth != "" {
		if !strings.Contains(h.auth, ":") {
			return Spec{}, fmt.Errorf("-a: want user:password")
		}
		h.header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(h.auth)))
	}
	if h.proxy != "" {
		u, err := url.Parse("http://" + h.proxy)
		if err != nil || u.Port() == "" {
			return Spec{}, fmt.Errorf("-x %s: want host:port", h.proxy)
		}
		spec.Proxy = http.ProxyURL(u)
	}
	return spec, nil
}

// splitWords splits a command as a POSIX shell does: blanks separate, quotes
// and backslashes protect. What a shell would act on otherwise is an error.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
			continue
		case c == '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, fmt.Errorf("the quote ' at %q is not closed", s[i:])
			}
			word.WriteString(s[i+1 : i+1+end])
			i += 1 + end
		case c == '"':
			n, err := doubleQuoted(&word, s[i+1:])
			if err != nil {
				return nil, err
			}
			i += n
		case c == '\\':
			i++
			if i == len(s) {
				return nil, fmt.Errorf("the command ends in a backslash")
			}
			if s[i] == '\n' { // continues the line
				continue
			}
			word.WriteByte(s[i])
		case strings.IndexByte("|&;<>()$`", c) >= 0:
			return nil, fmt.Errorf("%q is shell syntax, and no shell is run: give one plain command, quote it if it is meant literally", c)
		default:
			word.WriteByte(c)
		}
		inWord = true
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// doubleQuoted writes what stands before the closing quote of s, and returns
// how many bytes it read, that quote included.
func doubleQuoted(word *strings.Builder, s string) (int, error) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return i + 1, nil
		case '$', '`':
			return 0, fmt.Errorf("%q in double quotes is shell syntax, and no shell is run: use single quotes", c)
		case '\\':
			if i+1 < len(s) && strings.IndexByte("$`\"\\", s[i+1]) >= 0 {
				i++
				word.WriteByte(s[i])
			} else {
				word.WriteByte(c)
			}
		default:
			word.WriteByte(c)
		}
	}
	return 0, fmt.Errorf("the quote \" at %q is not closed", "\""+s)
}
