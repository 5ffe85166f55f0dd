package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// objects are ConfigMaps and Secrets by name.
type objects struct {
	maps    map[string]*corev1.ConfigMap
	secrets map[string]*corev1.Secret
}

func (o objects) ConfigMap(_, name string) (*corev1.ConfigMap, error) {
	if cm := o.maps[name]; cm != nil {
		return cm, nil
	}
	return nil, ErrNotFound
}

func (o objects) Secret(_, name string) (*corev1.Secret, error) {
	if s := o.secrets[name]; s != nil {
		return s, nil
	}
	return nil, ErrNotFound
}

const configured = `
spec:
  template:
    metadata: {labels: {app: music}}
    spec:
      initContainers:
      - name: prepare
        envFrom: [{configMapRef: {name: prepare}}]
      containers:
      - name: music
        envFrom: [{secretRef: {name: keys}}]
        env:
        - {name: A, valueFrom: {configMapKeyRef: {name: options, key: a}}}
        - {name: B, valueFrom: {secretKeyRef: {name: login, key: b}}}
      volumes:
      - {name: v1, configMap: {name: files}}
      - {name: v2, secret: {secretName: certificate}}
      - {name: v3, projected: {sources: [{configMap: {name: options}}, {secret: {name: token}}]}}
`

func TestWhatATemplateUses(t *testing.T) {
	dep := read[appsv1.Deployment](t, configured)
	want := []configRef{
		{configMapKind, "files"}, {configMapKind, "options"}, {configMapKind, "prepare"},
		{secretKind, "certificate"}, {secretKind, "keys"}, {secretKind, "login"}, {secretKind, "token"},
	}
	if diff := cmp.Diff(want, configsOf(&dep.Spec.Template), cmp.AllowUnexported(configRef{})); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
}

func TestWhatIsUsedBelongsToTheRevision(t *testing.T) {
	dep := read[appsv1.Deployment](t, configured)
	at := func() objects {
		return objects{
			maps:    map[string]*corev1.ConfigMap{"options": {Data: map[string]string{"a": "1"}}, "other": {Data: map[string]string{"a": "1"}}},
			secrets: map[string]*corev1.Secret{"login": {Data: map[string][]byte{"b": []byte("x")}}},
		}
	}
	base := RevisionOf(dep, at())
	f := func(what string, same bool, change func(objects)) {
		t.Helper()
		now := at()
		change(now)
		if got := RevisionOf(dep, now); (got == base) != same {
			t.Errorf("%s: revision %s, at first %s; want the same: %t", what, got, base, same)
		}
	}
	f("nothing", true, func(objects) {})
	f("an object that is not used", true, func(o objects) { o.maps["other"].Data["a"] = "2" })
	f("a value", false, func(o objects) { o.maps["options"].Data["a"] = "2" })
	f("a key", false, func(o objects) { o.maps["options"].Data["c"] = "" })
	f("bytes", false, func(o objects) { o.maps["options"].BinaryData = map[string][]byte{"a": {1}} })
	f("a secret", false, func(o objects) { o.secrets["login"].Data["b"] = []byte("y") })
	f("an object that comes", false, func(o objects) { o.secrets["token"] = &corev1.Secret{} })
	f("a cached secret, of which there is the sum alone", true, func(o objects) {
		cached, err := keepCertificates(o.secrets["login"])
		if err != nil {
			t.Fatal(err)
		}
		o.secrets["login"] = cached.(*corev1.Secret)
		if len(o.secrets["login"].Data) > 0 {
			t.Error("the cache holds the secret")
		}
	})

	for _, annotation := range []string{AnnotationConfigTracking, annotationFlaggerConfigTracking} {
		out := at()
		out.maps["options"].Annotations = map[string]string{annotation: "disabled"}
		before := RevisionOf(dep, out)
		out.maps["options"].Data["a"] = "2"
		if got := RevisionOf(dep, out); got != before {
			t.Errorf("with %s a changed value changes the revision", annotation)
		}
	}
	dep.Annotations = map[string]string{AnnotationConfigTracking: "disabled"}
	if got := RevisionOf(dep, at()); got != Revision(&dep.Spec.Template) {
		t.Errorf("a target that opts out has revision %s, want its template's", got)
	}
}

func TestACopysTemplateSaysWhatItRunsAndIsUndone(t *testing.T) {
	dep := read[appsv1.Deployment](t, configured)
	before := Revision(&dep.Spec.Template)
	on := dep.Spec.Template.DeepCopy()
	renameConfigs(on, func(r configRef) string { return r.name + "-stable" })
	on.Annotations = map[string]string{annotationRevision: "r7"}
	if got := Revision(on); got != "r7" {
		t.Errorf("revision of the copy = %s, want r7", got)
	}
	off := offCopies(on, "-stable")
	if got := Revision(off); got != before {
		t.Errorf("revision of what is handed back = %s, want that of the target, %s", got, before)
	}
	if diff := cmp.Diff(configsOf(&dep.Spec.Template), configsOf(off), cmp.AllowUnexported(configRef{})); diff != "" {
		t.Errorf("references handed back (-want +got):\n%s", diff)
	}
}
