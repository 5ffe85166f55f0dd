package kube

import "serin.dev/serin/api/v1alpha1"

// Frozen says why nothing of a Release may advance: the reason that somebody
// gave on the Release, or on its namespace. "" = it is not frozen.
func (c *Client) Frozen(r *v1alpha1.Release) string {
	if reason, ok := r.Annotations[v1alpha1.AnnotationFreeze]; ok {
		return orNoReason(reason)
	}
	ns, err := c.coreInformers.Core().V1().Namespaces().Lister().Get(r.Namespace)
	if err != nil {
		return "" // an API that does not have it yet cannot freeze it
	}
	if reason, ok := ns.Annotations[v1alpha1.AnnotationFreeze]; ok {
		return "namespace " + r.Namespace + ": " + orNoReason(reason)
	}
	return ""
}

func orNoReason(reason string) string {
	if reason == "" {
		return "no reason is given"
	}
	return reason
}
