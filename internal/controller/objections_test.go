package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/translate/istio"
)

func TestAnObjectThatIsWrongSaysSoInItsStatus(t *testing.T) {
	edited, added, partly := mesh.Origin{Name: "edited"}, mesh.Origin{Name: "added"}, mesh.Origin{Name: "partly"}
	closed, fine := mesh.Origin{Kind: "Gateway", Namespace: "default", Name: "closed"}, mesh.Origin{Name: "fine"}
	finding := func(o mesh.Origin, path string) istio.Finding {
		return istio.Finding{Origin: o, Path: path, Message: "is wrong"}
	}
	findings := []istio.Finding{
		finding(edited, "spec.a"), {Severity: istio.Warning, Origin: edited, Message: "generation 2 is not applied"},
		finding(added, "spec.a"), finding(added, "spec.b"), finding(added, ""), finding(added, "spec.d"), finding(added, "spec.e"),
		finding(partly, "spec.a"),
		{Severity: istio.Warning, Origin: fine, Message: "has an effect elsewhere"},
	}
	findings = append(findings, closedGateways([]mesh.Gateway{{Name: "default/closed", Port: 81}, {Name: "default/fine", Port: 82}},
		map[uint16]string{81: "listen: taken"})...)
	failed := map[mesh.Origin]istio.Failure{edited: {Generation: 2, InForce: 1}, added: {Generation: 1}, partly: {Generation: 4, InForce: 4}}
	inForce := map[mesh.Origin]int64{edited: 1, partly: 4, closed: 7, fine: 1}

	var a Acks
	woken := 0
	a.OnChange(func() { woken++ })
	a.publish(&mesh.Snapshot{Version: 1, Origins: inForce})
	a.report([]ProxyState{{Version: 1}})
	for range 2 {
		a.object(objectionsOf(findings, failed, inForce))
	}
	invalid := func(generation int64, message string) kube.Standing {
		return kube.Standing{Generation: generation, Reason: "Invalid", Message: message}
	}
	want := map[mesh.Origin]kube.Standing{
		edited: invalid(2, "spec.a: is wrong; generation 1 stays in force"),
		added:  invalid(1, "spec.a: is wrong; spec.b: is wrong; is wrong; and 2 more"),
		partly: invalid(4, "spec.a: is wrong"),
		closed: {Generation: 7, Reason: "NotListening", Message: "spec.servers: port 81 is not open: listen: taken: " +
			"stop the program that has it, or serve the port elsewhere with --gateway-port"},
		fine: {Generation: 1, InForce: true, Reason: "InForce", Message: "1 of 1 proxies run it"},
	}
	if diff := cmp.Diff(want, a.standings()); diff != "" {
		t.Errorf("standings (-want +got):\n%s", diff)
	}
	if woken != 2 {
		t.Errorf("told of %d changes, want 2: an ack, and objections once", woken)
	}
	a.object(nil)
	if got := a.standings()[closed]; !got.InForce {
		t.Errorf("mended, the Gateway's standing is %+v", got)
	}
}

// TestOnlyWhatAProxyRefusesIsToBlame: what is published after it is held up by
// it, and says by what.
func TestOnlyWhatAProxyRefusesIsToBlame(t *testing.T) {
	old, bad, later := mesh.Origin{Kind: "Gateway", Name: "old"}, mesh.Origin{Kind: "VirtualService", Name: "bad"}, mesh.Origin{Kind: "VirtualService", Name: "later"}
	var a Acks
	publish := func(version mesh.SnapshotVersion, origins map[mesh.Origin]int64, edge ProxyState, want map[mesh.Origin]string) {
		t.Helper()
		a.publish(&mesh.Snapshot{Version: version, Origins: origins})
		edge.Name = "edge"
		a.report([]ProxyState{{Name: "own", Version: version}, edge})
		got := map[mesh.Origin]string{}
		for o, s := range a.standings() {
			got[o] = s.Reason + ": " + s.Message
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("snapshot %d (-want +got):\n%s", version, diff)
		}
	}
	const fine = "InForce: 2 of 2 proxies run it"
	publish(1, map[mesh.Origin]int64{old: 1}, ProxyState{Version: 1}, map[mesh.Origin]string{old: fine})
	publish(2, map[mesh.Origin]int64{old: 1, bad: 1}, ProxyState{Version: 1, Refused: 2, Reason: "a regex"},
		map[mesh.Origin]string{old: fine, bad: "Refused: 1 of 2 proxies run it; edge refuses: a regex"})
	publish(3, map[mesh.Origin]int64{old: 1, bad: 1, later: 1}, ProxyState{Version: 1, Refused: 3, Reason: "a regex"},
		map[mesh.Origin]string{
			old: fine, bad: "Refused: 1 of 2 proxies run it; edge refuses: a regex",
			later: "Waiting: 1 of 2 proxies run it; edge refuses what came before, with VirtualService /bad",
		})
	publish(4, map[mesh.Origin]int64{old: 1, later: 1}, ProxyState{Version: 1, Refused: 4, Reason: "another"},
		map[mesh.Origin]string{old: fine, later: "Refused: 1 of 2 proxies run it; edge refuses: another"})
	publish(5, map[mesh.Origin]int64{old: 1, later: 2}, ProxyState{Version: 5}, map[mesh.Origin]string{old: fine, later: fine})
}
