package istio

import (
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"

	"serin.dev/serin/internal/mesh"
)

// workloadEntry is a WorkloadEntry, or an endpoint of a ServiceEntry,
// translated.
type workloadEntry struct {
	origin   mesh.Origin
	address  string // an IP address or a host name; "" = unusable
	ports    map[string]uint16
	labels   mesh.Labels
	workload mesh.Workload
	place    mesh.Place
	weight   uint32
}

func workloadEntryOf(o *istiov1.WorkloadEntry, r *report) workloadEntry {
	r.untranslated("spec", o.Spec.ProtoReflect(), workloadEntryFields(), noConsequence)
	return newWorkloadEntry(&o.Spec, "spec", o.Labels, r)
}

// newWorkloadEntry translates one entry. Labels of the object count as those
// of the workload where the spec has none of that name.
func newWorkloadEntry(spec *networking.WorkloadEntry, path string, object map[string]string, r *report) workloadEntry {
	we := workloadEntry{origin: r.origin, ports: map[string]uint16{}, labels: mesh.Labels{}}
	maps.Copy(we.labels, object)
	maps.Copy(we.labels, spec.GetLabels())
	address := strings.TrimSuffix(spec.GetAddress(), ".")
	switch err := mesh.CheckHost(strings.ToLower(address)); {
	case strings.HasPrefix(address, "unix:"):
		r.warnf(path+".address", "unix sockets are not supported yet: the workload is not used")
	case err != nil || strings.Contains(address, "*") || strings.Contains(address, ":") && !isIP(address) || !haveLabels(address):
		r.errorf(path+".address", "%q is not an IP address or host name", spec.GetAddress())
	default:
		we.address = address
	}
	for _, name := range slices.Sorted(maps.Keys(spec.GetPorts())) {
		number := spec.Ports[name]
		if number == 0 || number > math.MaxUint16 {
			r.errorf(at("%s.ports[%s]", path, name), "%d is not in 1..65535", number)
			continue
		}
		we.ports[name] = uint16(number)
	}
	const most = math.MaxUint16 // so that the sum of all has room
	if we.weight = spec.GetWeight(); we.weight > most {
		r.errorf(path+".weight", "%d is not in 0..%d", we.weight, most)
		we.weight = most
	}
	we.place = placeOf(spec.GetLocality(), path+".locality", r)
	we.workload = mesh.Workload{Namespace: r.origin.Namespace, Name: r.origin.Name, Version: we.labels["version"], Pod: r.origin.Name}
	if app := we.labels["app"]; app != "" {
		we.workload.Name = app
	}
	return we
}

// placeOf reads "region/zone/subzone", of which the last ones may be absent.
func placeOf(locality, path string, r *report) mesh.Place {
	parts := strings.Split(locality, "/")
	if len(parts) > 3 || strings.Contains(locality, "*") {
		r.errorf(path, "%q is not region/zone/subzone", locality)
		return mesh.Place{}
	}
	parts = append(parts, "", "")
	return mesh.Place{Region: parts[0], Zone: parts[1], Subzone: parts[2]}
}

// haveLabels reports whether a name has labels of a length that can be resolved
// (RFC 1035, section 2.3.4).
func haveLabels(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return len(name) <= 253
}

func isIP(address string) bool {
	_, err := netip.ParseAddr(address)
	return err == nil
}

// endpoint makes the workload an endpoint behind a service port.
func (we *workloadEntry) endpoint(port, target uint16) mesh.Endpoint {
	e := mesh.Endpoint{
		Port: port, Labels: we.labels, Workload: we.workload, Place: we.place, Weight: we.weight,
		Dial: net.JoinHostPort(we.address, strconv.Itoa(int(target))),
	}
	if ip, err := netip.ParseAddr(we.address); err == nil && ip.Zone() == "" {
		e.Address = netip.AddrPortFrom(ip, target)
	}
	return e
}

// serviceEntry is a ServiceEntry translated, before workloads are selected.
type serviceEntry struct {
	origin   mesh.Origin
	services []*mesh.Service // one for each host
	ports    []*networking.ServicePort
	inline   []workloadEntry
	selector mesh.Labels // nil = none
	byName   bool        // without endpoints, the host itself is dialled
	names    []string    // that certificates of the endpoints have one of
}

