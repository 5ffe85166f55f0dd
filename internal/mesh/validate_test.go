package mesh

import (
	"net/netip"
	"strings"
	"testing"
)

// valid has one of everything.
func valid() *Snapshot {
	return &Snapshot{
		Version: 1,
		Services: map[ServiceName]*Service{"music.default": {
			Name:    "music.default",
			Ports:   []Port{{Number: 80, Name: "http"}},
			Subsets: map[string]Labels{"v1": {"version": "v1"}},
			Endpoints: []Endpoint{
				{Port: 80, Address: netip.MustParseAddrPort("127.0.0.1:80"), Labels: Labels{"version": "v1"}},
				{Port: 80, Dial: "music.lan:8080"},
			},
		}},
		Hosts: []VirtualHost{{Hosts: []string{"music.default"}, Routes: []Route{{
			Matches: []Match{{
				URI:     StringMatch{Kind: Regex, Value: "/a|/b"},
				Headers: map[string]StringMatch{"end-user": {Kind: Exact, Value: "jason"}},
			}},
			Split: []Destination{{Service: "music.default", Subset: "v1", Weight: 1}, {Service: "ghost.default"}},
		}}}},
		Gateways: []Gateway{{Name: "default/edge", Port: 80, VirtualHosts: []VirtualHost{{Hosts: []string{"*", "*.example.org"}}}}},
	}
}

func TestValidateNamesTheFirstReason(t *testing.T) {
	if err := valid().Validate(); err != nil {
		t.Fatalf("Validate of a good snapshot: %v", err)
	}
	service := func(s *Snapshot) *Service { return s.Services["music.default"] }
	route := func(s *Snapshot) *Route { return &s.Hosts[0].Routes[0] }
	tests := []struct {
		change func(*Snapshot)
		want   string
	}{
		{func(s *Snapshot) { s.Version = 0 }, "snapshot: version 0 means none; count from 1"},
		{func(s *Snapshot) { s.Services["x"] = nil }, "service x: is nil"},
		{func(s *Snapshot) { service(s).Name = "other" }, `service music.default: is named "other" inside`},
		{func(s *Snapshot) { service(s).Policies = map[PolicyScope]*Policy{{}: {Balancer: 9}} }, "service music.default: unknown balancer 9"},
		{func(s *Snapshot) { service(s).Ports[0].Number = 0 }, `service music.default: port "http": number 0`},
		{func(s *Snapshot) { service(s).Ports = append(service(s).Ports, Port{Number: 80}) }, "service music.default: port 80: listed twice"},
		{func(s *Snapshot) { service(s).Ports[0].Protocol = 7 }, "service music.default: port 80: unknown protocol 7"},
		{func(s *Snapshot) { service(s).Subsets[""] = nil }, "service music.default: a subset has no name"},
		{func(s *Snapshot) { service(s).Endpoints[0].Port = 81 }, "service music.default: endpoint 127.0.0.1:80: the service has no port 81"},
		{func(s *Snapshot) { service(s).Endpoints[1].Dial = "music" }, `service music.default: endpoint "music": address is not host:port`},
		{func(s *Snapshot) { service(s).Endpoints[1].Dial = "music:http" }, `service music.default: endpoint "music:http": port is not in 1..65535`},
		{func(s *Snapshot) { service(s).Endpoints[0].Address = netip.AddrPort{} }, `service music.default: endpoint "invalid AddrPort": address is not host:port`},
		{func(s *Snapshot) { s.Hosts[0].Hosts = nil }, "virtual host 0: has no hosts"},
		{func(s *Snapshot) { s.Hosts[0].Hosts[0] = "" }, `virtual host "": is empty`},
		{func(s *Snapshot) { s.Hosts[0].Hosts[0] = "Music" }, `virtual host "Music": is not in lower case`},
		{func(s *Snapshot) { s.Hosts[0].Hosts[0] = "a.*" }, `virtual host "a.*": a wildcard is allowed at the front only`},
		{func(s *Snapshot) { s.Hosts[0].Hosts[0] = "*a" }, `virtual host "*a": a wildcard stands for whole labels: *.example.org`},
		{func(s *Snapshot) { s.Hosts[0].Hosts[0] = "a b" }, `virtual host "a b": is not a host name`},
		{func(s *Snapshot) { s.Hosts = append(s.Hosts, s.Hosts[0]) }, `virtual host "music.default": listed twice`},
		{func(s *Snapshot) { s.Gateways[0].Port = 0 }, `gateway "default/edge" port 0: name and port are required`},
		{func(s *Snapshot) { s.Gateways = append(s.Gateways, s.Gateways[0]) }, "gateway default/edge port 80: listed twice"},
		{func(s *Snapshot) { s.Gateways[0].VirtualHosts[0].Hosts[1] = "*" }, `gateway default/edge port 80: virtual host "*": listed twice`},
		{func(s *Snapshot) { route(s).Split[1].Service = "" }, `virtual host "music.default": route 0 (no object): destination 1: has no service`},
		{func(s *Snapshot) { route(s).Split[0].Weight = 0 }, `virtual host "music.default": route 0 (no object): all weights are 0`},
		{func(s *Snapshot) { route(s).Matches[0].URI.Value = "(" }, `match 0: uri: error parsing regexp`},
		{func(s *Snapshot) { route(s).Matches[0].Method.Kind = 9 }, `match 0: method: unknown kind 9`},
		{func(s *Snapshot) { route(s).Matches[0].Headers["End-User"] = StringMatch{} }, `match 0: header "End-User": name is not in lower case`},
		{func(s *Snapshot) { route(s).Matches[0].Headers["x"] = StringMatch{Kind: Regex, Value: "a)(b"} }, `match 0: header x: error parsing regexp`},
	}
	for _, test := range tests {
		s := valid()
		test.change(s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Validate = %v, want %q", err, test.want)
		}
	}
	if err := (*Snapshot)(nil).Validate(); err == nil {
		t.Error("Validate accepts no snapshot")
	}
}

