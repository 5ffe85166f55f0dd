package mesh

// Contains reports whether l has all of the wanted labels. Nothing wanted is
// contained in everything.
func (l Labels) Contains(wanted Labels) bool {
	for key, value := range wanted {
		if got, ok := l[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// Port returns the service's port of that number.
func (s *Service) Port(number uint16) (Port, bool) {
	for _, p := range s.Ports {
		if p.Number == number {
			return p, true
		}
	}
	return Port{}, false
}

// TargetPort returns the port that a destination's call reaches: the wanted
// one; else, where none is wanted, the called one if the service has it, else
// the service's only port. It reports false where that leaves none.
func (s *Service) TargetPort(wanted, called uint16) (uint16, bool) {
	if wanted != 0 {
		_, ok := s.Port(wanted)
		return wanted, ok
	}
	if _, ok := s.Port(called); ok {
		return called, true
	}
	if len(s.Ports) == 1 {
		return s.Ports[0].Number, true
	}
	return 0, false
}

// Select returns the endpoints behind a port that belong to a subset; the
// subset "" has all of them. It reports false for an unknown subset.
func (s *Service) Select(port uint16, subset string) ([]Endpoint, bool) {
	labels, known := s.Subsets[subset]
	if subset != "" && !known {
		return nil, false
	}
	var out []Endpoint
	for _, e := range s.Endpoints {
		if e.Port == port && (subset == "" || e.Labels.Contains(labels)) {
			out = append(out, e)
		}
	}
	return out, true
}

// DialAddress is where this machine connects to reach the endpoint.
func (e *Endpoint) DialAddress() string {
	if e.Dial != "" {
		return e.Dial
	}
	return e.Address.String()
}

// Policy returns the policy in force for calls to a port and subset: that of
// both, else of the subset, else of the port, else of the service. It is never
// nil and must not be changed.
func (s *Service) Policy(port uint16, subset string) *Policy {
	for _, scope := range [...]PolicyScope{{port, subset}, {0, subset}, {port, ""}, {}} {
		if p := s.Policies[scope]; p != nil {
			return p
		}
	}
	return &Policy{}
}
