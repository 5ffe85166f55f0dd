package controller

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/translate/istio"
)

func TestANameThatDoesNotResolveIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		there := map[string]bool{"vm.lan": true}
		asked := 0
		n := &names{changed: kube.NewSignal(), lookup: func(_ context.Context, host string) error {
			asked++
			if there[host] {
				return nil
			}
			return errors.New("there is no such host")
		}}
		origin := func(name string) mesh.Origin {
			return mesh.Origin{Kind: "WorkloadEntry", Namespace: "default", Name: name}
		}
		hosts := map[mesh.Origin]string{origin("vm"): "vm.lan", origin("late"): "late.lan", origin("late2"): "late.lan"}
		check := func(wantFindings, wantAsked int, wantChanged bool) []istio.Finding {
			t.Helper()
			got := n.check(t.Context(), hosts)
			synctest.Wait()
			changed := false
			select {
			case <-n.changed:
				changed = true
			default:
			}
			if len(got) != wantFindings || asked != wantAsked || changed != wantChanged {
				t.Errorf("%d findings, %d lookups, changed %t; want %d, %d, %t", len(got), asked, changed, wantFindings, wantAsked, wantChanged)
			}
			return got
		}
		check(0, 2, true) // nobody knows yet
		got := check(2, 3, false)
		want := `warning: WorkloadEntry default/late: spec.address: "late.lan" is not resolved on this machine: there is no such host: correct the name, or write the IP address`
		if len(got) > 0 && got[0].String() != want {
			t.Errorf("finding %q\nwant    %q", got[0], want)
		}
		if !n.failing() {
			t.Error("it is not looked up again")
		}
		there["late.lan"] = true
		check(2, 4, true)
		check(0, 4, false)
		delete(hosts, origin("late"))
		delete(hosts, origin("late2"))
		check(0, 4, false)
		if n.failing() || len(n.known) != 1 {
			t.Errorf("known: %v, want vm.lan alone", n.known)
		}
	})
}
