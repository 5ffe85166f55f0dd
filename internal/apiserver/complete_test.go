package apiserver

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestCompleteDoesWhatTheServerDoes(t *testing.T) {
	f := func(spec, want string) {
		t.Helper()
		obj := &unstructured.Unstructured{}
		text := "apiVersion: serin.dev/v1alpha1\nkind: Release\nmetadata: {name: music}\nspec: " + spec
		if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
			t.Fatal(err)
		}
		err := Complete("releases.serin.dev", obj)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want one that says %q", spec, err, want)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", spec, err)
		}
		if got, _, _ := unstructured.NestedString(obj.Object, "spec", "judge", "falseAlarm"); got != "0.001" {
			t.Errorf("%s: spec.judge.falseAlarm = %q, want its default", spec, got)
		}
	}
	f("{target: {name: music}, service: {port: 80}, steps: [10, 50]}", "")
	f("{target: {name: music}, service: {port: 80}, stepps: [10]}", `unknown field "spec.stepps"`)
	f("{target: {name: music}, service: {port: eighty}}", "spec.service.port")
	if err := Complete("musicians.serin.dev", &unstructured.Unstructured{}); err == nil {
		t.Error("a definition that there is not completes an object")
	}
}
