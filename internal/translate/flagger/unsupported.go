package flagger

import (
	"strings"

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
		{s.IngressRef != nil, Error, "ingressRef", "is not supported: " + bySerin},
		{s.RouteRef != nil, Error, "routeRef", "is not supported: " + bySerin},
		{s.UpstreamRef != nil, Error, "upstreamRef", "is not supported: " + bySerin},
	}, fs)
	v := &s.Service
	report("spec.service.", []unsupported{
		{strings.EqualFold(v.AppProtocol, "tcp"), Error, "appProtocol", "connections that are no HTTP cannot be judged: remove it, or set it to http, http2 or grpc"},
		{len(v.GatewayRefs) > 0, Error, "gatewayRefs", "is not supported: " + bySerin},
		{len(v.Mirror) > 0, Warning, "mirror", "has no effect: it is for the Gateway API; to copy requests to the canary use spec.analysis.mirror"},
		{v.Rewrite != nil && v.Rewrite.Type != "", Warning, "rewrite.type", "has no effect: it is for the Gateway API"},
		{v.MeshName != "", Warning, "meshName", "has no effect: it is for App Mesh"},
		{len(v.Backends) > 0, Warning, "backends", "has no effect: it is for App Mesh"},
	}, fs)
}
