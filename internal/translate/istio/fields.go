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
	return fields{
		"host":          nil,
		"trafficPolicy": {"loadBalancer": {"simple": nil}},
		"subsets":       {"name": nil, "labels": nil},
	}
}

func gatewayFields() fields {
	return fields{
		"selector": nil, // there is one gateway, and it serves all
		"servers":  {"port": {"number": nil, "name": nil, "protocol": nil}, "hosts": nil, "name": nil},
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
	}
}

func workloadEntryFields() fields {
	return fields{
		"address": nil, "ports": nil, "labels": nil,
		"network":        nil, // there is one network
		"locality":       nil, // has an effect with locality balancing, which is reported itself
		"serviceAccount": nil, // an identity for mTLS
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
