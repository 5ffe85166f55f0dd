package node

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func TestExpansionIsKubernetesOwn(t *testing.T) {
	vars := map[string]string{"A": "1", "B": "$(A)", "EMPTY": ""}
	for in, want := range map[string]string{
		"plain":         "plain",
		"$(A)":          "1",
		"x$(A)y$(A)z":   "x1y1z",
		"$(B)":          "$(A)", // once, not again
		"$(EMPTY)":      "",
		"$(NOPE)":       "$(NOPE)",
		"$$(A)":         "$(A)",
		"$$$(A)":        "$1",
		"$A ${A}":       "$A ${A}", // that is for shells
		"$(A":           "$(A",
		"ends with $":   "ends with $",
		"$(NOPE) $(A)":  "$(NOPE) 1",
		"price: $$5 $x": "price: $5 $x",
	} {
		if got := expand(in, vars); got != want {
			t.Errorf("expand(%q) = %q; want %q", in, got, want)
		}
	}
}

// memory holds ConfigMaps and Secrets by name.
type memory struct {
	maps    map[string]map[string]string
	secrets map[string]map[string][]byte
}

func (m memory) configMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	if data, ok := m.maps[name]; ok {
		return &corev1.ConfigMap{Data: data}, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("configmaps"), name)
}

func (m memory) secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	if data, ok := m.secrets[name]; ok {
		return &corev1.Secret{Data: data}, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
}

// testEnvironment is one of a container in YAML.
func testEnvironment(t *testing.T, container string) *environment {
	t.Helper()
	var c corev1.Container
	if err := yaml.UnmarshalStrict([]byte(container), &c); err != nil {
		t.Fatal(err)
	}
	return &environment{
		base:  map[string]string{"PATH": "/bin"},
		image: map[string]string{"SERIN_VERSION": "v7"},
		pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "music-1", Namespace: "shop", UID: "u1", Labels: map[string]string{"team": "a"}},
			Spec:       corev1.PodSpec{NodeName: "here", Containers: []corev1.Container{c}},
		},
		container: &c,
		podIP:     "127.20.0.1",
		hostIP:    "127.0.0.1",
		ports:     portMap{main: 18001, private: map[int32]int{8080: 18001, 9090: 18002, 7070: 18003}},
		outbound:  "127.20.0.1:15001",
		services: []*corev1.Service{{
			ObjectMeta: metav1.ObjectMeta{Name: "user-db"},
			Spec:       corev1.ServiceSpec{ClusterIP: "127.20.240.9", Ports: []corev1.ServicePort{{Name: "main", Port: 30002}}},
		}},
		marker: "SERIN_NODE=n/u1/app/",
		configs: memory{
			maps:    map[string]map[string]string{"settings": {"color": "red", "not a name": "x", "PORT": "1"}},
			secrets: map[string]map[string][]byte{"login": {"password": []byte("s3cret")}},
		},
	}
}

