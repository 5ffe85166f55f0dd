package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// component names this package to the API: as the source of events and the
// manager of slices.
const component = "serin-node"

// Config says what a node runs, and where.
type Config struct {
	// Client reaches the API. It should have no rate limit of its own (QPS
	// -1): starting a hundred pods takes a few hundred requests.
	Client kubernetes.Interface
	// DataDir is where the node keeps what it must know after a restart. It
	// belongs to this node alone and must exist.
	DataDir string
	// Logs takes the output of containers.
	Logs *LogSource
	// Images says what images stand for. The first match counts.
	Images []ImageMapping
	// Drain returns when no proxy sends to the pod any more and its requests
	// under way are answered, or when ctx ends. nil: there is no proxy.
	Drain func(ctx context.Context, namespace, pod, podIP string)
	// Logger may be nil.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	if c.Client == nil || c.DataDir == "" || c.Logs == nil {
		return errors.New("node: Client, DataDir and Logs must be set")
	}
	for _, m := range c.Images {
		if _, err := path.Match(m.Image, ""); err != nil {
			return fmt.Errorf("image mapping %q: %w: see the patterns of path.Match", m.Image, err)
		}
		if len(m.Command) == 0 {
			return fmt.Errorf("image mapping %q: it needs a command", m.Image)
		}
	}
	return nil
}

// Node runs the pods of one machine.
//
//	Deployments ──deployments──► Pods ──pods──► processes
//	                              │
//	Services ─────endpoints──────►└► EndpointSlices
type Node struct {
	client kubernetes.Interface
	images []ImageMapping
	drain  func(ctx context.Context, namespace, pod, podIP string)
	log    *slog.Logger
	logs   *LogSource

	name    string            // of the node, in spec.nodeName
	id      string            // of the data directory, in markers
	run     string            // of this run, in markers
	base    map[string]string // environment
	network *network
	ports   ports
	reaper  *reaper
	spawner *spawner

	informers informers.SharedInformerFactory
	services  corelisters.ServiceLister
	podLister corelisters.PodLister
	events    record.EventRecorder
	sink      record.EventBroadcaster

	deployments *deployments
	endpoints   *endpoints
	pods        *pods
}

// New claims the machine's resources for a node, ends what an earlier node on
// the same data directory left behind, and writes to the API that none of its
// pods is ready. When New has returned, nothing in the API points to a process
// that is not there.
//
// A Node that New returned must be run.
func New(ctx context.Context, cfg Config) (_ *Node, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Node{client: cfg.Client, images: cfg.Images, drain: cfg.Drain, log: cfg.Logger, logs: cfg.Logs, base: map[string]string{}}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	for _, k := range inherited {
		if v, ok := os.LookupEnv(k); ok {
			n.base[k] = v
		}
	}
	if n.id, err = nodeID(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", cfg.DataDir, err)
	}
	if n.name, err = nodeName(cfg.DataDir); err != nil {
		return nil, err
	}
	if n.network, err = claimNetwork(cfg.DataDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.network.close())
		}
	}()
	n.run = rand.String(8)
	if killed := sweep(marker(n.id)); killed > 0 {
		n.log.Warn("ended processes that an earlier run left behind", "count", killed)
	}
	if err := n.interruptAll(ctx); err != nil {
		return nil, err
	}
	if n.reaper, err = startReaper(marker(n.id, n.run)); err != nil {
		// The kernel still ends direct children; the next start sweeps.
		n.log.Warn("processes that detach themselves may outlive a killed Serin", "err", err)
	}
	n.spawner = newSpawner()
	n.wire()
	return n, nil
}

// wire makes the parts. Nothing runs yet.
func (n *Node) wire() {
	n.sink = record.NewBroadcaster()
	n.events = n.sink.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component, Host: n.name})
	n.informers = informers.NewSharedInformerFactoryWithOptions(n.client, 0,
		informers.WithTransform(withoutManagedFields))
	// Asking for a lister or informer is what makes the factory watch its kind.
	core := n.informers.Core().V1()
	n.services = core.Services().Lister()
	n.podLister = core.Pods().Lister()
	n.informers.Apps().V1().Deployments().Informer()
	n.informers.Discovery().V1().EndpointSlices().Informer()
	n.deployments = newDeployments(n)
	n.endpoints = newEndpoints(n)
	n.pods = newPods(n)
}

// Run runs pods until ctx ends. It then ends all processes, each within the
// smaller of its grace period and two seconds, and leaves the objects as they
// are, so that the next start runs the same pods.
func (n *Node) Run(ctx context.Context) error {
	watch := n.sink.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: n.client.CoreV1().Events("")})
	n.informers.Start(ctx.Done())
	var failed error
	for kind, ok := range n.informers.WaitForCacheSync(ctx.Done()) {
		if !ok && ctx.Err() == nil {
			failed = fmt.Errorf("node: could not read %v", kind)
		}
	}
	if failed == nil && ctx.Err() == nil {
		failed = together(ctx, n.endpoints.run, n.deployments.run, n.pods.run)
	}
	n.informers.Shutdown()
	watch.Stop()
	n.sink.Shutdown()
	n.spawner.close()
	return errors.Join(failed, n.reaper.close(), n.network.close())
}

