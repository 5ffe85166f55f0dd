package equivalence

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	networking "istio.io/api/networking/v1alpha3"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/translate/istio"
	"serin.dev/serin/test/ports"
)

// snapshot makes the snapshot of a story, with endpoints of its own, and what
// the translation has found, one line each.
//
// "endpoints" has lines "SERVICE PORT PROTOCOL ENDPOINT…". An endpoint is a
// version, or VERSION/NAME where there are several of one; behind it may stand
// "@REGION/ZONE/SUBZONE", "!PRIORITY", "*WEIGHT", and ":closed" for a port at
// which nobody listens or ":full" for one at which nobody takes connections. The
// endpoint "v1" of reviews is called reviews-v1. "inbound" is the application
// behind the planes' inbound listeners. Each service has its versions as
// subsets, unless a DestinationRule says its own.
//
// "objects.yaml" has Istio's objects. "mesh" names what Istio cannot say; see
// adjustments.
func (s *suite) snapshot(t *testing.T, story *txtar.Archive) (snapshot *mesh.Snapshot, findings string) {
	s.newFleet(t)
	in := istio.Input{Version: 1, Endpoints: map[mesh.ServiceName][]mesh.Endpoint{}}
	var adjust []string
	for _, f := range story.Files {
		switch f.Name {
		case "endpoints":
			for line := range strings.Lines(string(f.Data)) {
				s.addService(t, &in, strings.Fields(line))
			}
		case "objects.yaml":
			addObjects(t, &in, f.Data)
		case "mesh":
			adjust = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
		}
	}
	addSubsets(&in)
	in.Secrets = s.pki.secrets(t)
	out := istio.Translate(in)
	var found strings.Builder
	for _, finding := range out.Findings {
		fmt.Fprintln(&found, finding)
	}
	snapshot = out.Snapshot
	if snapshot.Certificates == nil {
		snapshot.Certificates = map[string]*mesh.Certificate{}
	}
	for _, line := range adjust {
		words := strings.Fields(line)
		f := adjustments[words[0]]
		if f == nil {
			t.Fatalf("mesh: there is no adjustment %q", words[0])
		}
		f(partOf(snapshot, words[1:]))
	}
	return snapshot, found.String()
}

// partOf is the snapshot with some services alone; with all where none is named.
func partOf(s *mesh.Snapshot, names []string) *mesh.Snapshot {
	if len(names) == 0 {
		return s
	}
	part := *s
	part.Services = map[mesh.ServiceName]*mesh.Service{}
	for _, name := range names {
		full := mesh.ServiceName(mesh.CanonicalHost(name, "default"))
		part.Services[full] = s.Services[full]
	}
	return &part
}

// addService adds the service of a line of "endpoints", or one more port of it.
func (s *suite) addService(t *testing.T, in *istio.Input, words []string) {
	name, namespace, ok := strings.Cut(words[0], ".")
	if !ok {
		namespace = "default"
	}
	port, err := strconv.ParseUint(words[1], 10, 16)
	if err != nil {
		t.Fatalf("endpoints: %v: %v", words, err)
	}
	full := mesh.Name(namespace, name)
	at := slices.IndexFunc(in.Services, func(o *corev1.Service) bool { return o.Name == name && o.Namespace == namespace })
	if at < 0 {
		at = len(in.Services)
		in.Services = append(in.Services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}})
	}
	spec := &in.Services[at].Spec
	spec.Ports = append(spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("%s-%d", words[2], port), Port: int32(port)})
	for i, word := range words[3:] {
		if word == "inbound" {
			in.Endpoints[full] = append(in.Endpoints[full], s.inbound(uint16(port))...)
			continue
		}
		e := s.endpoint(t, name, namespace, word)
		e.Port = uint16(port)
		e.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(at), byte(i + 1)}), uint16(port))
		in.Endpoints[full] = append(in.Endpoints[full], e)
	}
}

func (s *suite) endpoint(t *testing.T, service, namespace, word string) mesh.Endpoint {
	var e mesh.Endpoint
	word, closed := strings.CutSuffix(word, ":closed")
	word, isFull := strings.CutSuffix(word, ":full")
	number := func(sep string) uint32 {
		rest, text, found := strings.Cut(word, sep)
		if word = rest; !found {
			return 0
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatalf("endpoint: %v", err)
		}
		return uint32(n)
	}
	e.Weight, e.Priority = number("*"), number("!")
	word, place, _ := strings.Cut(word, "@")
	e.Place.Region, place, _ = strings.Cut(place, "/")
	e.Place.Zone, e.Place.Subzone, _ = strings.Cut(place, "/")
	version, replica, several := strings.Cut(word, "/")
	if !several {
		replica = version
	}
	name := service + "-" + replica
	e.Labels = mesh.Labels{"app": service, "version": version}
	e.Workload = mesh.Workload{Namespace: namespace, Name: service + "-" + version, Version: version, Pod: name}
	switch {
	case closed:
		e.Dial = ports.Reserve(t)
	case isFull:
		e.Dial = ports.Full(t)
	default:
		e.Dial = s.fleet.start(name)
	}
	return e
}

// inbound is the application at the inbound address of each plane.
func (s *suite) inbound(port uint16) []mesh.Endpoint {
	var out []mesh.Endpoint
	for _, p := range s.parties {
		out = append(out, mesh.Endpoint{
			Port: port, Address: netip.MustParseAddrPort(p.address(inboundListener(port))), Dial: s.app.address,
			Labels: mesh.Labels{"app": "app", "version": "v1"}, Workload: appWorkload,
		})
	}
	return out
}

