package kube

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/internal/translate/istio"
)

// keepCertificates is applied to what the cache of Secrets is given: it keeps
// what may be a certificate, and a sum by which a change is seen, so that no other
// secret of the users is held in memory. What it made it leaves as it is, because
// a cache applies it twice to the objects that it begins with.
func keepCertificates(o any) (any, error) {
	s, ok := o.(*corev1.Secret)
	if !ok {
		return o, nil // the note that an object was deleted
	}
	if heldSum(s) != "" {
		return s, nil
	}
	kept := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion, Labels: s.Labels,
		Annotations: map[string]string{annotationSum: sumOf(nil, s.Data)},
	}}
	for _, a := range []string{AnnotationConfigTracking, annotationFlaggerConfigTracking} {
		if v, ok := s.Annotations[a]; ok {
			kept.Annotations[a] = v
		}
	}
	for _, key := range istio.SecretKeys() {
		if data, ok := s.Data[key]; ok {
			if kept.Data == nil {
				kept.Data = map[string][]byte{}
			}
			kept.Data[key] = data
		}
	}
	return kept, nil
}

// heldSum is the sum of all that a cached Secret said; "" for one as the API has
// it, which says when it was created, whatever its annotations are.
func heldSum(s *corev1.Secret) string {
	if !s.CreationTimestamp.IsZero() {
		return ""
	}
	return s.Annotations[annotationSum]
}

// secretsWithData leaves out the Secrets of which nothing was kept.
func secretsWithData(all []*corev1.Secret, err error) ([]*corev1.Secret, error) {
	var out []*corev1.Secret
	for _, s := range all {
		if len(s.Data) > 0 {
			out = append(out, s)
		}
	}
	return out, err
}