// together runs loops until ctx ends or one of them fails.
func together(ctx context.Context, loops ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(loops))
	for i, loop := range loops {
		wg.Go(func() {
			if errs[i] = loop(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// nodeName is the machine's host name, remembered in the data directory: pods
// stay this node's when the machine gets another name.
func nodeName(dataDir string) (string, error) {
	file := filepath.Join(dataDir, "node-name")
	if data, err := os.ReadFile(file); err == nil && len(data) > 0 {
		return strings.TrimSpace(string(data)), nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("host name of this machine: %w", err)
	}
	name = strings.ToLower(name)
	if err := os.WriteFile(file, []byte(name+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("remember the name of this node: %w", err)
	}
	return name, nil
}

// interruptAll writes that no pod of this node is ready, to pods and slices, and
// keeps their addresses for them.
// There is one node at a time: pods of another one are left from a machine whose
// place this one took, and others are made for them here.
func (n *Node) interruptAll(ctx context.Context) error {
	pods, err := n.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the pods of an earlier run: %w", err)
	}
	for i := range pods.Items {
		o := &pods.Items[i]
		if o.Spec.NodeName != "" && o.Spec.NodeName != n.name {
			err := n.client.CoreV1().Pods(o.Namespace).Delete(ctx, o.Name, *metav1.NewDeleteOptions(0))
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete pod %s/%s of node %s: %w", o.Namespace, o.Name, o.Spec.NodeName, err)
			}
			continue
		}
		n.network.keepPod(o.UID, o.Status.PodIP)
		if o.Spec.NodeName == "" || over(o) || o.Status.Phase == "" {
			continue
		}
		data, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": o.UID}, "status": interrupted(o, metav1.Now())})
		if err != nil {
			return fmt.Errorf("marshal the status of pod %s: %w", o.Name, err)
		}
		if _, err := n.client.CoreV1().Pods(o.Namespace).Patch(ctx, o.Name, types.MergePatchType, data, metav1.PatchOptions{}, "status"); err != nil {
			return fmt.Errorf("mark pod %s/%s as not ready: %w", o.Namespace, o.Name, err)
		}
	}
	slices, err := n.client.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelManagedBy + "=" + component})
	if err != nil {
		return fmt.Errorf("list the endpoint slices of an earlier run: %w", err)
	}
	for i := range slices.Items {
		s := &slices.Items[i]
		no := false
		for j := range s.Endpoints {
			s.Endpoints[j].Conditions.Ready, s.Endpoints[j].Conditions.Serving = &no, &no
		}
		if _, err := n.client.DiscoveryV1().EndpointSlices(s.Namespace).Update(ctx, s, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("mark endpoint slice %s/%s as not ready: %w", s.Namespace, s.Name, err)
		}
	}
	return nil
}

// servicesIn lists the services of a namespace.
func (n *Node) servicesIn(namespace string) []*corev1.Service {
	all, err := n.services.Services(namespace).List(labels.Everything())
	n.cacheError(err)
	return all
}

// cacheError handles what cannot happen: reading memory does not fail.
func (n *Node) cacheError(err error) {
	if err != nil {
		n.log.Error("read a cache", "err", err)
	}
}

// portIsSpoken reports whether a number is a port of a service or a container.
// A proxy may come to listen on it on some pod's address, and would collide
// with a process that has it on all addresses.
func (n *Node) portIsSpoken(port int) bool {
	services := n.servicesIn("")
	for _, s := range services {
		for _, p := range s.Spec.Ports {
			if int(p.Port) == port || p.TargetPort.IntValue() == port {
				return true
			}
		}
	}
	pods, err := n.podLister.List(labels.Everything())
	n.cacheError(err)
	for _, o := range pods {
		for _, c := range o.Spec.Containers {
			for _, p := range c.Ports {
				if int(p.ContainerPort) == port {
					return true
				}
			}
		}
	}
	return false
}

func (n *Node) configMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return n.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (n *Node) secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return n.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}

// withoutManagedFields makes cached objects half as large: nobody here asks who
// wrote which field.
func withoutManagedFields(o any) (any, error) {
	if a, err := meta.Accessor(o); err == nil {
		a.SetManagedFields(nil)
	}
	return o, nil
}

// handler calls f for each object that was added, changed or removed, in its
// last known state.
func handler[T runtime.Object](f func(o T, gone bool)) cache.ResourceEventHandler {
	call := func(o any, gone bool) {
		if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = last.Obj
		}
		if o, ok := o.(T); ok {
			f(o, gone)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { call(o, false) },
		UpdateFunc: func(_, o any) { call(o, false) },
		DeleteFunc: func(o any) { call(o, true) },
	}
}
