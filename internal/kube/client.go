package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	istioclient "istio.io/client-go/pkg/clientset/versioned"
	istioinformers "istio.io/client-go/pkg/informers/externalversions"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"serin.dev/serin/api/v1alpha1"
)

const mergePatch = types.MergePatchType

// fieldManager owns every field that Serin writes (server-side apply).
const fieldManager = "serin"

// ErrNotFound says that the object does not exist (any more).
var ErrNotFound = errors.New("not found")

// Client reads through informers' caches, which trail the API by a few
// milliseconds, and writes directly. It is safe for concurrent use.
type Client struct {
	core    kubernetes.Interface
	dynamic dynamic.Interface
	events  record.EventRecorder
	log     *slog.Logger

	coreInformers  informers.SharedInformerFactory
	istioInformers istioinformers.SharedInformerFactory
	releases       cache.SharedIndexInformer
	experiments    cache.SharedIndexInformer
	canaries       cache.SharedIndexInformer

	meshChanged    Signal
	releaseChanged Signal
	canaryChanged  Signal
	broadcaster    record.EventBroadcaster

	running context.Context     // of Run
	scalers map[string]*scalers // by kind
}

// NewClient prepares a client; nothing is read before Run.
func NewClient(config *rest.Config, log *slog.Logger) (*Client, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API is our own or has fairness of its own; a client-side limit only delays rollbacks
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	istio, err := istioclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("istio client: %w", err)
	}
	sch := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, flaggerv1.AddToScheme, scheme.AddToScheme} {
		if err := add(sch); err != nil {
			return nil, fmt.Errorf("scheme: %w", err)
		}
	}
	releases, err := informerFor(config, sch, v1alpha1.GroupVersion, "releases", &v1alpha1.Release{})
	if err != nil {
		return nil, err
	}
	experiments, err := informerFor(config, sch, v1alpha1.GroupVersion, "experiments", &v1alpha1.Experiment{})
	if err != nil {
		return nil, err
	}
	canaries, err := informerFor(config, sch, flaggerv1.SchemeGroupVersion, "canaries", &flaggerv1.Canary{})
	if err != nil {
		return nil, err
	}
	broadcaster := record.NewBroadcaster()
	c := &Client{
		core:           core,
		dynamic:        dyn,
		broadcaster:    broadcaster,
		events:         broadcaster.NewRecorder(sch, corev1.EventSource{Component: "serin"}),
		log:            log,
		coreInformers:  informers.NewSharedInformerFactory(core, 0),
		istioInformers: istioinformers.NewSharedInformerFactory(istio, 0),
		releases:       releases,
		experiments:    experiments,
		canaries:       canaries,
		meshChanged:    NewSignal(),
		releaseChanged: NewSignal(),
		canaryChanged:  NewSignal(),
	}
	c.prepareScalers()
	return c, c.watch()
}

