package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"serin.dev/serin/internal/mesh"
)

// MeshObjects is what the API says about traffic at one moment. The objects
// are the caches' own: they must not be changed.
type MeshObjects struct {
	Services         []*corev1.Service
	VirtualServices  []*istiov1.VirtualService
	DestinationRules []*istiov1.DestinationRule
	Gateways         []*istiov1.Gateway
	ServiceEntries   []*istiov1.ServiceEntry
	WorkloadEntries  []*istiov1.WorkloadEntry
	Authorization    []*securityv1.AuthorizationPolicy
	Secrets          []*corev1.Secret                     // of certificates, without anything else
	Endpoints        map[mesh.ServiceName][]mesh.Endpoint // ready ones, from EndpointSlices
	Pods             []PodListeners
}

// PodListeners are the addresses at which a pod's side of the mesh answers.
type PodListeners struct {
	Workload mesh.Workload
	Labels   mesh.Labels
	Outbound string            // host:port, what HTTP_PROXY points to; "" = the pod has none
	Inbound  map[string]string // mesh address → the application's own address
	// Upstreams stand for services at the pod's own address, for applications
	// that cannot use an HTTP proxy.
	Upstreams []PodUpstream
}

// PodUpstream is one address at which a pod reaches one service.
type PodUpstream struct {
	Address netip.AddrPort
	Service mesh.ServiceName // its first port is meant
}

// MeshObjects reads the caches.
func (c *Client) MeshObjects() (*MeshObjects, error) {
	ci, ni := c.coreInformers, c.istioInformers.Networking().V1()
	all := labels.Everything()
	var m MeshObjects
	var err error
	read := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	read(func() (e error) { m.Services, e = ci.Core().V1().Services().Lister().List(all); return })
	read(func() (e error) { m.VirtualServices, e = ni.VirtualServices().Lister().List(all); return })
	read(func() (e error) { m.DestinationRules, e = ni.DestinationRules().Lister().List(all); return })
	read(func() (e error) { m.Gateways, e = ni.Gateways().Lister().List(all); return })
	read(func() (e error) { m.ServiceEntries, e = ni.ServiceEntries().Lister().List(all); return })
	read(func() (e error) { m.WorkloadEntries, e = ni.WorkloadEntries().Lister().List(all); return })
	si := c.istioInformers.Security().V1()
	read(func() (e error) { m.Authorization, e = si.AuthorizationPolicies().Lister().List(all); return })
	read(func() (e error) { m.Secrets, e = secretsWithData(ci.Core().V1().Secrets().Lister().List(all)); return })
	var podList []*corev1.Pod
	var sliceList []*discoveryv1.EndpointSlice
	var deployments []*appsv1.Deployment
	read(func() (e error) {
		deployments, e = c.coreInformers.Apps().V1().Deployments().Lister().List(all)
		return
	})
	read(func() (e error) { podList, e = ci.Core().V1().Pods().Lister().List(all); return })
	read(func() (e error) { sliceList, e = ci.Discovery().V1().EndpointSlices().Lister().List(all); return })
	if err != nil {
		return nil, fmt.Errorf("read the caches: %w", err)
	}
	pods := make(map[string]*corev1.Pod, len(podList))
	for _, p := range podList {
		pods[p.Namespace+"/"+p.Name] = p
		if l, ok := podListeners(p); ok {
			m.Pods = append(m.Pods, l)
		}
	}
	m.Endpoints = endpointsOf(m.Services, sliceList, pods, targetsHeld(deployments))
	return &m, nil
}

// WorkloadHosts are the addresses of WorkloadEntries that are names of hosts.
func (m *MeshObjects) WorkloadHosts() map[mesh.Origin]string {
	out := map[mesh.Origin]string{}
	for _, e := range m.WorkloadEntries {
		host := e.Spec.Address
		if _, err := netip.ParseAddr(host); err != nil && host != "" && !strings.ContainsAny(host, ":/*") {
			out[mesh.Origin{Kind: "WorkloadEntry", Namespace: e.Namespace, Name: e.Name}] = host
		}
	}
	return out
}

