package mesh

import "strings"

// Name makes the name of the service in the namespace.
func Name(namespace, service string) ServiceName {
	return ServiceName(service + "." + namespace)
}

// Split returns the parts of a name made by Name. A name without a dot, or one
// of an external host, has no meaningful parts.
func (n ServiceName) Split() (namespace, service string) {
	service, namespace, _ = strings.Cut(string(n), ".")
	return namespace, service
}

// The suffixes under which cluster DNS answers for "name.namespace".
const (
	clusterSuffix = ".svc.cluster.local"
	serviceSuffix = ".svc"
)

// CanonicalHost brings the ways of writing one host into the form that
// VirtualHost.Hosts and ServiceName use, as seen from a namespace:
// "music", "music.default", "music.default.svc" and
// "Music.default.svc.cluster.local." called from "default" are all
// "music.default". The host has no port. An address, a wildcard and a name
// outside of the cluster are returned in lower case, without the final dot.
func CanonicalHost(host, namespace string) string {
	host = TrimClusterSuffix(strings.TrimSuffix(strings.ToLower(host), "."))
	if namespace == "" || host == "" || strings.ContainsAny(host, ".:*") {
		return host
	}
	return host + "." + namespace
}

// TrimClusterSuffix shortens "music.default.svc.cluster.local" and
// "music.default.svc" to "music.default" and returns other hosts unchanged.
// The host is in lower case. It does not allocate.
func TrimClusterSuffix(host string) string {
	for _, suffix := range [...]string{clusterSuffix, serviceSuffix} {
		short, found := strings.CutSuffix(host, suffix)
		if !found {
			continue
		}
		if name, namespace, ok := strings.Cut(short, "."); ok && name != "" && namespace != "" && !strings.Contains(namespace, ".") {
			return short
		}
	}
	return host
}

// HostMatches reports whether a pattern of VirtualHost.Hosts covers a host or
// another pattern: "*" covers all, "*.example.org" what ends in ".example.org".
func HostMatches(pattern, host string) bool {
	if suffix, wild := strings.CutPrefix(pattern, "*"); wild {
		return suffix == "" || len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	return pattern == host
}
