package istio_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/translate/istio"
)

// TestAnyObjectsGiveASnapshotThatIsValid fills Istio's objects at random, field
// by field: more often right than wrong, so that every part is reached.
func TestAnyObjectsGiveASnapshotThatIsValid(t *testing.T) {
	const services = `
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{port: 80}, {name: tcp, port: 81}]}
---
kind: Service
metadata: {name: b}
spec: {ports: [{port: 80}]}
---
kind: Secret
metadata: {name: good}
stringData: {tls.crt: $www.crt, tls.key: $www.key, ca.crt: $ca.crt}
`
	errors, routes := 0, 0
	for seed := range uint64(1000) {
		f := filler{rand.New(rand.NewPCG(seed, 3))}
		in := input(t, services, "", nil)
		for i := range 2 {
			meta := metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("x%d", i)}
			vs, dr, g := &istiov1.VirtualService{ObjectMeta: meta}, &istiov1.DestinationRule{ObjectMeta: meta}, &istiov1.Gateway{ObjectMeta: meta}
			se, we := &istiov1.ServiceEntry{ObjectMeta: meta}, &istiov1.WorkloadEntry{ObjectMeta: meta}
			if f.IntN(4) == 0 {
				vs.Annotations = map[string]string{istio.AnnotationRateLimit: f.text("")}
			}
			f.fill(vs.Spec.ProtoReflect(), 0)
			f.fill(dr.Spec.ProtoReflect(), 0)
			f.fill(g.Spec.ProtoReflect(), 0)
			f.fill(se.Spec.ProtoReflect(), 0)
			f.fill(we.Spec.ProtoReflect(), 0)
			in.VirtualServices, in.DestinationRules = append(in.VirtualServices, vs), append(in.DestinationRules, dr)
			in.Gateways, in.ServiceEntries, in.WorkloadEntries = append(in.Gateways, g), append(in.ServiceEntries, se), append(in.WorkloadEntries, we)
		}
		out := istio.Translate(in)
		if err := out.Snapshot.Validate(); err != nil {
			t.Fatalf("seed %d: Translate gives a snapshot that is refused: %v", seed, err)
		}
		bad := map[mesh.Origin]bool{}
		for _, finding := range istio.Errors(out.Findings) {
			bad[finding.Origin] = true
			if strings.Contains(finding.String(), "\n") {
				t.Errorf("seed %d: a finding has several lines: %q", seed, finding)
			}
		}
		for i := range in.VirtualServices {
			check(t, in.VirtualServices[i], bad)
			check(t, in.DestinationRules[i], bad)
			check(t, in.Gateways[i], bad)
			check(t, in.ServiceEntries[i], bad)
			check(t, in.WorkloadEntries[i], bad)
		}
		errors += len(bad)
		for _, vh := range out.Snapshot.Hosts {
			for i := range vh.Routes {
				if len(vh.Routes[i].Split) > 0 {
					routes++
				}
			}
		}
	}
	if errors < 1000 || routes < 100 {
		t.Errorf("%d objects with errors and %d routes that serve: the random objects are too much of one kind", errors, routes)
	}
}

type filler struct{ *rand.Rand }

func pick[T any](f filler, of ...T) T { return of[f.IntN(len(of))] }

// fill sets some fields of a message.
func (f filler) fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		always := fd.Name() == "hosts" || fd.Name() == "host" || fd.Name() == "destination" || fd.Name() == "port" || fd.Name() == "number" ||
			fd.Name() == "protocol" || fd.Name() == "http" || fd.Name() == "route" && depth < 3
		if !always && f.IntN(5) != 0 || depth > 7 {
			continue
		}
		switch {
		case fd.IsMap():
			entries := m.Mutable(fd).Map()
			for range f.IntN(3) {
				value := entries.NewValue()
				if fd.MapValue().Message() != nil {
					f.fill(value.Message(), depth+1)
				} else {
					value = f.scalar(fd.MapValue())
				}
				entries.Set(f.scalar(fd.MapKey()).MapKey(), value)
			}
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range 1 + f.IntN(2) {
				if fd.Message() == nil {
					list.Append(f.scalar(fd))
					continue
				}
				value := list.NewElement()
				f.fill(value.Message(), depth+1)
				list.Append(value)
			}
		case fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Duration":
			d := m.Mutable(fd).Message()
			d.Set(d.Descriptor().Fields().ByName("seconds"), protoreflect.ValueOfInt64(pick[int64](f, 0, 1, 5, 3600, -1, math.MaxInt64)))
			d.Set(d.Descriptor().Fields().ByName("nanos"), protoreflect.ValueOfInt32(pick[int32](f, 0, 0, 1_000_000, 1, -5)))
		case fd.Message() != nil:
			f.fill(m.Mutable(fd).Message(), depth+1)
		default:
			m.Set(fd, f.scalar(fd))
		}
	}
}

func (f filler) scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(f.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(f.IntN(fd.Enum().Values().Len()+1) * pick(f, 1, 1, 1, 1, 1, 30)))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(pick[int32](f, 0, 1, 10, 50, 100, 200, 503, -1, math.MaxInt32))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(pick[uint32](f, 80, 80, 80, 81, 443, 0, 1, 100, 301, 503, 65536, math.MaxUint32))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(pick[uint64](f, 0, 1, 251, 1024, math.MaxUint64))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(pick(f, 0, 0.1, 33.3333, 100, 100.1, -1, math.NaN(), math.Inf(1)))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(f.text("")))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(f.text(string(fd.Name())))
	default:
		panic("a kind of field that is new here: " + fd.Kind().String())
	}
}

// text makes a string that fits the field, or any.
func (f filler) text(field string) string {
	if f.IntN(8) > 0 {
		switch field {
		case "host", "hosts", "sni_hosts":
			return pick(f, "a", "b", "a.default.svc.cluster.local", "x.test", "*.test", "default/x.test")
		case "gateways":
			return pick(f, "mesh", "mesh", "x0", "default/x1")
		case "protocol":
			return pick(f, "HTTP", "HTTPS", "TCP", "TLS", "GRPC", "MONGO")
		case "credential_name", "credential_names":
			return "good"
		case "address":
			return pick(f, "127.0.0.9", "x.lan")
		case "locality", "from", "to":
			return pick(f, "eu", "eu/west", "eu/west/*", "*")
		case "retry_on":
			return pick(f, "5xx", "503,reset", "unavailable , connect-failure")
		case "uri", "prefix_rewrite", "path":
			return pick(f, "/x", "/")
		case "grpc_status":
			return "UNAVAILABLE"
		case "scheme":
			return "https"
		case "subset":
			return pick(f, "", "v1")
		}
	}
	return pick(f, "", "v1", "x-user", "X-User", "/a", "a b", "*", "*.a", "host", ":authority", ":path", "uri", "content-length",
		"(", "^/(.*)$", `\1`, `/\2`, "100/s", "5/m burst 9", "10.0.0.0/8", "%A%", "50%%", "é", "line\r\nbreak", "\x00", "a,b", ";", "unix:///x",
		strings.Repeat("x", 300))
}
