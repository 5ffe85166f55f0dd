package kube

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