func TestTheEnvironmentHasWhatTheSpecSaysAndWhatAProcessNeeds(t *testing.T) {
	e := testEnvironment(t, `
name: app
image: shop/app:v3
ports: [{containerPort: 8080, name: http}, {containerPort: 9090, name: admin-api}, {containerPort: 7070}]
resources: {limits: {cpu: 1500m, memory: 64Mi}}
envFrom: [{configMapRef: {name: settings}, prefix: CFG_}, {configMapRef: {name: settings}}, {secretRef: {name: gone, optional: true}}]
env:
- {name: PLAIN, value: "on $(PORT) at $(POD_IP) via $(USER_DB_SERVICE_HOST)"}
- {name: LATER, value: "$(PLAIN)!"}
- {name: EARLY, value: "$(AFTERWARDS)"}
- {name: AFTERWARDS, value: x}
- {name: PORT, value: "8080"}
- {name: POD_NAMESPACE, value: mine}
- {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: TEAM, valueFrom: {fieldRef: {fieldPath: "metadata.labels['team']"}}}
- {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
- {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
- {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
- {name: SHAPE, valueFrom: {configMapKeyRef: {name: settings, key: shape, optional: true}}}
- {name: PASSWORD, valueFrom: {secretKeyRef: {name: login, key: password}}}
`)
	got, err := e.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"PATH": "/bin", "SERIN_NODE": "n/u1/app/", "SERIN_VERSION": "v7",
		"POD_IP": "127.20.0.1", "POD_NAME": "music-1", "POD_NAMESPACE": "mine",
		"PORT": "18001", "PORT_HTTP": "18001", "PORT_ADMIN_API": "18002", "PORT_7070": "18003",
		"HTTP_PROXY": "http://127.20.0.1:15001", "http_proxy": "http://127.20.0.1:15001",
		"USER_DB_SERVICE_HOST": "127.20.240.9", "USER_DB_SERVICE_PORT": "30002", "USER_DB_SERVICE_PORT_MAIN": "30002",
		"CFG_color": "red", "CFG_PORT": "1", "color": "red",
		"PLAIN": "on 18001 at 127.20.0.1 via 127.20.240.9", "LATER": "on 18001 at 127.20.0.1 via 127.20.240.9!",
		"EARLY": "$(AFTERWARDS)", "AFTERWARDS": "x",
		"NAME": "music-1", "TEAM": "a", "IP": "127.20.0.1", "CPU": "2", "MEMORY": "67108864",
		"COLOR": "red", "PASSWORD": "s3cret",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestAVariableThatCannotBeMadeIsNamed(t *testing.T) {
	for container, want := range map[string]string{
		"{name: app, env: [{name: A, valueFrom: {configMapKeyRef: {name: none, key: k}}}]}":     `variable A: configmaps "none" not found`,
		"{name: app, env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: k}}}]}": `variable A: ConfigMap "settings" has no key "k"`,
		"{name: app, env: [{name: A, valueFrom: {secretKeyRef: {name: login, key: k}}}]}":       `variable A: Secret "login" has no key "k"`,
		"{name: app, env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.color}}}]}":         `variable A: unknown fieldPath "spec.color"`,
		"{name: app, env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]}":  `variable A: container app sets no resources.limits.cpu`,
		"{name: app, env: [{name: A, valueFrom: {}}]}":                                          `variable A: its valueFrom is not supported`,
		"{name: app, envFrom: [{secretRef: {name: none}}]}":                                     `secrets "none" not found`,
	} {
		_, err := testEnvironment(t, container).build(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v; want %s", container, err, want)
		}
	}
}

func TestAnImageStandsForTheFirstMappingThatMatches(t *testing.T) {
	mappings := []ImageMapping{
		{Image: "cart", Command: []string{"cart"}},
		{Image: "shop/*:beta", Command: []string{"beta", "{name}"}},
		{Image: "shop/*", Command: []string{"serin", "demoapp", "{name}"}, Env: map[string]string{"SERIN_VERSION": "{tag}", "FROM": "{image}"}},
	}
	for _, c := range []struct {
		container corev1.Container
		command   []string
		env       map[string]string
	}{
		{corev1.Container{Image: "shop/music:v2"}, []string{"serin", "demoapp", "music"}, map[string]string{"SERIN_VERSION": "v2", "FROM": "shop/music:v2"}},
		{corev1.Container{Image: "shop/music:v2@sha256:0", Args: []string{"-v"}}, []string{"serin", "demoapp", "music", "-v"}, map[string]string{"SERIN_VERSION": "v2", "FROM": "shop/music:v2@sha256:0"}},
		{corev1.Container{Image: "shop/music:beta"}, []string{"beta", "music"}, map[string]string{}},
		{corev1.Container{Image: "shop/music"}, []string{"serin", "demoapp", "music"}, map[string]string{"SERIN_VERSION": "latest", "FROM": "shop/music"}},
		{corev1.Container{Image: "shop/music:v2", Command: []string{"own"}, Args: []string{"a"}}, []string{"own", "a"}, map[string]string{"SERIN_VERSION": "v2", "FROM": "shop/music:v2"}},
		{corev1.Container{Image: "other:5000/shop/music:v2"}, nil, nil},
		{corev1.Container{Image: "other:5000/any/cart:v2"}, []string{"cart"}, map[string]string{}},
		{corev1.Container{Image: "other:5000/cart/any:v2"}, nil, nil},
		{corev1.Container{Image: "nginx", Args: []string{"-v"}}, nil, nil},
	} {
		command, env := resolve(mappings, &c.container)
		if diff := cmp.Diff(c.command, command); diff != "" {
			t.Errorf("command of %s (-want +got):\n%s", c.container.Image, diff)
		}
		if diff := cmp.Diff(c.env, env); diff != "" {
			t.Errorf("environment of %s (-want +got):\n%s", c.container.Image, diff)
		}
	}
}
