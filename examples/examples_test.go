package examples_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/examples"
	"serin.dev/serin/internal/demoapp"
	"serin.dev/serin/internal/load"
	"serin.dev/serin/internal/node"
	"serin.dev/serin/internal/translate/flagger"
)

// objects returns the manifests of a file, each decoded strictly into its type.
func objects(t *testing.T, file string) []any {
	t.Helper()
	data, err := fs.ReadFile(examples.Files, file)
	if err != nil {
		t.Fatal(err)
	}
	var out []any
	for i, doc := range bytes.Split(data, []byte("\n---\n")) {
		var meta struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &meta); err != nil {
			t.Fatalf("%s: object %d: %v", file, i+1, err)
		}
		obj, ok := map[string]any{
			"v1/Service":                             &corev1.Service{},
			"v1/ConfigMap":                           &corev1.ConfigMap{},
			"apps/v1/Deployment":                     &appsv1.Deployment{},
			"networking.istio.io/v1/DestinationRule": &istiov1.DestinationRule{},
			"networking.istio.io/v1/Gateway":         &istiov1.Gateway{},
			"networking.istio.io/v1/VirtualService":  &istiov1.VirtualService{},
			"serin.dev/v1alpha1/Release":             &v1alpha1.Release{},
			"serin.dev/v1alpha1/Experiment":          &v1alpha1.Experiment{},
			"flagger.app/v1beta1/Canary":             &flaggerv1.Canary{},
		}[meta.APIVersion+"/"+meta.Kind]
		if !ok {
			t.Fatalf("%s: object %d: no type for %s %s", file, i+1, meta.APIVersion, meta.Kind)
		}
		if err := yaml.UnmarshalStrict(doc, obj); err != nil {
			t.Fatalf("%s: object %d: %v", file, i+1, err)
		}
		out = append(out, obj)
	}
	return out
}

func manifests(t *testing.T) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(examples.Files, ".", func(name string, _ fs.DirEntry, err error) error {
		if path.Ext(name) == ".yaml" || path.Ext(name) == ".yml" {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no manifests embedded")
	}
	return files
}

func TestManifestsHoldNoUnknownFields(t *testing.T) {
	for _, file := range manifests(t) {
		objects(t, file) // fails the test
	}
}

func TestEveryImageIsBuiltIn(t *testing.T) {
	for _, file := range manifests(t) {
		for _, obj := range objects(t, file) {
			d, ok := obj.(*appsv1.Deployment)
			if !ok {
				continue
			}
			for _, c := range d.Spec.Template.Spec.Containers {
				if len(c.Command) > 0 {
					continue // it says itself what runs
				}
				if !slices.ContainsFunc(demoapp.Images(), func(i demoapp.Image) bool { return node.ImageMapping{Image: i.Pattern}.Matches(c.Image) }) {
					t.Errorf("%s: no program for image %s", file, c.Image)
				}
			}
		}
	}
}

func TestCanaryOfReviewsIsRunWithoutFindings(t *testing.T) {
	canary := objects(t, "reviews/reviews-canary.yaml")[0].(*flaggerv1.Canary)
	if _, findings := flagger.Release(canary); len(findings) > 0 {
		t.Errorf("findings %v; want none", findings)
	}
	cmd := (*canary.Spec.Analysis.Webhooks[0].Metadata)["cmd"]
	if _, err := load.ParseHey(cmd); err != nil {
		t.Errorf("its load test cannot be run: %v", err)
	}
}

// A route to a subset that no DestinationRule defines, or that no pod belongs
// to, has nobody to answer.
func TestRoutesOfBookinfoLeadToPods(t *testing.T) {
	subsets, pods := map[string]map[string]string{}, []map[string]string{}
	for _, obj := range append(objects(t, "bookinfo/destination-rules.yaml"), objects(t, "bookinfo/bookinfo.yaml")...) {
		switch o := obj.(type) {
		case *istiov1.DestinationRule:
			for _, s := range o.Spec.Subsets {
				subsets[o.Spec.Host+" "+s.Name] = s.Labels
			}
		case *appsv1.Deployment:
			pods = append(pods, o.Spec.Template.Labels)
		}
	}
	routes := 0
	for _, file := range manifests(t) {
		if !strings.HasPrefix(file, "bookinfo/exercises/") {
			continue
		}
		for _, obj := range objects(t, file) {
			for _, http := range obj.(*istiov1.VirtualService).Spec.Http {
				for _, route := range http.Route {
					routes++
					host, subset := route.Destination.Host, route.Destination.Subset
					version := subsets[host+" "+subset]["version"]
					if version == "" || !slices.ContainsFunc(pods, func(l map[string]string) bool { return l["app"] == host && l["version"] == version }) {
						t.Errorf("%s: no pods for subset %q of %s", file, subset, host)
					}
				}
			}
		}
	}
	if routes == 0 {
		t.Error("no routes in bookinfo/exercises")
	}
}

// A version must change the pods alone: another selector or port would make
// kubectl apply fail or the service unreachable.
func TestVersionsDifferFromTheFirstInTheirPodsOnly(t *testing.T) {
	first := map[string]string{}
	for _, file := range manifests(t) {
		for _, obj := range objects(t, file) {
			d, ok := obj.(*appsv1.Deployment)
			if !ok {
				continue
			}
			c := d.Spec.Template.Spec.Containers[0]
			key := path.Join(strings.Split(file, "/")[0], d.Name)
			shape := fmt.Sprint(d.Spec.Selector, d.Spec.Replicas, c.Name, c.Ports)
			if first[key] == "" {
				first[key] = shape
			} else if first[key] != shape {
				t.Errorf("%s: deployment %s has %s; its first version %s", file, d.Name, shape, first[key])
			}
		}
	}
}

func TestReadmesNameFilesThatExist(t *testing.T) {
	for _, dir := range []string{"bookinfo", "music", "reviews"} {
		data, err := fs.ReadFile(examples.Files, dir+"/README.md")
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, word := range strings.Fields(string(data)) {
			name, ok := strings.CutPrefix(word, "examples/")
			if !ok {
				continue
			}
			named++
			if _, err := fs.Stat(examples.Files, name); err != nil {
				t.Errorf("%s/README.md: %v", dir, err)
			}
		}
		if named == 0 {
			t.Errorf("%s/README.md names no file of examples/", dir)
		}
	}
}
