package kube

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Labels and annotations that Serin writes.
const (
	LabelRevision = "serin.dev/revision" // on pods: Revision of their template
	LabelRelease  = "serin.dev/release"  // on everything a Release owns: its name

	// LabelExperiment is on everything an Experiment owns: its name.
	LabelExperiment = "serin.dev/experiment"

	AnnotationAppAddress = "serin.dev/app-address" // on pods: host:port the application answers on
	AnnotationOutbound   = "serin.dev/outbound"    // on pods: host:port of the pod's outbound listener

	ownPrefix = "serin.dev/"
)

// IdentityLabels are the labels by which a Deployment selects its pods and
// which differ between a Deployment and its stable copy. Flagger knows the
// same three.
var IdentityLabels = []string{"app", "name", "app.kubernetes.io/name"}

// Revision names what a pod template runs: two templates have the same
// revision exactly when they differ in nothing but identity labels and Serin's
// own labels and annotations. It is a hash of 16 hexadecimal digits. The template
// of a copy that runs on copies of ConfigMaps says itself which one it runs.
func Revision(t *corev1.PodTemplateSpec) string {
	if of := t.Annotations[annotationRevision]; of != "" {
		return of
	}
	t = t.DeepCopy()
	for _, l := range IdentityLabels {
		delete(t.Labels, l)
	}
	for _, m := range []map[string]string{t.Labels, t.Annotations} {
		for k := range m {
			if strings.HasPrefix(k, ownPrefix) {
				delete(m, k)
			}
		}
	}
	if len(t.Labels) == 0 {
		t.Labels = nil
	}
	if len(t.Annotations) == 0 {
		t.Annotations = nil
	}
	data, err := json.Marshal(t)
	if err != nil {
		panic("kube: a pod template must marshal: " + err.Error())
	}
	h := fnv.New64a()
	h.Write(data)
	return fmt.Sprintf("%016x", h.Sum64())
}

// Version is the name people give to what a template runs: its version label,
// else the tag of the first container's image, else "".
func Version(t *corev1.PodTemplateSpec) string {
	if v := t.Labels["version"]; v != "" {
		return v
	}
	if len(t.Spec.Containers) == 0 {
		return ""
	}
	return imageTag(t.Spec.Containers[0].Image)
}

func imageTag(image string) string {
	image, _, _ = strings.Cut(image, "@")
	slash := strings.LastIndexByte(image, '/')
	if colon := strings.LastIndexByte(image, ':'); colon > slash {
		return image[colon+1:]
	}
	return ""
}
