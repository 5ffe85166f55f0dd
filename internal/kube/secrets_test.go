package kube

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"serin.dev/serin/internal/mesh"
)

// TestOnlyCertificatesAreHeld: passwords of applications are nobody's business
// here, nor is the copy of them that kubectl keeps in an annotation.
func TestOnlyCertificatesAreHeld(t *testing.T) {
	certificate := read[corev1.Secret](t, `
metadata: {name: shop, namespace: default, annotations: {kubectl.kubernetes.io/last-applied-configuration: "password"}}
data: {tls.crt: Y2hhaW4=, tls.key: a2V5, password: cGFzc3dvcmQ=}
`)
	password := read[corev1.Secret](t, `
metadata: {name: db, namespace: default}
data: {password: cGFzc3dvcmQ=}
`)
	var held []*corev1.Secret
	for _, s := range []*corev1.Secret{certificate, password} {
		kept, err := keepCertificates(s)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, kept.(*corev1.Secret))
	}
	for _, s := range held {
		if strings.Contains(s.String(), "password") {
			t.Errorf("%s is held with its password", s.Name)
		}
	}
	list, err := secretsWithData(held, nil)
	if err != nil || len(list) != 1 || string(list[0].Data["tls.key"]) != "key" {
		t.Errorf("secretsWithData = %v, %v; want the certificate", list, err)
	}
	gone := cache.DeletedFinalStateUnknown{Key: "default/db"}
	if kept, err := keepCertificates(gone); err != nil || kept != any(gone) {
		t.Errorf("keepCertificates(%v) = %v, %v", gone, kept, err)
	}
}

// TestASecretIsHeldOnce: a cache that begins with a list applies its transform
// to each object twice.
func TestASecretIsHeldOnce(t *testing.T) {
	for name, s := range map[string]string{
		"a password": `
metadata: {name: db, namespace: default, creationTimestamp: "2026-01-01T00:00:00Z"}
data: {password: cGFzc3dvcmQ=}
`,
		"one that claims to be held": `
metadata: {name: db, namespace: default, creationTimestamp: "2026-01-01T00:00:00Z", annotations: {serin.dev/sum: "0"}}
data: {password: cGFzc3dvcmQ=}
`,
	} {
		live := read[corev1.Secret](t, s)
		dep := read[appsv1.Deployment](t, configured)
		want := RevisionOf(dep, objects{secrets: map[string]*corev1.Secret{"login": live}})
		var held any = live
		for pass := range 2 {
			var err error
			if held, err = keepCertificates(held); err != nil {
				t.Fatal(err)
			}
			s := held.(*corev1.Secret)
			if got := RevisionOf(dep, objects{secrets: map[string]*corev1.Secret{"login": s}}); got != want {
				t.Errorf("%s: revision after pass %d = %s, want that of the live one, %s", name, pass+1, got, want)
			}
			if len(s.Data) > 0 {
				t.Errorf("%s: its data is held", name)
			}
		}
	}
}

func TestALabelSaysWhereAPodIs(t *testing.T) {
	var got []mesh.Place
	for _, label := range []string{"", "eu", "eu.west", "eu.west.rack1"} {
		p := &corev1.Pod{}
		p.Labels = map[string]string{labelLocality: label}
		got = append(got, placeOf(p))
	}
	want := []mesh.Place{{}, {Region: "eu"}, {Region: "eu", Zone: "west"}, {Region: "eu", Zone: "west", Subzone: "rack1"}}
	if !slices.Equal(got, want) {
		t.Errorf("places (-want +got):\n%s", cmp.Diff(want, got))
	}
}
