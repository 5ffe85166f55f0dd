package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// hashCall hashes the first key that the call has, as Envoy does (xxHash64 of
// the value), so that a user meets the same share and the same endpoint in both
// data planes. It reports false when there is none. Where a cookie is made for
// the hash, setCookie is what the answer tells the caller about it.
func hashCall(keys []mesh.HashKey, c *call) (hash uint64, ok bool, setCookie string) {
	for i := range keys {
		k := &keys[i]
		switch k.Source {
		case mesh.HashHeader:
			hash, ok = hashHeader(c.head, k.Name)
		case mesh.HashCookie:
			var value string
			if value = cookie(c.head, k.Name); value == "" && k.Make {
				value = cookieValue(c.remote)
				setCookie = cookieMade(k, value)
			}
			hash, ok = xxhash.Sum64String(value), value != ""
		case mesh.HashSourceIP:
			var text [64]byte
			hash = xxhash.Sum64(c.remote.Addr().Unmap().AppendTo(text[:0]))
			ok = c.remote.IsValid()
		case mesh.HashQuery:
			var value string
			value, ok = parameter(c.query, k.Name)
			hash = xxhash.Sum64String(value)
		}
		if ok {
			return hash, true, setCookie
		}
	}
	return 0, false, ""
}

// hashHeader hashes a header. Of several values the order does not count: the
// hash of each is the seed of the next in order of the alphabet, as with Envoy.
func hashHeader(h *wire.Head, name string) (hash uint64, ok bool) {
	seen := 0
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			seen++
		}
	}
	if seen < 2 {
		value, present := headerOf(h, name)
		return xxhash.Sum64String(value), present
	}
	for _, value := range slices.Sorted(h.Values(name)) {
		d := xxhash.NewWithSeed(hash)
		_, _ = d.WriteString(value) // never fails
		hash = d.Sum64()
	}
	return hash, true
}

// cookie returns the value of a request's cookie, without quotes; "" for none.
func cookie(h *wire.Head, name string) string {
	for i := range h.Fields {
		if h.Fields[i].Name != "cookie" {
			continue
		}
		for rest := h.Fields[i].Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			key, value, found := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
			if !found || key != name {
				continue
			}
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return value
		}
	}
	return ""
}

// cookieValue is the same for all requests of a connection, since a browser
// that asks for several things at once would else become several users.
func cookieValue(remote netip.AddrPort) string {
	var text [64]byte
	return fmt.Sprintf("%016x", xxhash.Sum64(remote.AppendTo(text[:0])))
}

// cookieMade is the set-cookie of a cookie (RFC 6265, section 4.1).
func cookieMade(k *mesh.HashKey, value string) string {
	s := k.Name + `="` + value + `"`
	if k.TTL > 0 {
		s += fmt.Sprintf("; Max-Age=%d", k.TTL/time.Second)
	}
	if k.Path != "" {
		s += "; Path=" + k.Path
	}
	return s + "; HttpOnly"
}
