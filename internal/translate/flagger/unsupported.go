package flagger

import (
	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
)

// unsupported is a field that Serin does not act on, with whether it is set.
type unsupported struct {
	set      bool
	severity Severity
	path     string
	message  string
}

func report(prefix string, fields []unsupported, fs *findings) {
	for _, f := range fields {
		if f.set {
			*fs = append(*fs, Finding{f.severity, prefix + f.path, f.message})
		}
	}
}

// unsupportedSpec finds what is not supported outside of the analysis.
func unsupportedSpec(s *flaggerv1.CanarySpec, fs *findings) {
	const bySerin = "traffic is split by Serin's own mesh: name its Istio Gateways in spec.service.gateways"
	report("spec.", []unsupported{
		{s.Provider != "" && s.Provider != flaggerv1.IstioProvider, Warning, "provider", bySerin},
		{s.MetricsServer != "", Warning, "metricsServer", "has no effect: requests are counted by Serin's own proxies"},
		{s.AutoscalerRef != nil, Warning, "autoscalerRef", "is not supported yet: canary and primary keep the Deployment's replicas"},
		{s.IngressRef != nil, Error, "ingressRef", "is not supported: " + bySerin},
		{s.RouteRef != nil, Error, "routeRef", "is not supported: " + bySerin},
		{s.UpstreamRef != nil, Error, "upstreamRef", "is not supported: " + bySerin},
		{s.SkipAnalysis, Warning, "skipAnalysis", "has no effect: to promote a version at once, use serin release promote"},
	}, fs)
	v := &s.Service
	const inService = "is not supported yet, and requests would be answered differently without it: remove it, and let the service do it"
	report("spec.service.", []unsupported{
		{v.PortName != "" && v.PortName != "http", Warning, "portName", "has no effect: the port is called http"},
		{v.AppProtocol != "" && v.AppProtocol != "http", Error, "appProtocol", "only HTTP/1.1 is supported yet: remove it, or set it to http"},
		{v.PortDiscovery, Warning, "portDiscovery", "is not supported yet: only spec.service.port is served"},
		{v.Timeout != "", Warning, "timeout", "is not supported yet: requests have no time limit"},
		{len(v.GatewayRefs) > 0, Error, "gatewayRefs", "is not supported yet: " + bySerin},
		{v.Delegation, Error, "delegation", "is not supported yet: name hosts and gateways in spec.service"},
		{v.TrafficPolicy != nil, Warning, "trafficPolicy", "is not supported yet: each request goes to the pod with the fewest"},
		{v.Rewrite != nil, Error, "rewrite", inService},
		{v.Retries != nil, Warning, "retries", "is not supported yet: requests are not retried"},
		{v.Headers != nil, Error, "headers", inService},
		{len(v.Mirror) > 0, Warning, "mirror", "is not supported yet: no requests are copied"},
		{v.CorsPolicy != nil, Error, "corsPolicy", inService},
		{v.MeshName != "", Warning, "meshName", "has no effect: it is for App Mesh"},
		{len(v.Backends) > 0, Warning, "backends", "has no effect: it is for App Mesh"},
		{v.Apex != nil, Warning, "apex", "is not supported yet: label and annotate the Service yourself"},
		{v.Primary != nil, Warning, "primary", "is not supported yet: label and annotate the Service yourself"},
		{v.Canary != nil, Warning, "canary", "is not supported yet: label and annotate the Service yourself"},
	}, fs)
}

// unsupportedAnalysis finds what is not supported of how the canary advances.
func unsupportedAnalysis(a *flaggerv1.CanaryAnalysis, path string, fs *findings) {
	partly := func(threshold *int) bool { return threshold != nil && *threshold != 100 }
	report(path+".", []unsupported{
		{a.Iterations > 0, Error, "iterations", "blue/green and A/B tests are not supported yet: use stepWeight and maxWeight"},
		{len(a.Match) > 0, Error, "match", "A/B tests are not supported yet: use stepWeight and maxWeight"},
		{a.Mirror, Error, "mirror", "is not supported yet, and without it users would be the first to meet the version: remove it if they may"},
		{a.StepWeightPromotion > 0, Warning, "stepWeightPromotion", "has no effect: on promotion the traffic moves in one step, when the new primary is ready"},
		{partly(a.PrimaryReadyThreshold), Warning, "primaryReadyThreshold", "has no effect: all pods have to be ready"},
		{partly(a.CanaryReadyThreshold), Warning, "canaryReadyThreshold", "has no effect: all pods have to be ready"},
		{len(a.Alerts) > 0, Warning, "alerts", "are not supported yet: watch the Release's events instead"},
		{a.SessionAffinity != nil, Warning, "sessionAffinity", "is not supported yet: a user may meet both versions in turn"},
	}, fs)
}
