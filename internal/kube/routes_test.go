package kube

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/internal/rollout"
	"serin.dev/serin/test/story"
)

// A story is a txtar archive: spec.yaml is that of a Release, traffic.json what
// the canary is to get, and the VirtualServices and DestinationRules that carry
// it are recorded, or the error.
func TestRoutes(t *testing.T) {
	story.EachArchive(t, "testdata/routes/*.txtar", func(t *testing.T, told *txtar.Archive) {
		d := release(t, story.Section(told, "spec.yaml"))
		d.Target.Revision = "5d9f"
		var want struct {
			rollout.Traffic
			Preview bool `json:"preview"`
		}
		if err := json.Unmarshal([]byte(story.Section(told, "traffic.json")), &want); err != nil {
			t.Fatal(err)
		}
		story.SetSection(told, "routes", playRoutes(t, d, want.Traffic, want.Preview))
	})
}

func playRoutes(t *testing.T, d *Delivery, want rollout.Traffic, preview bool) string {
	routes, err := routesFor(d, want, preview)
	if err != nil {
		return err.Error() + "\n"
	}
	rules, err := rulesFor(d)
	if err != nil {
		return err.Error() + "\n"
	}
	var out strings.Builder
	write := func(name string, spec json.Marshaler) {
		data, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		text, err := yaml.JSONToYAML(data)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "# %s\n%s", name, text)
	}
	for _, vs := range routes {
		if read := trafficOf(&vs.Spec, d.Names); read != want {
			t.Errorf("%s is read back as %+v, want %+v", vs.Name, read, want)
		}
		write(vs.Name, &vs.Spec)
	}
	for _, rule := range rules {
		write("DestinationRule "+rule.Name, &rule.Spec)
	}
	return out.String()
}

// Whatever share is asked for is the one that is read back.
func TestEveryShareIsReadBack(t *testing.T) {
	d := release(t, "  target: {name: music}\n  service: {port: 80}")
	for share := rollout.Share(0); share <= rollout.All; share++ {
		routes, err := routesFor(d, rollout.Traffic{Share: share}, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := trafficOf(&routes[0].Spec, d.Names).Share; got != share {
			t.Fatalf("%v is read back as %v", share, got)
		}
	}
}

// A Service of the Release has the port that is asked for, and with discovery
// those of the containers that it does not have yet.
func TestPortsOfServices(t *testing.T) {
	d := release(t, "  target: {name: music}\n  service: {port: 80, portName: grpc-api, appProtocol: grpc, targetPort: api}")
	served := servicePort(&d.Release.Spec.Service)
	pod := &corev1.PodSpec{Containers: []corev1.Container{{Name: "music", Ports: []corev1.ContainerPort{
		{Name: "api", ContainerPort: 8080},
		{Name: "metrics", ContainerPort: 9090},
		{ContainerPort: 9091},
		{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP},
		{Name: "plain", ContainerPort: 80},
	}}}}
	var got []string
	for _, p := range append([]corev1.ServicePort{served}, otherPorts(served, pod)...) {
		got = append(got, fmt.Sprintf("%s %d->%s", p.Name, p.Port, p.TargetPort.String()))
	}
	want := []string{"grpc-api 80->api", "metrics 9090->9090", "tcp-music-2 9091->9091"}
	if diff := cmp.Diff(want, got); diff != "" || *served.AppProtocol != "grpc" {
		t.Errorf("ports, protocol %v (-want +got):\n%s", served.AppProtocol, diff)
	}
}