// endpointsOf lists the ready endpoints of each Service. The pods of a held target
// that end are the endpoints of a Service that has no others, as long as they
// serve: a route leads users to them, and is about to lead them elsewhere.
func endpointsOf(services []*corev1.Service, slicesOfAll []*discoveryv1.EndpointSlice, pods map[string]*corev1.Pod, held map[mesh.Workload]bool) map[mesh.ServiceName][]mesh.Endpoint {
	ports := map[mesh.ServiceName]map[string]uint16{} // by port name
	for _, s := range services {
		byName := map[string]uint16{}
		for _, p := range s.Spec.Ports {
			byName[p.Name] = uint16(p.Port)
		}
		ports[serviceName(s.Namespace, s.Name)] = byName
	}
	out, ending := map[mesh.ServiceName][]mesh.Endpoint{}, map[mesh.ServiceName][]mesh.Endpoint{}
	for _, sl := range slicesOfAll {
		name := serviceName(sl.Namespace, sl.Labels[discoveryv1.LabelServiceName])
		for _, ep := range sl.Endpoints {
			found := endpoints(sl, ep, ports[name], pods)
			switch is := ep.Conditions; {
			case is.Ready == nil || *is.Ready:
				out[name] = append(out[name], found...)
			case deref(is.Terminating) && deref(is.Serving) && len(found) > 0 && held[workloadKey(found[0].Workload)]:
				ending[name] = append(ending[name], found...)
			}
		}
	}
	for name, eps := range ending {
		if len(out[name]) == 0 {
			out[name] = eps
		}
	}
	for _, eps := range out {
		slices.SortFunc(eps, func(a, b mesh.Endpoint) int {
			if c := a.Address.Compare(b.Address); c != 0 {
				return c
			}
			return int(a.Port) - int(b.Port)
		})
	}
	return out
}

// endpoints returns one endpoint per port of the service. An endpoint whose pod
// is not in the cache yet is left out: without the pod its version is unknown,
// and the pod's arrival makes the next snapshot.
func endpoints(sl *discoveryv1.EndpointSlice, ep discoveryv1.Endpoint, servicePorts map[string]uint16, pods map[string]*corev1.Pod) []mesh.Endpoint {
	var pod *corev1.Pod
	if ep.TargetRef != nil && ep.TargetRef.Kind == "Pod" {
		if pod = pods[sl.Namespace+"/"+ep.TargetRef.Name]; pod == nil {
			return nil
		}
	}
	var out []mesh.Endpoint
	for _, p := range sl.Ports {
		if p.Port == nil {
			continue
		}
		number, ok := servicePorts[deref(p.Name)]
		if !ok {
			continue
		}
		for _, a := range ep.Addresses {
			addr, err := netip.ParseAddr(a)
			if err != nil {
				continue // a host name (address type FQDN) is no endpoint of ours
			}
			e := mesh.Endpoint{Port: number, Address: netip.AddrPortFrom(addr, uint16(*p.Port))}
			if pod != nil {
				e.Labels = pod.Labels
				e.Workload = WorkloadOf(pod)
				e.Place = placeOf(pod)
				e.Dial = appAddress(pod, e.Address.Port())
				if e.Dial == "" && pod.Annotations[AnnotationOutbound] != "" {
					continue // a local pod whose application was not found yet: its annotation makes the next snapshot
				}
			}
			out = append(out, e)
		}
	}
	return out
}

// labelLocality says where a pod is, as Istio reads it: "region.zone.subzone",
// of which the last ones may be absent. Labels have no slashes.
const labelLocality = "istio-locality"

func placeOf(p *corev1.Pod) mesh.Place {
	region, rest, _ := strings.Cut(p.Labels[labelLocality], ".")
	zone, subzone, _ := strings.Cut(rest, ".")
	return mesh.Place{Region: region, Zone: zone, Subzone: subzone}
}

