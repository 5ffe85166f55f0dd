package istio

import (
	"math"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"

	"serin.dev/serin/internal/mesh"
)

// gateway is a Gateway translated: what it serves on each port.
type gateway struct {
	name  string // "namespace/name"
	ports map[uint16][]serverHost
}

// serverHost is one host of a server, open to VirtualServices of a namespace
// ("" = of all).
type serverHost struct {
	namespace, host string
}

func gatewayOf(o *istiov1.Gateway, r *report) gateway {
	g := gateway{name: o.Namespace + "/" + o.Name, ports: map[uint16][]serverHost{}}
	r.untranslated("spec", o.Spec.ProtoReflect(), gatewayFields(), noConsequence)
	if len(o.Spec.Servers) == 0 {
		r.errorf("spec.servers", "is empty: add a server with a port and hosts")
	}
	for i, s := range o.Spec.Servers {
		g.addServer(s, at("spec.servers[%d]", i), o.Namespace, r)
	}
	return g
}

func (g *gateway) addServer(s *networking.Server, path, namespace string, r *report) {
	number := s.GetPort().GetNumber()
	if number == 0 || number > math.MaxUint16 {
		r.errorf(path+".port.number", "%d is not in 1..65535", number)
		return
	}
	switch protocol := strings.ToUpper(s.Port.Protocol); protocol {
	case "HTTP":
	case "HTTP2", "GRPC", "GRPC-WEB":
		r.warnf(path+".port.protocol", "%s is not supported yet: the port speaks HTTP/1.1", protocol)
	case "HTTPS", "TCP", "TLS", "MONGO":
		r.warnf(path+".port.protocol", "%s is not supported yet: the port is not opened; use HTTP", protocol)
		return
	default:
		r.errorf(path+".port.protocol", "%q is no protocol: use HTTP", s.Port.Protocol)
		return
	}
	if s.Tls != nil && !s.Tls.HttpsRedirect {
		r.errorf(path+".tls", "is set on an HTTP port: remove it")
		return
	}
	port := uint16(number)
	if len(s.Hosts) == 0 {
		r.errorf(path+".hosts", `is empty: name the hosts to serve, or "*"`)
	}
	for i, h := range s.Hosts {
		sh := serverHost{host: h}
		if ns, host, scoped := strings.Cut(h, "/"); scoped {
			switch sh = (serverHost{ns, host}); ns {
			case ".":
				sh.namespace = namespace
			case "*":
				sh.namespace = ""
			}
		}
		sh.host = mesh.CanonicalHost(sh.host, "")
		if err := mesh.CheckHost(sh.host); err != nil {
			r.errorf(at("%s.hosts[%d]", path, i), "%q %v", h, err)
			continue
		}
		if slices.Contains(g.ports[port], sh) {
			r.errorf(at("%s.hosts[%d]", path, i), "%q is listed twice on port %d: remove one", h, port)
			continue
		}
		g.ports[port] = append(g.ports[port], sh)
	}
}

// hostsOf returns the hosts of a VirtualService that the gateway serves on a
// port: where one side has a wildcard, the narrower one.
func (g *gateway) hostsOf(vs *virtualService, port uint16) []string {
	var out []string
	for _, host := range vs.hosts {
		for _, sh := range g.ports[port] {
			if sh.namespace != "" && sh.namespace != vs.origin.Namespace {
				continue
			}
			narrow := ""
			switch {
			case mesh.HostMatches(sh.host, host):
				narrow = host
			case mesh.HostMatches(host, sh.host):
				narrow = sh.host
			default:
				continue
			}
			if !slices.Contains(out, narrow) {
				out = append(out, narrow)
			}
		}
	}
	return out
}
