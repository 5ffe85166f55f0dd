package telemetry

import "strings"

// CheckerAgent is the user agent of our own proxy's health checks.
const CheckerAgent = "serin/health-check"

// IsProbe reports whether a user agent is one of the health checkers: of
// Kubernetes, the load balancers of clouds, Consul, Envoy, and our own proxy.
// Their requests are Request.Probe.
func IsProbe(userAgent string) bool {
	for _, prefix := range [...]string{"kube-probe/", "ELB-HealthChecker/", "GoogleHC/", "Envoy/HC", "Consul Health Check", CheckerAgent} {
		if strings.HasPrefix(userAgent, prefix) {
			return true
		}
	}
	return false
}
