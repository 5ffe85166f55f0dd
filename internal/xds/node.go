package xds

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"serin.dev/serin/internal/mesh"
)

// Node is a proxy as it describes itself when it connects. It is carried by
// the node of Envoy's protocol: ID and Place by its fields, the rest by its
// metadata under "serin.dev" (Message, NodeOf).
//
// A node is a gateway when it has Gateways, else a sidecar.
type Node struct {
	ID    string // unique among the proxies of a server
	Kind  Kind
	Place mesh.Place

	// Of a gateway.
	Gateways []GatewayListener

	// Of a sidecar.
	Caller    mesh.Caller      // whose calls it carries
	Service   mesh.ServiceName // under which its application is called, for the records of Inbounds
	Outbound  string           // address of the HTTP_PROXY listener; "" = none
	Inbounds  []Inbound
	Upstreams []Upstream

	// SystemCA is the file of the node's machine with the authorities that it
	// trusts, for TLS to services that name none. "" = DefaultSystemCA.
	SystemCA string
}

// Kind says which program a node is. The zero value is Envoy: one whose
// bootstrap somebody else wrote says nothing of it.
type Kind uint8

// The kinds.
const (
	Envoy Kind = iota
	Serin
)

// String names the kind as it is written in metadata.
func (k Kind) String() string {
	if k == Serin {
		return "serin"
	}
	return "envoy"
}

// DefaultSystemCA is where Debian, Ubuntu and Alpine keep the authorities, and
// where Envoy's own images have them.
const DefaultSystemCA = "/etc/ssl/certs/ca-certificates.crt"

// GatewayListener is where a gateway serves a port of the snapshot's Gateways.
type GatewayListener struct {
	Port    uint16
	Address string // ip:port
}

// Inbound is where callers outside of the mesh reach an application through
// its proxy.
type Inbound struct {
	Address     string // ip:port
	Application string // ip:port
}

// Upstream is a local address that stands for one port of a service, for
// applications that cannot use an HTTP proxy.
type Upstream struct {
	Address string // ip:port
	Service string // any way of writing it that a caller in the node's namespace may use
	Port    uint16
}

// Gateway reports whether the node takes traffic from outside of the mesh.
func (n *Node) Gateway() bool { return len(n.Gateways) > 0 }

// Validate reports what a node lacks to be served.
func (n *Node) Validate() error {
	if n.ID == "" {
		return fmt.Errorf("node: has no id")
	}
	if n.Gateway() && (n.Outbound != "" || len(n.Inbounds) > 0 || len(n.Upstreams) > 0) {
		return fmt.Errorf("node %s: is both gateway and sidecar; run one proxy for each", n.ID)
	}
	if !n.Gateway() && n.Outbound == "" && len(n.Inbounds) == 0 && len(n.Upstreams) == 0 {
		return fmt.Errorf("node %s: has no listener; give it a gateway, outbound, inbound or upstream address", n.ID)
	}
	seen := map[string]bool{}
	check := func(what, address string) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || at.Port() == 0 && n.Kind == Envoy {
			return fmt.Errorf("node %s: %s address %q is not ip:port", n.ID, what, address)
		}
		if at.Port() != 0 && seen[at.String()] {
			return fmt.Errorf("node %s: address %s is given twice", n.ID, address)
		}
		seen[at.String()] = true
		return nil
	}
	ports := map[uint16]bool{}
	for _, g := range n.Gateways {
		if g.Port == 0 || ports[g.Port] {
			return fmt.Errorf("node %s: gateway port %d is 0 or given twice", n.ID, g.Port)
		}
		ports[g.Port] = true
		if err := check("gateway", g.Address); err != nil {
			return err
		}
	}
	if n.Outbound != "" {
		if err := check("outbound", n.Outbound); err != nil {
			return err
		}
	}
	for _, in := range n.Inbounds {
		if err := check("inbound", in.Address); err != nil {
			return err
		}
		if _, err := netip.ParseAddrPort(in.Application); err != nil {
			return fmt.Errorf("node %s: application %q is not ip:port", n.ID, in.Application)
		}
	}
	for _, u := range n.Upstreams {
		if err := check("upstream", u.Address); err != nil {
			return err
		}
		if u.Service == "" || u.Port == 0 {
			return fmt.Errorf("node %s: upstream %s: service and port are required", n.ID, u.Address)
		}
	}
	return nil
}

