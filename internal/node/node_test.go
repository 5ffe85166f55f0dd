package node

import (
	"io"
	"net/http"
	"os"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kubectl/pkg/util/podutils"

	"serin.dev/serin/internal/kube"
)

// deployment is one that runs a program of the test binary.
func deployment(name string, replicas int32, args ...string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name:    name,
					Image:   "example.org/" + name + ":v1",
					Command: append([]string{os.Args[0], "program"}, args...),
					Ports:   []corev1.ContainerPort{{Name: "http", ContainerPort: 9080}},
				}}},
			},
		},
	}
}

func service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestADeploymentBecomesReadyPodsBehindItsService(t *testing.T) {
	m := newMachine(t, nil)
	ctx := t.Context()
	if _, err := m.client.CoreV1().Services("default").Create(ctx, service("music"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.client.AppsV1().Deployments("default").Create(ctx, deployment("music", 2, "serve"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	m.awaitDeployment("two available replicas", func(d appsv1.Deployment) bool { return d.Status.AvailableReplicas == 2 })
	slices := m.awaitSlices("two ready endpoints", func(ss []discoveryv1.EndpointSlice) bool {
		return len(ss) == 1 && len(ss[0].Endpoints) == 2 && *ss[0].Endpoints[0].Conditions.Ready && *ss[0].Endpoints[1].Conditions.Ready
	})
	if got := *slices[0].Ports[0].Port; got != 9080 {
		t.Errorf("port of the slice = %d; want 9080, the containerPort", got)
	}
	pods := m.awaitPods("two ready pods", func(ps []corev1.Pod) bool {
		return len(ps) == 2 && podutils.IsPodReady(&ps[0]) && podutils.IsPodReady(&ps[1])
	})
	if pods[0].Status.PodIP == pods[1].Status.PodIP {
		t.Errorf("both pods have the address %s", pods[0].Status.PodIP)
	}
	for _, o := range pods {
		if got := get(t, "http://"+o.Annotations[kube.AnnotationAppAddress]+"/env/POD_NAME"); got != o.Name {
			t.Errorf("POD_NAME = %q; want %q", got, o.Name)
		}
	}
}
