package node

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"k8s.io/apimachinery/pkg/types"
)

const (
	firstNetwork = 20  // leaves 127.0.x.y and 127.1.x.y, which people use by hand
	lastNetwork  = 250 // below 127.255.255.255, the broadcast address

	firstServiceBlock = 240 // 127.N.240.0 and up are cluster IPs, below are pods
)

// network hands out the addresses of one node.
//
// On Linux the whole of 127.0.0.0/8 is the machine itself, so each pod gets
// 127.N.x.y where N is claimed by this node alone. Elsewhere only 127.0.0.1
// exists without an administrator, and pods share it.
type network struct {
	n      byte         // 0: shared
	holder net.Listener // held for life: whoever holds it owns N

	mu      sync.Mutex
	pods    map[netip.Addr]types.UID // the pod that has the address
	nextPod int
	service map[netip.Addr]bool
}

// claimNetwork finds a free 127.N.0.0/16, preferring the one that dataDir used
// last, and holds it until close.
//
// The claim is the name of an abstract unix socket: the kernel gives it to one
// process only, within the same network namespace as the addresses, and frees
// it when that process dies.
func claimNetwork(dataDir string) (*network, error) {
	nw := &network{pods: map[netip.Addr]types.UID{}, service: map[netip.Addr]bool{}}
	if runtime.GOOS != "linux" {
		return nw, nil
	}
	const count = lastNetwork - firstNetwork + 1
	memory := filepath.Join(dataDir, "network")
	start := int(hash32(dataDir) % count)
	if data, err := os.ReadFile(memory); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && n >= firstNetwork && n <= lastNetwork {
			start = n - firstNetwork
		}
	}
	for i := range count {
		n := firstNetwork + (start+i)%count
		l, err := net.Listen("unix", fmt.Sprintf("@serin.dev/node/127.%d", n))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("claim the addresses 127.%d.0.0/16: %w", n, err)
		}
		if err := os.WriteFile(memory, []byte(strconv.Itoa(n)+"\n"), 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("remember the addresses of this node: %w", err), l.Close())
		}
		nw.n, nw.holder = byte(n), l
		return nw, nil
	}
	return nil, fmt.Errorf("all networks from 127.%d.0.0/16 to 127.%d.0.0/16 are held by other instances: stop one of them", firstNetwork, lastNetwork)
}

func (nw *network) close() error {
	if nw.holder == nil {
		return nil
	}
	return nw.holder.Close()
}

// shared reports whether all pods have the same address.
func (nw *network) shared() bool { return nw.n == 0 }

// keepPod says that a pod of an earlier run has this address. No other pod gets
// it before releasePod, though the pod itself may never run again: as long as
// its object is there, so are its listeners.
func (nw *network) keepPod(pod types.UID, ip string) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if a, err := netip.ParseAddr(ip); err == nil && nw.holdsPod(a) && nw.pods[a] == "" {
		nw.pods[a] = pod
	}
}

// takePod returns an address that no other pod has: want if that is possible.
// Addresses come round in order, so that a route to a pod that is gone does
// not find its successor.
func (nw *network) takePod(pod types.UID, want string) (netip.Addr, error) {
	if nw.shared() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if a, err := netip.ParseAddr(want); err == nil && nw.holdsPod(a) && (nw.pods[a] == "" || nw.pods[a] == pod) {
		nw.pods[a] = pod
		return a, nil
	}
	const count = firstServiceBlock * 254
	for range count {
		i := nw.nextPod % count
		nw.nextPod++
		a := netip.AddrFrom4([4]byte{127, nw.n, byte(i / 254), byte(i%254 + 1)})
		if nw.pods[a] == "" {
			nw.pods[a] = pod
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("all %d pod addresses of 127.%d.0.0/16 are in use", count, nw.n)
}

// releasePod makes the pod's address free for a later one.
func (nw *network) releasePod(pod types.UID) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	maps.DeleteFunc(nw.pods, func(_ netip.Addr, holder types.UID) bool { return holder == pod })
}

// holdsPod reports whether the address is one that this node gives to pods.
func (nw *network) holdsPod(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	b := a.As4()
	return b[0] == 127 && b[1] == nw.n && b[2] < firstServiceBlock && b[3] > 0 && b[3] < 255
}

// takeService returns a cluster IP outside of those in use. The same key gets
// the same address as long as nobody else took it.
func (nw *network) takeService(key string) (netip.Addr, error) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	const count = (256 - firstServiceBlock) * 254
	start := int(hash32(key) % count)
	for j := range count {
		i := (start + j) % count
		a := netip.AddrFrom4([4]byte{127, nw.n, byte(firstServiceBlock + i/254), byte(i%254 + 1)})
		if !nw.service[a] {
			nw.service[a] = true
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("all %d service addresses of 127.%d.0.0/16 are in use", count, nw.n)
}

// keepService says that a service has this cluster IP already.
func (nw *network) keepService(ip string) {
	if a, err := netip.ParseAddr(ip); err == nil { // else it is "None"
		nw.mu.Lock()
		defer nw.mu.Unlock()
		nw.service[a] = true
	}
}

// releaseService frees a cluster IP.
func (nw *network) releaseService(ip string) {
	if a, err := netip.ParseAddr(ip); err == nil {
		nw.mu.Lock()
		defer nw.mu.Unlock()
		delete(nw.service, a)
	}
}

const (
	firstPort = 18000
	lastPort  = 29999 // below node ports (30000) and Linux' ephemeral ports (32768)
)

// ports hands out the private ports on which processes listen.
type ports struct {
	mu    sync.Mutex
	taken map[int]bool
}

// take returns a port that is free on every local address and that nobody else
// got from here. avoid says which numbers to pass over; seed spreads the
// choice, so that two nodes on a machine rarely try the same one.
func (ps *ports) take(seed string, avoid func(port int) bool) (int, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	const count = lastPort - firstPort + 1
	start := int(hash32(seed) % count)
	for i := range count {
		port := firstPort + (start+i)%count
		if ps.taken[port] || avoid(port) || !portIsFree(port) {
			continue
		}
		if ps.taken == nil {
			ps.taken = map[int]bool{}
		}
		ps.taken[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("all ports from %d to %d are in use", firstPort, lastPort)
}

func (ps *ports) release(port int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.taken, port)
}

// portIsFree tries to bind the port on all addresses of both families, which
// fails when any single address has it.
func portIsFree(port int) bool {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func hash32(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// hashText is a hash of s of 16 hexadecimal digits.
func hashText(s string) string {
	h := fnv.New64a()
	h.Write([]byte(s))
	return fmt.Sprintf("%016x", h.Sum64())
}