// Message is the node as Envoy's protocol carries it.
func (n *Node) Message() *corev3.Node {
	f := fields{}
	f.setText("kind", n.Kind.String())
	f.setText("namespace", n.Caller.Workload.Namespace)
	f.setText("workload", n.Caller.Workload.Name)
	f.setText("version", n.Caller.Workload.Version)
	f.setText("revision", n.Caller.Workload.Revision)
	f.setText("pod", n.Caller.Workload.Pod)
	f.setTexts("labels", n.Caller.Labels)
	f.setText("service", string(n.Service))
	f.setText("outbound", n.Outbound)
	f.setText("systemCA", n.SystemCA)
	list := func(key string, items []fields) {
		var values []*structpb.Value
		for _, item := range items {
			values = append(values, structpb.NewStructValue(&structpb.Struct{Fields: item}))
		}
		if values != nil {
			f[key] = structpb.NewListValue(&structpb.ListValue{Values: values})
		}
	}
	var gateways, inbounds, upstreams []fields
	for _, g := range n.Gateways {
		item := fields{}
		item.setNumber("port", uint32(g.Port))
		item.setText("address", g.Address)
		gateways = append(gateways, item)
	}
	for _, in := range n.Inbounds {
		item := fields{}
		item.setText("address", in.Address)
		item.setText("application", in.Application)
		inbounds = append(inbounds, item)
	}
	for _, u := range n.Upstreams {
		item := fields{}
		item.setText("address", u.Address)
		item.setText("service", u.Service)
		item.setNumber("port", uint32(u.Port))
		upstreams = append(upstreams, item)
	}
	list("gateways", gateways)
	list("inbounds", inbounds)
	list("upstreams", upstreams)
	return &corev3.Node{
		Id:       n.ID,
		Cluster:  n.cluster(),
		Locality: encodePlace(n.Place),
		Metadata: &structpb.Struct{Fields: fields{metadataKey: structpb.NewStructValue(&structpb.Struct{Fields: f})}},
	}
}

// cluster is Envoy's word for the group of proxies that do the same.
func (n *Node) cluster() string {
	if n.Gateway() {
		return "gateway"
	}
	if w := n.Caller.Workload; w.Name != "" {
		return w.Name + "." + w.Namespace
	}
	return "sidecar"
}

// NodeOf reads what a proxy says of itself. The result is valid.
func NodeOf(m *corev3.Node) (Node, error) {
	f := fields(m.GetMetadata().GetFields()).fields(metadataKey)
	n := Node{
		ID:    m.GetId(),
		Place: decodePlace(m.GetLocality()),
		Caller: mesh.Caller{
			Workload: mesh.Workload{
				Namespace: f.text("namespace"), Name: f.text("workload"), Version: f.text("version"),
				Revision: f.text("revision"), Pod: f.text("pod"),
			},
			Labels: f.texts("labels"),
		},
		Service:  mesh.ServiceName(f.text("service")),
		Outbound: f.text("outbound"),
		SystemCA: f.text("systemCA"),
	}
	switch kind := f.text("kind"); kind {
	case "", Envoy.String():
	case Serin.String():
		n.Kind = Serin
	default:
		return Node{}, fmt.Errorf("node %s: unknown kind %q", n.ID, kind)
	}
	each := func(key string, take func(item fields, port uint16)) error {
		for i, v := range f[key].GetListValue().GetValues() {
			item := fields(v.GetStructValue().GetFields())
			port, err := item.number("port", 65535)
			if err != nil {
				return fmt.Errorf("node %s: %s %d: %w", n.ID, key, i, err)
			}
			take(item, uint16(port))
		}
		return nil
	}
	err := each("gateways", func(item fields, port uint16) {
		n.Gateways = append(n.Gateways, GatewayListener{Port: port, Address: item.text("address")})
	})
	if err == nil {
		err = each("inbounds", func(item fields, _ uint16) {
			n.Inbounds = append(n.Inbounds, Inbound{Address: item.text("address"), Application: item.text("application")})
		})
	}
	if err == nil {
		err = each("upstreams", func(item fields, port uint16) {
			n.Upstreams = append(n.Upstreams, Upstream{Address: item.text("address"), Service: item.text("service"), Port: port})
		})
	}
	if err == nil {
		err = n.Validate()
	}
	if err != nil {
		return Node{}, err
	}
	return n, nil
}

// servesPort reports whether a gateway has a listener for the port.
func (n *Node) servesPort(port uint16) bool {
	return slices.ContainsFunc(n.Gateways, func(g GatewayListener) bool { return g.Port == port })
}

func encodePlace(p mesh.Place) *corev3.Locality {
	if p == (mesh.Place{}) {
		return nil
	}
	return &corev3.Locality{Region: p.Region, Zone: p.Zone, SubZone: p.Subzone}
}

func decodePlace(l *corev3.Locality) mesh.Place {
	return mesh.Place{Region: l.GetRegion(), Zone: l.GetZone(), Subzone: l.GetSubZone()}
}

// socket makes Envoy's form of host:port. The host need not be an address
// where Envoy resolves names.
func socket(address string) (*corev3.Address, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q is not host:port", address)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" {
		return nil, fmt.Errorf("address %q is not host:port", address)
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       strings.Trim(host, "[]"),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(n)},
	}}}, nil
}