func TestLabelsContain(t *testing.T) {
	l := Labels{"app": "music", "version": "v1", "empty": ""}
	tests := []struct {
		wanted Labels
		want   bool
	}{
		{nil, true},
		{Labels{"app": "music"}, true},
		{Labels{"app": "music", "version": "v2"}, false},
		{Labels{"missing": ""}, false},
		{Labels{"empty": ""}, true},
	}
	for _, test := range tests {
		if got := l.Contains(test.wanted); got != test.want {
			t.Errorf("%v contains %v = %t, want %t", l, test.wanted, got, test.want)
		}
	}
}

func TestTargetPorts(t *testing.T) {
	one := &Service{Ports: []Port{{Number: 80}}}
	two := &Service{Ports: []Port{{Number: 80}, {Number: 81}}}
	tests := []struct {
		name           string
		service        *Service
		wanted, called uint16
		port           uint16
		ok             bool
	}{
		{"wanted", two, 81, 80, 81, true},
		{"wanted but absent", two, 82, 80, 82, false},
		{"called", two, 0, 81, 81, true},
		{"called but absent", two, 0, 82, 0, false},
		{"the only one", one, 0, 8080, 80, true},
		{"of no ports", &Service{}, 0, 80, 0, false},
	}
	for _, test := range tests {
		if port, ok := test.service.TargetPort(test.wanted, test.called); port != test.port && ok || ok != test.ok {
			t.Errorf("%s: TargetPort(%d, %d) = %d, %t; want %d, %t", test.name, test.wanted, test.called, port, ok, test.port, test.ok)
		}
	}
}

func TestSelectTakesPortAndSubset(t *testing.T) {
	s := valid().Services["music.default"]
	for subset, want := range map[string]int{"": 2, "v1": 1} {
		if got, ok := s.Select(80, subset); !ok || len(got) != want {
			t.Errorf("Select(80, %q) = %d endpoints, %t; want %d", subset, len(got), ok, want)
		}
	}
	if _, ok := s.Select(80, "v9"); ok {
		t.Error("Select knows an unknown subset")
	}
	if got, _ := s.Select(81, ""); len(got) != 0 {
		t.Errorf("Select(81) = %v", got)
	}
}
