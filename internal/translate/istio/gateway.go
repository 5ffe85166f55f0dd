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
	origin mesh.Origin
	name   string // "namespace/name"
	ports  map[uint16]*gatewayPort
}

// gatewayPort is what one port serves. All of it speaks one wire protocol.
type gatewayPort struct {
	wire wire
	http []serverHost // whose requests are routed
	tcp  []serverHost // whose connections are routed, after TLS has ended on a port with TLS
	sni  []serverHost // whose TLS connections are routed as they are
	tls  []mesh.ServerTLS
	path string // of the server that opened the port
}

// wire is what a caller says first on a port.
type wire string

const (
	plainHTTP wire = "HTTP"
	plainTCP  wire = "TCP"
	overTLS   wire = "TLS"
)

// serverHost is one host of a server, open to VirtualServices of a namespace
// ("" = of all).
type serverHost struct {
	namespace, host string
	redirect        bool // plain requests are sent to https
}

func (t *translator) gateway(o *istiov1.Gateway, r *report) gateway {
	g := gateway{origin: r.origin, name: o.Namespace + "/" + o.Name, ports: map[uint16]*gatewayPort{}}
	r.untranslated("spec", o.Spec.ProtoReflect(), gatewayFields(), func(field string) string {
		switch field {
		case "subjectAltNames", "verifyCertificateSpki", "verifyCertificateHash", "caCrl", "insecureSkipVerify":
			return "the hosts are not served, rather than to callers who should be refused"
		}
		return ""
	})
	if len(o.Spec.Servers) == 0 {
		r.errorf("spec.servers", "is empty: add a server with a port and hosts")
	}
	for i, s := range o.Spec.Servers {
		t.addServer(&g, s, at("spec.servers[%d]", i), o.Namespace, r)
	}
	return g
}

func (t *translator) addServer(g *gateway, s *networking.Server, path, namespace string, r *report) {
	number := s.GetPort().GetNumber()
	if number == 0 || number > math.MaxUint16 {
		r.errorf(path+".port.number", "%d is not in 1..65535", number)
		return
	}
	speaks, sound := wireOf(s, path, r)
	hosts := serverHosts(s, path, namespace, r)
	if !sound || len(hosts) == 0 {
		return
	}
	p := g.ports[uint16(number)]
	switch {
	case p == nil:
		p = &gatewayPort{wire: speaks, path: path}
		g.ports[uint16(number)] = p
	case p.wire != speaks:
		r.errorf(path+".port.protocol", "port %d speaks %s for %s already: one port speaks one protocol", number, p.wire, p.path)
		return
	}
	serves := slices.Concat(p.http, p.tcp, p.sni)
	hosts = slices.DeleteFunc(hosts, func(h serverHost) bool {
		twice := slices.ContainsFunc(serves, func(other serverHost) bool { return other.namespace == h.namespace && other.host == h.host })
		if twice {
			r.errorf(path+".hosts", "%q is listed twice on port %d: remove one", h.host, number)
		}
		return twice
	})
	serve, other := &p.http, p.tcp
	if speaks == plainTCP || speaks == overTLS && strings.ToUpper(s.Port.Protocol) != "HTTPS" {
		serve, other = &p.tcp, p.http
	}
	switch {
	case s.GetTls().GetMode() == networking.ServerTLSSettings_PASSTHROUGH && speaks == overTLS:
		serve = &p.sni
	case len(other) > 0:
		r.errorf(path, "port %d ends TLS for HTTPS and for TCP: give each a port of its own", number)
		return
	case speaks == overTLS && !t.endTLS(p, s.Tls, hosts, path+".tls", namespace, r):
		return
	}
	*serve = append(*serve, hosts...)
}

// wireOf says what a server's callers speak, and reports false when it cannot
// be opened.
func wireOf(s *networking.Server, path string, r *report) (wire, bool) {
	protocol := strings.ToUpper(s.Port.Protocol)
	switch protocol {
	case "HTTP", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "MONGO":
		if s.Tls != nil && !s.Tls.HttpsRedirect {
			r.errorf(path+".tls", "is set on a port without TLS: remove it, or make the protocol HTTPS")
			return "", false
		}
		if protocol == "GRPC-WEB" {
			r.warnf(path+".port.protocol", "GRPC-WEB is passed on as HTTP, and not made gRPC")
		}
		if protocol == "TCP" || protocol == "MONGO" {
			return plainTCP, true
		}
		return plainHTTP, true
	case "HTTPS", "TLS":
	default:
		r.errorf(path+".port.protocol", "%q is no protocol: use HTTP, HTTPS, HTTP2, GRPC, TCP or TLS", s.Port.Protocol)
		return "", false
	}
	switch mode := s.GetTls().GetMode(); {
	case s.Tls == nil:
		r.errorf(path+".tls", "is not set: say which certificate to show, or mode PASSTHROUGH")
	case s.Tls.HttpsRedirect:
		r.errorf(path+".tls.httpsRedirect", "is set on a port with TLS: set it on the HTTP port")
	case mode == networking.ServerTLSSettings_AUTO_PASSTHROUGH, mode == networking.ServerTLSSettings_ISTIO_MUTUAL:
		r.warnf(path+".tls.mode", "%s is not supported yet: the hosts are not served", mode)
	default:
		return overTLS, true
	}
	return "", false
}

func serverHosts(s *networking.Server, path, namespace string, r *report) []serverHost {
	if len(s.Hosts) == 0 {
		r.errorf(path+".hosts", `is empty: name the hosts to serve, or "*"`)
	}
	var out []serverHost
	for i, h := range s.Hosts {
		sh := serverHost{host: h, redirect: s.GetTls().GetHttpsRedirect()}
		if ns, host, scoped := strings.Cut(h, "/"); scoped {
			switch sh.namespace, sh.host = ns, host; ns {
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
		if slices.Contains(out, sh) {
			r.errorf(at("%s.hosts[%d]", path, i), "%q is listed twice: remove one", h)
			continue
		}
		out = append(out, sh)
	}
	return out
}

// hostsOf returns the hosts of a VirtualService that a server's hosts are open
// to: where one side has a wildcard, the narrower one. redirected are those
// whose plain requests are sent to https.
func hostsOf(servers []serverHost, vs *virtualService) (hosts []string, redirected map[string]bool) {
	redirected = map[string]bool{}
	for _, host := range vs.hosts {
		for _, sh := range servers {
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
			if !slices.Contains(hosts, narrow) {
				hosts = append(hosts, narrow)
			}
			redirected[narrow] = redirected[narrow] || sh.redirect
		}
	}
	return hosts, redirected
}
