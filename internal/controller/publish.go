package controller

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy"
	"serin.dev/serin/internal/translate/istio"
)

// MainGatewayPort is the port of Gateway objects that the main gateway
// listener answers for, whatever port it has itself: without root a process
// cannot listen on port 80, for which manifests are written.
const MainGatewayPort = 80

// relisten is the time between attempts to open what could not be opened: the
// program that has the port may have left.
const relisten = 5 * time.Second

// thisProcess names the proxy that runs inside of this program.
const thisProcess = "this process"

// Publish turns objects into snapshots and hands them to the proxies. All
// fields must be set.
type Publish struct {
	API     *kube.Client
	Proxy   *proxy.Proxy
	Acks    *Acks
	Gateway net.Addr // of the main gateway listener, which is open
	Remote  Remote
	// Addresses are where further ports of Gateways are served; others are at
	// the main listener's host and their own port.
	Addresses map[uint16]string
	Log       *slog.Logger

	reporting sync.Mutex // reports reach Acks in the order in which they were made
	last      *mesh.Snapshot
	good      istio.Good
	refused   istio.Refused
	told      map[istio.Finding]bool
	names     *names
}

// Remote is the proxies of other processes and machines.
type Remote interface {
	// Set gives them a snapshot, and does not wait for them.
	Set(*mesh.Snapshot)
	// States says what each of them runs.
	States() []ProxyState
}

// Report tells Acks what the proxies run. It is called when that changed, from
// any goroutine.
func (p *Publish) Report() {
	p.reporting.Lock()
	defer p.reporting.Unlock()
	ack := p.Proxy.Acked()
	p.Acks.report(append([]ProxyState{{Name: thisProcess, Version: ack.Version, At: ack.At}}, p.Remote.States()...))
}

// Run publishes until ctx ends, beginning with what the API holds now.
func (p *Publish) Run(ctx context.Context) {
	p.told = map[istio.Finding]bool{}
	l := &listeners{proxy: p.Proxy, log: p.Log}
	defer l.closeAll()
	p.names = &names{lookup: lookUp, changed: kube.NewSignal()}
	for {
		if err := p.publish(ctx, l); err != nil {
			p.Log.Error("snapshot refused, the last one stays", "err", err)
		}
		var again <-chan time.Time
		switch {
		case len(l.refused) > 0:
			again = time.After(relisten)
		case p.names.failing():
			again = time.After(lookupAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.API.MeshChanged():
		case <-p.names.changed:
		case <-again:
		}
	}
}

func (p *Publish) publish(ctx context.Context, l *listeners) error {
	objects, err := p.API.MeshObjects()
	if err != nil {
		return err
	}
	in := istio.Input{
		Version:          p.nextVersion(),
		Services:         objects.Services,
		Endpoints:        objects.Endpoints,
		VirtualServices:  objects.VirtualServices,
		DestinationRules: objects.DestinationRules,
		Gateways:         objects.Gateways,
		ServiceEntries:   objects.ServiceEntries,
		WorkloadEntries:  objects.WorkloadEntries,
		Secrets:          objects.Secrets,
		Previous:         p.good,
		Refused:          p.refused,

		AuthorizationPolicies: objects.Authorization,
	}
	host, port := hostPort(p.Gateway)
	atMain := func(s *mesh.Snapshot) *mesh.Snapshot {
		out := *s
		out.Gateways = onMainPort(s.Gateways, port)
		return out.Sharing(p.last) // found by identity from here on
	}
	out, err := istio.TranslateFor(in, func(s *mesh.Snapshot) error { return atMain(s).ValidateAfter(p.last) })
	snapshot := cmp.Or(p.last, &mesh.Snapshot{})
	if err == nil {
		snapshot = atMain(out.Snapshot)
	}
	for _, err := range l.want(listenersFor(objects, snapshot, host, port, p.Addresses)) {
		p.Log.Error("listener", "err", err)
	}
	if err == nil {
		if err = p.apply(snapshot); err != nil {
			out = istio.Hold(in, err)
		}
	}
	p.good, p.refused = out.Good, out.Refused
	findings := append(out.Findings, closedGateways(snapshot.Gateways, l.closedPorts())...)
	findings = append(findings, p.names.check(ctx, objects.WorkloadHosts())...)
	p.tell(findings)
	p.Acks.object(objectionsOf(findings, out.Failed, snapshot.Origins))
	return err
}

// nextVersion is that of the snapshot to make. Versions go on growing over
// restarts, since a proxy elsewhere may still run what the last process
// published.
func (p *Publish) nextVersion() mesh.SnapshotVersion {
	if p.last == nil {
		return mesh.SnapshotVersion(time.Now().UnixMilli()) + 1
	}
	return p.last.Version + 1
}

// apply puts a snapshot in force, if it says anything new.
func (p *Publish) apply(snapshot *mesh.Snapshot) error {
	if p.last != nil {
		same := *snapshot
		same.Version = p.last.Version
		if reflect.DeepEqual(&same, p.last) {
			return nil
		}
	}
	p.Acks.publish(snapshot) // before anybody can say that it runs it
	if err := p.Proxy.Apply(snapshot); err != nil {
		return err
	}
	p.last = snapshot
	p.Remote.Set(snapshot)
	p.Report()
	return nil
}

// onMainPort lets the main listener answer for its own port as well: what
// Gateways say of it is added to what they say of MainGatewayPort, for hosts of
// which they say nothing there.
func onMainPort(gateways []mesh.Gateway, port uint16) []mesh.Gateway {
	var out []mesh.Gateway
	at := map[string]int{} // by name, those on the main port
	for _, g := range gateways {
		if g.Port != port && g.Port != MainGatewayPort {
			out = append(out, g)
			continue
		}
		g.Port = MainGatewayPort
		if i, ok := at[g.Name]; ok {
			out[i].VirtualHosts = addHosts(slices.Clip(out[i].VirtualHosts), g.VirtualHosts)
			out[i].TLS = append(slices.Clip(out[i].TLS), g.TLS...)
			out[i].Streams = append(slices.Clip(out[i].Streams), g.Streams...)
			continue
		}
		at[g.Name] = len(out)
		out = append(out, g)
	}
	return out
}

// addHosts adds virtual hosts for the hosts that have none yet.
func addHosts(to, more []mesh.VirtualHost) []mesh.VirtualHost {
	has := map[string]bool{}
	for i := range to {
		for _, h := range to[i].Hosts {
			has[h] = true
		}
	}
	for _, vh := range more {
		vh.Hosts = slices.DeleteFunc(slices.Clone(vh.Hosts), func(h string) bool { return has[h] })
		if len(vh.Hosts) > 0 {
			to = append(to, vh)
		}
	}
	return to
}

// tell writes each finding to the log and to its object's events, once as long
// as it lasts.
func (p *Publish) tell(findings []istio.Finding) {
	now := map[istio.Finding]bool{}
	for _, f := range findings {
		now[f] = true
		if p.told[f] {
			continue
		}
		p.Log.Warn("finding", "kind", f.Origin.Kind, "namespace", f.Origin.Namespace, "name", f.Origin.Name, "finding", f.String())
		p.API.ObjectEvent(f.Origin.Kind, f.Origin.Namespace, f.Origin.Name, true, "Finding", f.String())
	}
	p.told = now
}

func hostPort(a net.Addr) (string, uint16) {
	host, text, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), 0
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return host, 0
	}
	return host, uint16(port)
}
