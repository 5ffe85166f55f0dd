package kube

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/translate/istio"
)

var matchPath = regexp.MustCompile(`^spec\.http\[\d+\]\.match\[\d+\]`)

// FieldOf names the field of the Release that a finding in one of the objects of
// RoutesOf is about, and says of it what the finding does. Field is "" where
// another of these objects has the same in it, and that alone.
func FieldOf(r *v1alpha1.Release, o metav1.Object, f istio.Finding) (field, message string) {
	inSpec := strings.NewReplacer("spec.http[0].match", "spec.service.match", "spec.http[0].", "spec.service.http.",
		"spec.trafficPolicy", "spec.service.trafficPolicy", "spec.hosts", "spec.service.hosts", "spec.gateways", "spec.service.gateways")
	message = inSpec.Replace(f.Message)
	if vs, ok := o.(*istiov1.VirtualService); ok {
		if at := matchPath.FindString(f.Path); at != "" {
			if field = matchField(r, vs, at); field != "" {
				field += f.Path[len(at):]
			}
			return field, message
		}
	}
	if what, ok := strings.CutPrefix(message, "hash: key 0: "); ok && r.Spec.Cohort != nil {
		if r.Spec.Cohort.Header != "" {
			return "spec.cohort.header", what
		}
		return "spec.cohort.cookie", what
	}
	if route, rest, ok := strings.Cut(f.Path, "]."); ok && strings.HasPrefix(route, "spec.http[") {
		return "spec.service.http." + rest, message
	}
	return inSpec.Replace(f.Path), message
}

// matchField is the field of a match, which is spec.http[N].match[M]. Those of
// testers and of the matched users are each joined with each of the service's
// where that has some, and stand alone between services.
func matchField(r *v1alpha1.Release, vs *istiov1.VirtualService, path string) string {
	var n, m int
	if _, err := fmt.Sscanf(path, "spec.http[%d].match[%d]", &n, &m); err != nil || n >= len(vs.Spec.Http) {
		return path
	}
	route := vs.Spec.Http[n]
	var field string
	var own int
	switch route.Name {
	case routePreview:
		field, own = "spec.preview", len(r.Spec.Preview)
	case routeMatch:
		field, own = "spec.match", len(r.Spec.Match)
	case routeStick:
		return "spec.sessionAffinity.cookieName"
	default:
		return fmt.Sprintf("spec.service.match[%d]", m)
	}
	if !r.Spec.Service.Delegation && !slices.Equal(vs.Spec.Gateways, []string{"mesh"}) {
		return ""
	}
	return fmt.Sprintf("%s[%d]", field, m/max(1, len(route.Match)/max(1, own)))
}