func (t *translator) serviceEntry(o *istiov1.ServiceEntry, r *report) serviceEntry {
	se := serviceEntry{origin: r.origin}
	r.untranslated("spec", o.Spec.ProtoReflect(), serviceEntryFields(), noConsequence)
	for i, name := range o.Spec.SubjectAltNames {
		if name == "" {
			r.errorf(at("spec.subjectAltNames[%d]", i), "is empty: remove it")
			continue
		}
		se.names = append(se.names, name)
	}
	static := o.Spec.Resolution == networking.ServiceEntry_STATIC
	se.byName = !static && len(o.Spec.Endpoints) == 0 && o.Spec.WorkloadSelector == nil
	ports := t.entryPorts(o.Spec.Ports, &se, r)
	if len(o.Spec.Hosts) == 0 {
		r.errorf("spec.hosts", "is empty: name the hosts that the entry stands for")
	}
	for i, h := range o.Spec.Hosts {
		path := at("spec.hosts[%d]", i)
		host := mesh.CanonicalHost(h, o.Namespace)
		switch err := mesh.CheckHost(host); {
		case err != nil || strings.Contains(host, ":"):
			r.errorf(path, "%q is not a host name", h)
		case strings.HasPrefix(host, "*") && (o.Spec.Resolution == networking.ServiceEntry_NONE || o.Spec.Resolution == networking.ServiceEntry_DYNAMIC_DNS):
			r.warnf(path, "wildcards are not supported yet: requests pass to the real host and are recorded without a service")
		case strings.HasPrefix(host, "*"):
			r.errorf(path, "%q has a wildcard, which cannot be resolved: name the host, or use resolution NONE", h)
		default:
			se.services = append(se.services, &mesh.Service{Name: mesh.ServiceName(host), Ports: ports})
		}
	}
	if len(o.Spec.Endpoints) > 0 && o.Spec.WorkloadSelector != nil {
		r.errorf("spec.workloadSelector", "cannot be combined with endpoints: keep one")
	}
	for i, e := range o.Spec.Endpoints {
		path := at("spec.endpoints[%d]", i)
		we := newWorkloadEntry(e, path, nil, r)
		if static && we.address != "" && !isIP(we.address) {
			r.errorf(path+".address", "%q is not an IP address: use resolution DNS for names", we.address)
			continue
		}
		we.workload.Pod = ""
		se.inline = append(se.inline, we)
	}
	if s := o.Spec.WorkloadSelector; s != nil {
		se.selector = mesh.Labels{}
		maps.Copy(se.selector, s.Labels)
		if len(s.Labels) == 0 {
			r.errorf("spec.workloadSelector.labels", "is empty: name the labels of the workloads")
		}
	}
	return se
}

func (t *translator) entryPorts(ports []*networking.ServicePort, se *serviceEntry, r *report) []mesh.Port {
	var out []mesh.Port
	if len(ports) == 0 {
		r.errorf("spec.ports", "is empty: name the ports under which the hosts are called")
	}
	for i, p := range ports {
		path := at("spec.ports[%d]", i)
		number, protocol := p.GetNumber(), p.GetProtocol()
		switch {
		case number == 0 || number > math.MaxUint16:
			r.errorf(path+".number", "%d is not in 1..65535", number)
			continue
		case p.TargetPort > math.MaxUint16:
			r.errorf(path+".targetPort", "%d is not in 1..65535", p.TargetPort)
			continue
		case slices.ContainsFunc(out, func(q mesh.Port) bool { return q.Number == uint16(number) }):
			r.errorf(path+".number", "%d is listed twice: remove one", number)
			continue
		}
		hint := &protocol
		if protocol == "" {
			hint = nil
		}
		out = append(out, mesh.Port{Number: uint16(number), Name: p.Name, Protocol: protocolOf(p.Name, hint)})
		se.ports = append(se.ports, p)
	}
	return out
}

// addServiceEntry adds the hosts of an entry as services. A host that is a
// service already stays what it is.
func (t *translator) addServiceEntry(se serviceEntry, entries []workloadEntry) {
	workloads := se.inline
	if se.selector != nil {
		workloads = nil
		for _, we := range entries {
			if we.origin.Namespace == se.origin.Namespace && len(se.selector) > 0 && we.labels.Contains(se.selector) {
				workloads = append(workloads, we)
			}
		}
	}
	for _, svc := range se.services {
		if t.out.Snapshot.Services[svc.Name] != nil {
			r := report{origin: se.origin}
			r.warnf("spec.hosts", "host %s is a service already: the entry has no effect for it", svc.Name)
			t.out.Findings = append(t.out.Findings, r.findings...)
			continue
		}
		for _, p := range se.ports {
			target := uint16(p.Number)
			if p.TargetPort != 0 {
				target = uint16(p.TargetPort)
			}
			if se.byName {
				dial := net.JoinHostPort(string(svc.Name), strconv.Itoa(int(target)))
				svc.Endpoints = append(svc.Endpoints, mesh.Endpoint{Port: uint16(p.Number), Dial: dial})
			}
			for _, we := range workloads {
				if we.address == "" {
					continue
				}
				at := target
				if own, ok := we.ports[p.Name]; ok {
					at = own
				}
				svc.Endpoints = append(svc.Endpoints, we.endpoint(uint16(p.Number), at))
			}
		}
		t.out.Snapshot.Services[svc.Name] = svc
		t.alternatives[svc.Name] = se.names
	}
}