// watch registers who is told of which changes; informers exist from then on.
func (c *Client) watch() error {
	ci, ii := c.coreInformers.Core().V1(), c.istioInformers.Networking().V1()
	if err := ci.Secrets().Informer().SetTransform(keepCertificates); err != nil {
		return fmt.Errorf("watch secrets: %w", err)
	}
	mesh := []cache.SharedIndexInformer{
		ci.Pods().Informer(), ci.Services().Informer(), ci.Secrets().Informer(),
		c.coreInformers.Discovery().V1().EndpointSlices().Informer(),
		ii.VirtualServices().Informer(), ii.DestinationRules().Informer(), ii.Gateways().Informer(),
		ii.ServiceEntries().Informer(), ii.WorkloadEntries().Informer(),
		c.istioInformers.Security().V1().AuthorizationPolicies().Informer(),
	}
	release := []cache.SharedIndexInformer{
		c.releases, c.experiments, c.canaries,
		c.coreInformers.Apps().V1().Deployments().Informer(),
		c.coreInformers.Apps().V1().ControllerRevisions().Informer(),
		ci.ConfigMaps().Informer(), ci.Secrets().Informer(),
		ci.Pods().Informer(), ci.Services().Informer(), ci.Namespaces().Informer(), ii.VirtualServices().Informer(),
	}
	for signal, list := range map[Signal][]cache.SharedIndexInformer{c.meshChanged: mesh, c.releaseChanged: release, c.canaryChanged: {c.releases, c.canaries}} {
		for _, inf := range list {
			if _, err := inf.AddEventHandler(signal.handler()); err != nil {
				return fmt.Errorf("watch: %w", err)
			}
		}
	}
	// Of Deployments MeshObjects reads nothing but who is held.
	_, err := c.coreInformers.Apps().V1().Deployments().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(before, now any) {
			if held(before.(*appsv1.Deployment)) != held(now.(*appsv1.Deployment)) {
				c.meshChanged.Give()
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}

// Run keeps the caches up to date until ctx ends; it returns once they hold
// everything that existed when it was called.
func (c *Client) Run(ctx context.Context) error {
	c.running = ctx
	c.startScalers()
	c.broadcaster.StartRecordingToSink(&eventSink{c.core, ctx})
	context.AfterFunc(ctx, c.broadcaster.Shutdown)
	c.coreInformers.Start(ctx.Done())
	c.istioInformers.Start(ctx.Done())
	go c.releases.Run(ctx.Done())
	go c.experiments.Run(ctx.Done())
	go c.canaries.Run(ctx.Done())
	c.coreInformers.WaitForCacheSync(ctx.Done())
	c.istioInformers.WaitForCacheSync(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), c.releases.HasSynced, c.experiments.HasSynced, c.canaries.HasSynced) {
		return fmt.Errorf("read the API: %w", context.Cause(ctx))
	}
	return nil
}

// MeshChanged is signalled when anything that MeshObjects returns changed.
func (c *Client) MeshChanged() Signal { return c.meshChanged }

// ReleaseChanged is signalled when anything changed that releases depend on.
func (c *Client) ReleaseChanged() Signal { return c.releaseChanged }

// CanaryChanged is signalled when a Canary or a Release changed.
func (c *Client) CanaryChanged() Signal { return c.canaryChanged }

// Signal wakes one reader; signals that come faster than they are read merge.
type Signal chan struct{}

// NewSignal returns a signal that was not given yet.
func NewSignal() Signal { return make(Signal, 1) }

// Give wakes the reader. It never blocks.
func (s Signal) Give() {
	select {
	case s <- struct{}{}:
	default:
	}
}

func (s Signal) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { s.Give() },
		UpdateFunc: func(any, any) { s.Give() },
		DeleteFunc: func(any) { s.Give() },
	}
}

// informerFor builds an informer for a kind that has no generated one.
func informerFor(config *rest.Config, sch *runtime.Scheme, gv schema.GroupVersion, resource string, kind runtime.Object) (cache.SharedIndexInformer, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion = &gv
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(sch).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", resource, err)
	}
	lw := cache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything())
	return cache.NewSharedIndexInformer(lw, kind, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}), nil
}

// apply writes the fields of obj, and takes them over from other writers. The
// object returned is the API's answer.
func (c *Client) apply(ctx context.Context, gvr schema.GroupVersionResource, obj runtime.Object, subresources ...string) (*unstructured.Unstructured, error) {
	u, err := toUnstructured(obj)
	if err != nil {
		return nil, err
	}
	if len(subresources) == 0 {
		delete(u.Object, "status")
	}
	opts := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	got, err := c.dynamic.Resource(gvr).Namespace(u.GetNamespace()).Apply(ctx, u.GetName(), u, opts, subresources...)
	if err != nil {
		return nil, fmt.Errorf("apply %s %s/%s: %w", gvr.Resource, u.GetNamespace(), u.GetName(), kindOf(err))
	}
	return got, nil
}

// patch merges a JSON document into an object.
func (c *Client) patch(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, doc any) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("patch %s %s/%s: %w", gvr.Resource, namespace, name, err)
	}
	opts := metav1.PatchOptions{FieldManager: fieldManager}
	if _, err := c.dynamic.Resource(gvr).Namespace(namespace).Patch(ctx, name, mergePatch, data, opts); err != nil {
		return fmt.Errorf("patch %s %s/%s: %w", gvr.Resource, namespace, name, kindOf(err))
	}
	return nil
}

func toUnstructured(obj runtime.Object) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &u.Object); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	u.SetManagedFields(nil)
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	return u, nil
}

func kindOf(err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// eventSink writes events with the life of the client.
type eventSink struct {
	core kubernetes.Interface
	ctx  context.Context
}

func (s *eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	return s.core.CoreV1().Events(e.Namespace).Create(s.ctx, e, metav1.CreateOptions{})
}

func (s *eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	return s.core.CoreV1().Events(e.Namespace).Update(s.ctx, e, metav1.UpdateOptions{})
}

func (s *eventSink) Patch(old *corev1.Event, data []byte) (*corev1.Event, error) {
	return s.core.CoreV1().Events(old.Namespace).Patch(s.ctx, old.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{})
}
