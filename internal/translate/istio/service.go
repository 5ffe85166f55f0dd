package istio

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"serin.dev/serin/internal/mesh"
)

// addServices translates the core Services with the endpoints given for them.
func (t *translator) addServices() {
	for _, o := range t.in.Services {
		if o == nil {
			continue
		}
		r := &report{origin: originOf(o)}
		svc := &mesh.Service{Name: mesh.Name(o.Namespace, o.Name)}
		if mesh.CheckHost(string(svc.Name)) != nil || strings.HasPrefix(string(svc.Name), "*") {
			continue // the API server accepts no such name
		}
		if reason, refused := t.in.Refused[o]; refused {
			r.errorf("", "no proxy could run it: %s", reason)
			t.out.Findings = append(t.out.Findings, r.findings...)
			continue
		}
		for _, p := range o.Spec.Ports {
			if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
				r.warnf("spec.ports", "port %d is %s, which is not supported yet: it is not routed", p.Port, p.Protocol)
				continue
			}
			number := uint16(p.Port)
			if _, twice := svc.Port(number); twice || number == 0 || int32(number) != p.Port {
				continue // the API server accepts neither
			}
			svc.Ports = append(svc.Ports, mesh.Port{Number: number, Name: p.Name, Protocol: protocolOf(p.Name, p.AppProtocol)})
			if o.Spec.Type == corev1.ServiceTypeExternalName {
				svc.Endpoints = append(svc.Endpoints, externalEndpoints(o, number, r)...)
			}
		}
		for _, e := range t.in.Endpoints[svc.Name] {
			if _, ok := svc.Port(e.Port); ok {
				svc.Endpoints = append(svc.Endpoints, e)
			}
		}
		t.out.Snapshot.Services[svc.Name] = svc
		t.cluster[svc.Name] = true
		t.out.Findings = append(t.out.Findings, r.findings...)
	}
}

func externalEndpoints(o *corev1.Service, port uint16, r *report) []mesh.Endpoint {
	host := mesh.CanonicalHost(o.Spec.ExternalName, "")
	if err := mesh.CheckHost(host); err != nil || strings.ContainsAny(host, "*:") {
		r.errorf("spec.externalName", "%q is not a host name", o.Spec.ExternalName)
		return nil
	}
	return []mesh.Endpoint{{Port: port, Dial: at("%s:%d", host, port)}}
}

// protocolOf follows Istio: appProtocol decides, else what a port's name
// begins with ("tcp-db"). A port that says nothing, or what nobody knows, is
// taken for HTTP: most are, and there is nothing else to go by.
func protocolOf(name string, appProtocol *string) mesh.Protocol {
	said, _, _ := strings.Cut(name, "-")
	if strings.HasPrefix(name, "grpc-web") {
		said = "http"
	}
	if appProtocol != nil {
		said = strings.TrimPrefix(*appProtocol, "kubernetes.io/")
	}
	switch strings.ToLower(said) {
	case "tcp", "mongo", "mysql", "redis":
		return mesh.TCP
	case "https", "tls":
		return mesh.HTTPS
	case "http2", "h2c":
		return mesh.HTTP2
	case "grpc":
		return mesh.GRPC
	}
	return mesh.HTTP
}

// addWorkloadsToServices adds WorkloadEntries to the Services that select them.
func (t *translator) addWorkloadsToServices(entries []workloadEntry) {
	for _, o := range t.in.Services {
		if o == nil || len(o.Spec.Selector) == 0 {
			continue
		}
		svc := t.out.Snapshot.Services[mesh.Name(o.Namespace, o.Name)]
		if svc == nil {
			continue
		}
		for _, we := range entries {
			if we.address == "" || we.origin.Namespace != o.Namespace || !we.labels.Contains(o.Spec.Selector) {
				continue
			}
			r := &report{origin: we.origin}
			for _, p := range o.Spec.Ports {
				if _, routed := svc.Port(uint16(p.Port)); !routed {
					continue
				}
				target, ok := targetOf(p, we.ports)
				if !ok {
					r.warnf("spec.ports", "has no port %q, the targetPort of Service %s: add it", p.TargetPort.StrVal, svc.Name)
					continue
				}
				svc.Endpoints = append(svc.Endpoints, we.endpoint(uint16(p.Port), target))
			}
			t.out.Findings = append(t.out.Findings, r.findings...)
		}
	}
}

// targetOf says at which port a workload answers a Service's port.
func targetOf(p corev1.ServicePort, ports map[string]uint16) (uint16, bool) {
	if own, ok := ports[p.Name]; ok {
		return own, true
	}
	if p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "" {
		own, ok := ports[p.TargetPort.StrVal]
		return own, ok
	}
	if n := p.TargetPort.IntVal; n > 0 && n <= 65535 {
		return uint16(n), true
	}
	return uint16(p.Port), true
}

// serviceNames lists the known services, for suggestions.
func (t *translator) serviceNames() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(t.out.Snapshot.Services)) {
		out = append(out, string(name))
	}
	return out
}
