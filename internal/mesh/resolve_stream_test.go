package mesh_test

import (
	"strings"
	"testing"

	"serin.dev/serin/internal/mesh"
)

// TestConnectionsGoByTheMostSpecificName plays connections against one
// snapshot; the answer names where each goes.
func TestConnectionsGoByTheMostSpecificName(t *testing.T) {
	to := func(name string, matches ...mesh.StreamMatch) mesh.Stream {
		return mesh.Stream{Name: name, Matches: matches, Split: []mesh.Destination{{Service: "db.default"}}}
	}
	s := &mesh.Snapshot{
		Version: 1,
		Services: map[mesh.ServiceName]*mesh.Service{
			"db.default":    {Name: "db.default", Ports: []mesh.Port{{Number: 5432, Protocol: mesh.TCP}, {Number: 5433, Protocol: mesh.TCP}}},
			"cache.default": {Name: "cache.default", Ports: []mesh.Port{{Number: 6379, Protocol: mesh.TCP}}},
		},
		Hosts: []mesh.VirtualHost{{Hosts: []string{"db.default"}, Streams: []mesh.Stream{
			to("from web", mesh.StreamMatch{Port: 5432, SourceLabels: mesh.Labels{"app": "web"}}),
			to("from shop", mesh.StreamMatch{Port: 5432, SourceNamespace: "shop"}),
			{Name: "closed", Matches: []mesh.StreamMatch{{SourceNamespace: "evil"}}},
		}}},
		Gateways: []mesh.Gateway{
			{Name: "default/a", Port: 443, TLS: []mesh.ServerTLS{{Hosts: []string{"*.test"}}}, Streams: []mesh.Stream{
				to("wide", mesh.StreamMatch{SNI: []string{"*.raw.test"}}),
				to("narrow", mesh.StreamMatch{SNI: []string{"a.raw.test"}}),
			}},
			{Name: "default/b", Port: 443, TLS: []mesh.ServerTLS{{Hosts: []string{"b.raw.test"}}}},
			{Name: "default/c", Port: 5432, Streams: []mesh.Stream{to("plain")}},
			{Name: "default/d", Port: 6432, TLS: []mesh.ServerTLS{{Hosts: []string{"db.test"}}}, Streams: []mesh.Stream{to("inside tls")}},
		},
	}
	for _, test := range []struct {
		c    mesh.Connection
		want string
	}{
		{mesh.Connection{Host: "db", Namespace: "default", Port: 5432, Labels: mesh.Labels{"app": "web"}}, "db.default: stream from web → db.default"},
		{mesh.Connection{Host: "db.default", Namespace: "shop", Port: 5432}, "db.default: stream from shop → db.default"},
		{mesh.Connection{Host: "db.default", Namespace: "default", Port: 5433}, "db.default: → db.default"},
		{mesh.Connection{Host: "db.default", Namespace: "evil", Port: 5433}, "db.default: stream closed"},
		{mesh.Connection{Host: "db.default", Namespace: "default", Port: 1}, "db.default:"},
		{mesh.Connection{Host: "cache", Namespace: "default", Port: 6379}, "cache.default: → cache.default"},
		{mesh.Connection{Host: "other.org", Namespace: "default", Port: 443}, "outside"},
		{mesh.Connection{Gateway: 443, SNI: "a.raw.test"}, "stream narrow → db.default"},
		{mesh.Connection{Gateway: 443, SNI: "B.raw.test"}, "tls b.raw.test"},
		{mesh.Connection{Gateway: 443, SNI: "c.raw.test"}, "stream wide → db.default"},
		{mesh.Connection{Gateway: 443, SNI: "www.test"}, "tls *.test"},
		{mesh.Connection{Gateway: 443, SNI: "www.other"}, ""},
		{mesh.Connection{Gateway: 443}, ""},
		{mesh.Connection{Gateway: 5432}, "stream plain → db.default"},
		{mesh.Connection{Gateway: 5432, SNI: "tls.unread"}, "stream plain → db.default"},
		{mesh.Connection{Gateway: 6432, SNI: "db.test"}, "tls db.test stream inside tls → db.default"},
		{mesh.Connection{Gateway: 6432, SNI: "other.test"}, ""},
	} {
		if got := outcomeText(s.ResolveStream(test.c)); got != test.want {
			t.Errorf("ResolveStream(%+v) = %q, want %q", test.c, got, test.want)
		}
	}
}

func outcomeText(o mesh.StreamOutcome) string {
	var p []string
	if o.Outside {
		p = append(p, "outside")
	}
	if o.Service != "" {
		p = append(p, string(o.Service)+":")
	}
	if o.TLS != nil {
		p = append(p, "tls "+o.TLS.Hosts[0])
	}
	if o.Stream != nil {
		p = append(p, "stream "+o.Stream.Name)
	}
	for _, w := range o.Ways {
		p = append(p, "→ "+w.Destination.String())
	}
	return strings.Join(p, " ")
}

// TestATLSConnectionIsForItsOwnHosts: a host that asks for certificates cannot
// be reached over a connection to one that does not.
func TestATLSConnectionIsForItsOwnHosts(t *testing.T) {
	split := []mesh.Destination{{Service: "shop.default"}}
	s := &mesh.Snapshot{
		Version:  1,
		Services: map[mesh.ServiceName]*mesh.Service{"shop.default": {Name: "shop.default", Ports: []mesh.Port{{Number: 80}}}},
		Gateways: []mesh.Gateway{
			{Name: "default/a", Port: 443, TLS: []mesh.ServerTLS{
				{Hosts: []string{"*.test"}}, {Hosts: []string{"partner.test"}, ClientCA: "default/ca"},
			}, VirtualHosts: []mesh.VirtualHost{{Hosts: []string{"*"}, Routes: []mesh.Route{{Split: split}}}}},
		},
	}
	for _, test := range []struct {
		sni, host string
		want      bool
	}{
		{"a.test", "a.test", false},
		{"a.test", "b.test", false}, // the same entry: HTTP/2 callers share connections
		{"a.test", "partner.test", true},
		{"A.test", "PARTNER.test", true},
		{"partner.test", "partner.test", false},
		{"partner.test", "a.test", true},
		{"a.test", "elsewhere.org", true},
		{"", "partner.test", false},
	} {
		o := s.Resolve(mesh.Call{Gateway: 443, Host: test.host, SNI: test.sni})
		if o.Misdirected != test.want || o.Misdirected == (len(o.Ways) > 0) {
			t.Errorf("a request for %s over TLS for %q: misdirected %t with %d ways, want %t", test.host, test.sni, o.Misdirected, len(o.Ways), test.want)
		}
	}
}
