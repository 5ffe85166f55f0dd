package mesh

import (
	"strings"
	"testing"
)

func TestHostsHaveOneCanonicalForm(t *testing.T) {
	tests := []struct{ host, namespace, want string }{
		{"music", "default", "music.default"},
		{"MUSIC", "default", "music.default"},
		{"music.default", "other", "music.default"},
		{"music.default.svc", "other", "music.default"},
		{"Music.default.svc.cluster.local.", "other", "music.default"},
		{"music", "", "music"},
		{"example.org", "default", "example.org"},
		{"*", "default", "*"},
		{"*.default.svc.cluster.local", "default", "*.default"},
		{"127.0.0.1", "default", "127.0.0.1"},
		{"::1", "default", "::1"},
		// Not "name.namespace" before the suffix: somebody's own domain.
		{"a.b.c.svc", "default", "a.b.c.svc"},
		{"svc.cluster.local", "default", "svc.cluster.local"},
		{"x.svc", "default", "x.svc"},
		{"", "default", ""},
	}
	for _, test := range tests {
		if got := CanonicalHost(test.host, test.namespace); got != test.want {
			t.Errorf("CanonicalHost(%q, %q) = %q, want %q", test.host, test.namespace, got, test.want)
		}
	}
}

func FuzzCanonicalHost(f *testing.F) {
	f.Add("Music.default.svc.cluster.local.", "default")
	f.Add("music", "default")
	f.Add("*.x.svc", "")
	f.Fuzz(func(t *testing.T, host, namespace string) {
		if strings.HasSuffix(host, "..") {
			t.Skip("two final dots are no host")
		}
		once := CanonicalHost(host, strings.ToLower(namespace))
		if CheckHost(once) != nil {
			t.Skip("not a host")
		}
		// Two namespaces with a suffix of their own each are taken off one at
		// a time; no real host has both.
		if strings.Count(strings.ToLower(host), ".svc") > 1 || strings.Contains(strings.ToLower(namespace), ".") {
			t.Skip("not a name of the cluster")
		}
		if twice := CanonicalHost(once, "another"); strings.Contains(once, ".") && twice != once {
			t.Errorf("CanonicalHost(%q) = %q, and of that %q", host, once, twice)
		}
	})
}

func TestServiceNames(t *testing.T) {
	n := Name("default", "music")
	if n != "music.default" {
		t.Errorf("Name = %q", n)
	}
	if namespace, service := n.Split(); namespace != "default" || service != "music" {
		t.Errorf("Split = %q, %q", namespace, service)
	}
}

func TestPatternsMatchHosts(t *testing.T) {
	tests := []struct {
		pattern, host string
		want          bool
	}{
		{"*", "anything", true},
		{"*.example.org", "x.example.org", true},
		{"*.example.org", "y.x.example.org", true},
		{"*.example.org", "*.x.example.org", true},
		{"*.example.org", "example.org", false},
		{"*.example.org", ".example.org", false},
		{"example.org", "example.org", true},
		{"x.example.org", "*.example.org", false},
	}
	for _, test := range tests {
		if got := HostMatches(test.pattern, test.host); got != test.want {
			t.Errorf("HostMatches(%q, %q) = %t, want %t", test.pattern, test.host, got, test.want)
		}
	}
}
