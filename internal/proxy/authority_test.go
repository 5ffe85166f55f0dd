package proxy

import (
	"net/url"
	"strings"
	"testing"
)

func TestAuthorities(t *testing.T) {
	tests := []struct {
		in   string
		host string
		port uint16
		ok   bool
	}{
		{"music", "music", 80, true},
		{"Music.Default:30001", "music.default", 30001, true},
		{"music.default.svc.cluster.local.:80", "music.default.svc.cluster.local", 80, true},
		{"music:", "music", 80, true},
		{"127.0.0.1:8080", "127.0.0.1", 8080, true},
		{"[::1]:8080", "::1", 8080, true},
		{"[::1]", "::1", 80, true},
		{"", "", 0, false},
		{".", "", 0, false},
		{":80", "", 0, false},
		{"music:0", "", 0, false},
		{"music:65536", "", 0, false},
		{"music:+80", "", 0, false},
		{"music:80:80", "", 0, false},
		{"user@music", "", 0, false},
		{"music/x", "", 0, false},
		{"mu sic", "", 0, false},
		{"[music]", "", 0, false},
		{"[::1", "", 0, false},
		{"[::1]x", "", 0, false},
	}
	for _, test := range tests {
		host, port, ok := parseAuthority(test.in)
		if host != test.host || port != test.port || ok != test.ok {
			t.Errorf("parseAuthority(%q) = %q, %d, %t; want %q, %d, %t", test.in, host, port, ok, test.host, test.port, test.ok)
		}
	}
}

func FuzzAuthority(f *testing.F) {
	for _, s := range []string{"music", "Music.default:30001", "[::1]:80", "a:b", "@", "a.", "[", "x:99999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		host, port, ok := parseAuthority(authority)
		if !ok {
			if host != "" || port != 0 {
				t.Fatalf("parseAuthority(%q) refuses with %q, %d", authority, host, port)
			}
			return
		}
		if host == "" || port == 0 || host != strings.ToLower(host) || strings.ContainsAny(host, "/?#@[] \r\n\t") {
			t.Fatalf("parseAuthority(%q) = %q, %d", authority, host, port)
		}
		// What we take for one host, a URL parser must not take for another.
		u, err := url.Parse("http://" + authority + "/")
		if err != nil {
			return
		}
		if got := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."); u.Path == "/" && got != host && !strings.Contains(authority, "%") {
			t.Fatalf("parseAuthority(%q) = %q, net/url reads %q", authority, host, got)
		}
	})
}

func TestRequestPaths(t *testing.T) {
	for target, want := range map[string]string{
		"/":                         "/",
		"/a%2Fb?x=1":                "/a%2Fb",
		"http://music":              "/",
		"http://music?x=1":          "/",
		"http://music:80/a/b?x=/c":  "/a/b",
		"/redirect?to=http://x/y":   "/redirect",
		"/http://x/y":               "/http://x/y",
		"*":                         "*",
		"HTTP://music/A":            "/A",
		"http://music/a?b=http://x": "/a",
	} {
		if got := requestPath(target); got != want {
			t.Errorf("requestPath(%q) = %q, want %q", target, got, want)
		}
	}
}
