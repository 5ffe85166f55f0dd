package istio

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// fields are the fields of a message that are translated, or that have no
// effect in this mesh, by their name in YAML. A nil value stands for all that
// is below the field. A field that is not in the map is reported when it is
// set, so a field that a new version of Istio brings is never ignored.
type fields map[string]fields

func virtualServiceFields() fields {
	streamMatch := fields{"port": nil, "sourceLabels": nil, "gateways": nil, "sourceNamespace": nil}
	tlsMatch := fields{"sniHosts": nil}
	maps.Copy(tlsMatch, streamMatch)
	return fields{
		"hosts":    nil,
		"gateways": nil,
		"http": {
			"name": nil,
			"match": {
				"uri": nil, "scheme": nil, "method": nil, "authority": nil, "headers": nil, "withoutHeaders": nil, "queryParams": nil,
				"ignoreUriCase": nil, "port": nil, "gateways": nil, "sourceLabels": nil, "sourceNamespace": nil,
				"name": nil, "statPrefix": nil, // names in Envoy's statistics
			},
			"route":          nil,
			"delegate":       nil,
			"redirect":       nil,
			"directResponse": nil,
			"rewrite":        nil,
			"timeout":        nil,
			"retries": {
				"attempts": nil, "perTryTimeout": nil, "retryOn": nil, "backoff": nil, "retryIgnorePreviousHosts": nil,
			},
			"fault": {
				"delay": {"percent": nil, "percentage": nil, "fixedDelay": nil},
				"abort": {"percentage": nil, "httpStatus": nil, "grpcStatus": nil},
			},
			"mirror": nil, "mirrors": nil, "mirrorPercent": nil, "mirrorPercentage": nil,
			"corsPolicy": nil,
			"headers":    nil,
		},
		"tcp": {"match": streamMatch, "route": nil},
		"tls": {"match": tlsMatch, "route": nil},
	}
}

func destinationRuleFields() fields {
	policy := levelFields()
	policy["portLevelSettings"] = levelFields()
	policy["portLevelSettings"]["port"] = nil
	policy["retryBudget"] = nil
	return fields{
		"host":          nil,
		"trafficPolicy": policy,
		"subsets":       {"name": nil, "labels": nil, "trafficPolicy": policy},
	}
}

// levelFields are those of a rule's, a subset's and a port's policy.
func levelFields() fields {
	return fields{
		"loadBalancer": {
			"simple": nil, "consistentHash": nil, "warmup": nil, "warmupDurationSecs": nil,
			"localityLbSetting": {"enabled": nil, "distribute": nil, "failover": nil},
		},
		"connectionPool": {
			"tcp": nil,
			"http": {
				"http1MaxPendingRequests": nil, "http2MaxRequests": nil, "maxRequestsPerConnection": nil, "maxRetries": nil,
				"idleTimeout": nil, "h2UpgradePolicy": nil, "maxConcurrentStreams": nil,
			},
		},
		"outlierDetection": {
			"consecutiveErrors": nil, "consecutive5xxErrors": nil, "consecutiveGatewayErrors": nil, "consecutiveLocalOriginFailures": nil,
			"splitExternalLocalOriginErrors": nil, "interval": nil, "baseEjectionTime": nil, "maxEjectionPercent": nil, "minHealthPercent": nil,
		},
		"tls": nil,
	}
}

func gatewayFields() fields {
	return fields{
		"selector": nil, // there is one gateway, and it serves all
		"servers": {
			"port": {"number": nil, "name": nil, "protocol": nil}, "hosts": nil, "name": nil,
			"tls": {
				"httpsRedirect": nil, "mode": nil, "credentialName": nil, "credentialNames": nil, "caCertCredentialName": nil,
				"minProtocolVersion": nil, "maxProtocolVersion": nil,
				"serverCertificate": nil, "privateKey": nil, "caCertificates": nil, "tlsCertificates": nil, // reported as files
			},
		},
	}
}

func serviceEntryFields() fields {
	return fields{
		"hosts":            nil,
		"ports":            nil,
		"location":         nil, // decides on mTLS alone
		"resolution":       nil,
		"endpoints":        workloadEntryFields(),
		"workloadSelector": nil,
		"subjectAltNames":  nil,
		"addresses":        nil, // hosts are called by name: there are no virtual addresses
	}
}

func workloadEntryFields() fields {
	return fields{
		"address": nil, "ports": nil, "labels": nil, "weight": nil, "locality": nil,
		"network":        nil, // there is one network
		"serviceAccount": nil, // an identity for mTLS
	}
}

func authorizationPolicyFields() fields {
	return fields{
		"selector": nil,
		"action":   nil,
		"rules": {
			"from": {"source": nil}, // reported as a whole: one that is left out changes what the others mean
			"to":   {"operation": nil},
			"when": nil,
		},
	}
}

// untranslated reports the fields that are set and not known. consequence
// says for a path what happens in their place; "" = they have no effect.
func (r *report) untranslated(path string, m protoreflect.Message, known fields, consequence func(field string) string) {
	var set []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		set = append(set, fd)
		return true
	})
	slices.SortFunc(set, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.Index(), b.Index()) })
	for _, fd := range set {
		name := fd.JSONName()
		here := path + "." + name
		below, ok := known[name]
		switch {
		case !ok:
			then := consequence(name)
			if then == "" {
				then = "it has no effect"
			}
			r.warnf(here, "not supported yet: %s", then)
		case below == nil || fd.Message() == nil || fd.IsMap():
		case fd.IsList():
			list := m.Get(fd).List()
			for i := range list.Len() {
				r.untranslated(fmt.Sprintf("%s[%d]", here, i), list.Get(i).Message(), below, consequence)
			}
		default:
			r.untranslated(here, m.Get(fd).Message(), below, consequence)
		}
	}
}

func noConsequence(string) string { return "" }
