package equivalence

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// outcome is what became of one call on one plane.
type outcome struct {
	answer
	Visits []visit  // what endpoints saw, by time
	Flags  string   // response flags of the record
	copied []string // what mirrors saw, where it was told apart
	id     string   // of the request
	local  bool     // the answer was made by the proxy in its own words
}

// split tells the copies for mirrors apart from what the others saw. Which
// endpoint of a mirror gets a copy, and when, is a matter of chance.
func (o *outcome) split() {
	visits := o.Visits
	o.Visits = nil
	for _, v := range visits {
		if !isCopy(&v) {
			o.Visits = append(o.Visits, v)
			continue
		}
		v.Endpoint = "(mirror)"
		delete(v.Header, "x-forwarded-for") // Envoy is the caller of its copies
		o.copied = append(o.copied, strings.Join(v.lines(), "\n"))
	}
	slices.Sort(o.copied)
}

// What is not compared, with the reason.
// Each is told of in docs/reference/envoy.md.
var (
	// Seen by endpoints:
	machinery = []string{headerCall, headerDo} // ours
	// Each plane makes its own: Envoy has no ids for traces unless it traces.
	generated = []string{"traceparent", "tracestate", "date", "x-envoy-external-address", "x-envoy-internal"}
	// Framing is each hop's own (RFC 9112, section 7).
	framing = []string{"connection", "content-length", "transfer-encoding", "keep-alive"}
)

func ignored(name string) bool {
	return slices.Contains(machinery, name) || slices.Contains(generated, name) || slices.Contains(framing, name)
}

// compared is a header as far as it is compared, one line each.
func compared(prefix string, h headers) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if ignored(name) {
			continue
		}
		for _, value := range h[name] {
			switch name {
			case "x-request-id":
				value = "(id)"
			case "set-cookie":
				value = madeCookie.ReplaceAllString(value, `$1="(made)"`)
			case "x-forwarded-for":
				value = withoutOwn(value)
			}
			out = append(out, fmt.Sprintf("%s%s: %s", prefix, name, value))
		}
	}
	return out
}

// madeCookie is a cookie that a proxy made for a hash.
var madeCookie = regexp.MustCompile(`^([a-z]+)="[0-9a-f]{16}"`)

// withoutOwn writes a list of addresses with "(caller)" for those of this
// machine: Envoy tells of callers on loopback by another address that the
// machine has.
func withoutOwn(list string) string {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return err.Error()
	}
	addresses := strings.Split(list, ",")
	for i, a := range addresses {
		addresses[i] = strings.TrimSpace(a)
		if slices.ContainsFunc(own, func(o net.Addr) bool { ip, _, _ := strings.Cut(o.String(), "/"); return ip == addresses[i] }) {
			addresses[i] = "(caller)"
		}
	}
	return strings.Join(addresses, ", ")
}

// lines writes all that is compared.
func (o *outcome) lines() []string {
	out := []string{o.statusLine()}
	if o.Flags != "" {
		out = append(out, "flags "+o.Flags)
	}
	out = append(out, compared("answer ", o.Header)...)
	if o.Body != "" {
		out = append(out, "body "+strconv.Quote(o.Body))
	}
	out = append(out, compared("trailer ", o.Trailer)...)
	for _, line := range o.Lines {
		out = append(out, "line "+line)
	}
	for _, v := range o.Visits {
		out = append(out, v.lines()...)
	}
	return out
}

func (o *outcome) statusLine() string {
	var b strings.Builder
	for _, code := range o.Informed {
		// Whether a caller is told to go on depends on whether it still waits.
		if code != http.StatusContinue {
			fmt.Fprintf(&b, "%d, ", code)
		}
	}
	switch {
	case o.Status != 0:
		fmt.Fprintf(&b, "%d", o.Status)
	case o.Err == "":
		b.WriteString("connection")
	}
	if o.Err != "" {
		fmt.Fprintf(&b, " %s", o.Err)
	}
	return strings.TrimSpace(b.String())
}

func (v *visit) lines() []string {
	out := []string{v.line()}
	out = append(out, compared("  ", v.Header)...)
	return append(out, compared("  trailer ", v.Trailer)...)
}

func (v *visit) line() string {
	s := fmt.Sprintf("%s saw %s", v.Endpoint, v.Protocol)
	if v.TLS != "" {
		s += " in " + v.TLS
	}
	if v.Method != "" {
		s += fmt.Sprintf(" %s %s %s", v.Method, v.Host, v.Target)
	}
	if v.Body != "" {
		s += " " + strconv.Quote(v.Body)
	}
	return s
}

// summary is what a story records of an outcome: all that is compared but the
// headers that the caller sent and the endpoint got, and those that every
// request gets.
func (o *outcome) summary(q *call, whole bool) []string {
	if whole {
		return o.lines()
	}
	sent := headers{}
	for _, h := range q.header {
		name, value, _ := strings.Cut(h, ":")
		name = strings.ToLower(name)
		sent[name] = append(sent[name], strings.TrimSpace(value))
	}
	out := []string{o.statusLine()}
	if o.Flags != "" {
		out[0] += " " + o.Flags
	}
	for _, line := range compared("", o.Header) {
		name, value, _ := strings.Cut(line, ": ")
		if !(name == "content-type" && value == "text/plain") && !slices.Contains(usual, name) {
			out = append(out, "  "+line)
		}
	}
	switch {
	case o.local:
		out = append(out, "  in the proxy's own words")
	case o.Body != "" && !slices.ContainsFunc(o.Visits, func(v visit) bool { return v.Endpoint == o.Body }):
		out = append(out, "  "+strconv.Quote(o.Body))
	}
	out = append(out, compared("  trailer ", o.Trailer)...)
	for _, line := range o.Lines {
		out = append(out, "  "+line)
	}
	for _, v := range o.Visits {
		out = append(out, v.line())
		got := headers{}
		for name, values := range v.Header {
			if !slices.Equal(values, sent[name]) && !slices.Contains(usual, name) {
				got[name] = values
			}
		}
		out = append(out, compared("  ", got)...)
		for _, name := range slices.Sorted(maps.Keys(sent)) {
			if v.Protocol != "TCP" && v.Header[name] == nil && !ignored(name) {
				out = append(out, "  no "+name)
			}
		}
		out = append(out, compared("  trailer ", v.Trailer)...)
	}
	return out
}

// usual are headers that every request or answer gets.
var usual = []string{"x-endpoint", "x-forwarded-proto", "x-forwarded-for", "x-request-id", "user-agent", "accept-encoding", "server"}

// key is what is counted where chance decides: who answered, or else the
// status, or how the connection ended.
func (o *outcome) key(slow time.Duration) string {
	key := strconv.Itoa(o.Status)
	if o.Status == 0 {
		key = strings.ReplaceAll(o.Err, " ", "-")
	}
	if len(o.Lines) > 0 {
		key, _, _ = strings.Cut(o.Lines[0], " ")
	}
	if by := o.Header["x-endpoint"]; len(by) > 0 {
		key = by[0]
	}
	if slow > 0 && o.Took >= slow {
		key += "+slow"
	}
	return key
}