func podListeners(p *corev1.Pod) (PodListeners, bool) {
	l := PodListeners{Workload: WorkloadOf(p), Labels: p.Labels, Outbound: p.Annotations[AnnotationOutbound]}
	ip, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil || l.Outbound == "" || p.DeletionTimestamp != nil && podDone(p) {
		return l, false
	}
	l.Upstreams = upstreamsOf(p, ip)
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			app := appAddress(p, uint16(port.ContainerPort))
			if app == "" {
				continue
			}
			if l.Inbound == nil {
				l.Inbound = map[string]string{}
			}
			l.Inbound[netip.AddrPortFrom(ip, uint16(port.ContainerPort)).String()] = app
		}
	}
	return l, true
}

// AnnotationUpstreams lists the services that a pod reaches at ports of its own
// address, in Consul's form: "currency:9091, rates.money:9092".
const AnnotationUpstreams = "consul.hashicorp.com/connect-service-upstreams"

// upstreamsOf reads the annotation; what is not "service:port" is left out, as
// node tells of it when it starts the pod.
func upstreamsOf(p *corev1.Pod, ip netip.Addr) []PodUpstream {
	list, err := ParseUpstreams(p.Annotations[AnnotationUpstreams])
	if err != nil {
		return nil
	}
	var out []PodUpstream
	for _, u := range list {
		out = append(out, PodUpstream{
			Address: netip.AddrPortFrom(ip, u.LocalPort),
			Service: mesh.ServiceName(mesh.CanonicalHost(u.Service, p.Namespace)),
		})
	}
	return out
}

// Upstream is one entry of AnnotationUpstreams.
type Upstream struct {
	Service   string // as written
	LocalPort uint16
}

// ParseUpstreams reads the value of AnnotationUpstreams. What Consul has behind
// the port (a datacenter) is not supported.
func ParseUpstreams(value string) ([]Upstream, error) {
	var out []Upstream
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		service, port, _ := strings.Cut(item, ":")
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || service == "" {
			return nil, fmt.Errorf("annotation %s: %q is not service:port, such as currency:9091", AnnotationUpstreams, item)
		}
		out = append(out, Upstream{service, uint16(n)})
	}
	return out, nil
}

func podDone(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// appAddress is where the application of a local pod answers for one of its
// container ports: the annotation holds "host:port" for the first container
// port and "port=host:port" for others, separated by commas. A pod that names
// no container port has one application for whatever port is asked for. ""
// means that the pod is dialled at its own address, as on a cluster.
func appAddress(p *corev1.Pod, containerPort uint16) string {
	first := firstContainerPort(p)
	for _, item := range strings.Split(p.Annotations[AnnotationAppAddress], ",") {
		port, addr, found := strings.Cut(item, "=")
		if !found {
			addr, port = port, first
		}
		if port == fmt.Sprint(containerPort) || first == "" {
			return addr
		}
	}
	return ""
}

func firstContainerPort(p *corev1.Pod) string {
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			return fmt.Sprint(port.ContainerPort)
		}
	}
	return ""
}

// WorkloadOf says which workload a pod belongs to: its Deployment, also where
// a ReplicaSet stands between them, else the pod itself.
func WorkloadOf(p *corev1.Pod) mesh.Workload {
	w := mesh.Workload{
		Namespace: p.Namespace,
		Name:      p.Name,
		Version:   p.Labels["version"],
		Revision:  p.Labels[LabelRevision],
		Pod:       p.Name,
	}
	if w.Version == "" && len(p.Spec.Containers) > 0 {
		w.Version = imageTag(p.Spec.Containers[0].Image)
	}
	if o := metav1.GetControllerOf(p); o != nil {
		w.Name = o.Name
		if o.Kind == "ReplicaSet" {
			w.Name = strings.TrimSuffix(o.Name, "-"+p.Labels["pod-template-hash"])
		}
	}
	return w
}

func serviceName(namespace, name string) mesh.ServiceName {
	return mesh.ServiceName(name + "." + namespace)
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
