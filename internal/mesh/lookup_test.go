package mesh

import "testing"

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
	s := &Service{
		Ports:     []Port{{Number: 80}},
		Subsets:   map[string]Labels{"v1": {"version": "v1"}},
		Endpoints: []Endpoint{{Port: 80, Labels: Labels{"version": "v1"}}, {Port: 80}},
	}
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
