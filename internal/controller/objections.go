package controller

import (
	"fmt"
	"strings"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/translate/istio"
)

// objection says why an object, as it is now, is not in force anywhere.
type objection struct {
	generation int64
	reason     string // one word: Invalid, NotListening
	message    string // one line for people
}

// maxErrors is how many errors of an object its status lists; its events have
// all of them.
const maxErrors = 3

// objectionsOf sums up the errors of each object. inForce are the generations
// that the snapshot was made from.
func objectionsOf(findings []istio.Finding, failed map[mesh.Origin]istio.Failure, inForce map[mesh.Origin]int64) map[mesh.Origin]objection {
	errors := map[mesh.Origin][]string{}
	for _, f := range istio.Errors(findings) {
		errors[f.Origin] = append(errors[f.Origin], strings.TrimPrefix(f.Path+": "+f.Message, ": "))
	}
	out := map[mesh.Origin]objection{}
	for origin, messages := range errors {
		o := objection{generation: inForce[origin], reason: "NotListening"}
		was := ""
		if failure, invalid := failed[origin]; invalid {
			o.generation, o.reason = failure.Generation, "Invalid"
			if failure.InForce != 0 && failure.InForce != failure.Generation {
				was = fmt.Sprintf("; generation %d stays in force", failure.InForce)
			}
		}
		more := ""
		if n := len(messages); n > maxErrors {
			more = fmt.Sprintf("; and %d more", n-maxErrors)
			messages = messages[:maxErrors]
		}
		o.message = strings.Join(messages, "; ") + more + was
		out[origin] = o
	}
	return out
}

// closedGateways finds an error in each Gateway with a port that could not be
// opened.
func closedGateways(gateways []mesh.Gateway, closed map[uint16]string) []istio.Finding {
	var out []istio.Finding
	for i := range gateways {
		reason, ok := closed[gateways[i].Port]
		if !ok {
			continue
		}
		namespace, name, _ := strings.Cut(gateways[i].Name, "/")
		out = append(out, istio.Finding{
			Origin:  mesh.Origin{Kind: "Gateway", Namespace: namespace, Name: name},
			Path:    "spec.servers",
			Message: fmt.Sprintf("port %d is not open: %s: stop the program that has it, or serve the port elsewhere with --gateway-port", gateways[i].Port, reason),
		})
	}
	return out
}