func addObjects(t *testing.T, in *istio.Input, data []byte) {
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := reader.Read()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var kind metav1.TypeMeta
		if err := sigsyaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.Kind {
		case "VirtualService":
			in.VirtualServices = append(in.VirtualServices, decode[istiov1.VirtualService](t, document))
		case "DestinationRule":
			in.DestinationRules = append(in.DestinationRules, decode[istiov1.DestinationRule](t, document))
		case "Gateway":
			in.Gateways = append(in.Gateways, decode[istiov1.Gateway](t, document))
		case "ServiceEntry":
			in.ServiceEntries = append(in.ServiceEntries, decode[istiov1.ServiceEntry](t, document))
		case "AuthorizationPolicy":
			in.AuthorizationPolicies = append(in.AuthorizationPolicies, decode[securityv1.AuthorizationPolicy](t, document))
		default:
			t.Fatalf("objects.yaml: kind %q", kind.Kind)
		}
	}
}

func decode[T any, P interface {
	*T
	metav1.Object
}](t *testing.T, document []byte) P {
	o := P(new(T))
	if err := sigsyaml.UnmarshalStrict(document, o); err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
	if o.GetNamespace() == "" {
		o.SetNamespace("default")
	}
	o.SetGeneration(1)
	return o
}

// addSubsets gives each service its versions as subsets where the story has no
// DestinationRule for it.
func addSubsets(in *istio.Input) {
	for _, svc := range in.Services {
		ruled := slices.ContainsFunc(in.DestinationRules, func(o *istiov1.DestinationRule) bool {
			return mesh.CanonicalHost(o.Spec.Host, o.Namespace) == svc.Name+"."+svc.Namespace && len(o.Spec.Subsets) > 0
		})
		if ruled {
			continue
		}
		var versions []string
		for _, e := range in.Endpoints[mesh.Name(svc.Namespace, svc.Name)] {
			if v := e.Labels["version"]; !slices.Contains(versions, v) {
				versions = append(versions, v)
			}
		}
		at := slices.IndexFunc(in.DestinationRules, func(o *istiov1.DestinationRule) bool {
			return mesh.CanonicalHost(o.Spec.Host, o.Namespace) == svc.Name+"."+svc.Namespace
		})
		if at < 0 {
			o := &istiov1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Name: svc.Name, Namespace: svc.Namespace, Generation: 1}}
			o.Spec.Host = svc.Name
			at, in.DestinationRules = len(in.DestinationRules), append(in.DestinationRules, o)
		}
		rule := in.DestinationRules[at]
		for _, v := range versions {
			rule.Spec.Subsets = append(rule.Spec.Subsets, &networking.Subset{Name: v, Labels: map[string]string{"version": v}})
		}
	}
}

// pki is an authority and what it signed.
type pki struct {
	ca       *x509.Certificate
	key      *ecdsa.PrivateKey
	pem      []byte
	roots    *x509.CertPool
	client   *tls.Certificate
	endpoint *tls.Config // of endpoints
	made     map[string]*mesh.Certificate
}

func newPKI(t testing.TB) *pki {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &pki{key: key, made: map[string]*mesh.Certificate{}, ca: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, p.ca, p.ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	p.pem = encodePEM("CERTIFICATE", der)
	p.roots = x509.NewCertPool()
	p.roots.AppendCertsFromPEM(p.pem)
	p.client = p.pair(t, "client.test")
	p.endpoint = &tls.Config{
		Certificates: []tls.Certificate{*p.pair(t, "inner.test", "raw.example.org")}, ClientCAs: p.roots, ClientAuth: tls.VerifyClientCertIfGiven,
		NextProtos: []string{"h2", "http/1.1"},
	}
	return p
}

// config is how callers speak TLS: they trust the authority.
func (p *pki) config() *tls.Config { return &tls.Config{RootCAs: p.roots} }

// file has the authority, for a program that asks its machine whom to trust.
func (p *pki) file(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "authorities.pem")
	if err := os.WriteFile(path, p.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// leaf makes a certificate for names, once.
func (p *pki) leaf(t testing.TB, names ...string) *mesh.Certificate {
	id := strings.Join(names, " ")
	if c := p.made[id]; c != nil {
		return c
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(p.made)) + 2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: p.ca.NotBefore, NotAfter: p.ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.ca, &key.PublicKey, p.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &mesh.Certificate{Chain: encodePEM("CERTIFICATE", der), Key: encodePEM("EC PRIVATE KEY", private)}
	p.made[id] = c
	return c
}

func (p *pki) pair(t testing.TB, names ...string) *tls.Certificate {
	c := p.leaf(t, names...)
	pair, err := tls.X509KeyPair(c.Chain, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// secrets are those that stories may refer to.
func (p *pki) secrets(t testing.TB) []*corev1.Secret {
	var out []*corev1.Secret
	add := func(name string, data map[string][]byte) {
		out = append(out, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: data})
	}
	for name, host := range map[string]string{"shop": "shop.example.org", "all": "*.example.org", "client": "client.test"} {
		c := p.leaf(t, host)
		add(name, map[string][]byte{"tls.crt": c.Chain, "tls.key": c.Key, "ca.crt": p.pem})
	}
	add("ca", map[string][]byte{"ca.crt": p.pem})
	return out
}

func encodePEM(kind string, der []byte) []byte {
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}) // memory takes all
	return b.Bytes()
}
