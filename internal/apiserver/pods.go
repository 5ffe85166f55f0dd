package apiserver

import (
	"context"
	"io"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

// LogSource gives the output of a pod's container.
type LogSource interface {
	// Open returns the log that opts asks for, for the caller to close. With
	// opts.Follow set, Read blocks for more until the container ends, ctx is
	// done or the reader is closed. The error is told to the user as it is.
	Open(ctx context.Context, namespace, pod string, opts *corev1.PodLogOptions) (io.ReadCloser, error)
}

// podStrategy deletes pods gracefully: one that runs gets a deletion timestamp,
// and whoever runs it removes the object (grace period 0) once its processes
// are gone.
type podStrategy struct{ strategy }

// CheckGracefulDelete sets the grace period: the request's, else the pod's own;
// none for a pod that no node runs (any more).
func (podStrategy) CheckGracefulDelete(_ context.Context, obj runtime.Object, options *metav1.DeleteOptions) bool {
	pod := obj.(*corev1.Pod)
	period := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if p := pod.Spec.TerminationGracePeriodSeconds; p != nil {
		period = *p
	}
	if options.GracePeriodSeconds != nil {
		period = *options.GracePeriodSeconds
	}
	if period < 0 {
		period = 1
	}
	ended := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
	if pod.Spec.NodeName == "" || ended {
		period = 0
	}
	options.GracePeriodSeconds = &period
	return true
}

func preparePod(obj, old runtime.Object) {
	if old == nil {
		obj.(*corev1.Pod).Status.Phase = corev1.PodPending
	}
}

func podFields(obj runtime.Object) fields.Set {
	pod := obj.(*corev1.Pod)
	return fields.Set{
		"spec.nodeName":      pod.Spec.NodeName,
		"spec.restartPolicy": string(pod.Spec.RestartPolicy),
		"status.phase":       string(pod.Status.Phase),
		"status.podIP":       pod.Status.PodIP,
	}
}

// podLogs is the subresource behind kubectl logs.
type podLogs struct {
	pods *genericregistry.Store
	logs LogSource
}

func (l podLogs) New() runtime.Object { return &corev1.Pod{} }
func (l podLogs) Destroy()            {}

func (l podLogs) NewGetOptions() (runtime.Object, bool, string) {
	return &corev1.PodLogOptions{}, false, ""
}

// ProducesMIMETypes and ProducesObject describe the answer in discovery.
func (l podLogs) ProducesMIMETypes(string) []string { return []string{"text/plain"} }
func (l podLogs) ProducesObject(string) any         { return "" }

func (l podLogs) Get(ctx context.Context, name string, options runtime.Object) (runtime.Object, error) {
	opts, ok := options.(*corev1.PodLogOptions)
	if !ok {
		return nil, apierrors.NewBadRequest("log options expected")
	}
	obj, err := l.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod := obj.(*corev1.Pod)
	if err := checkLogContainer(pod, opts); err != nil {
		return nil, err
	}
	if l.logs == nil {
		return nil, apierrors.NewServiceUnavailable("no pods are run by this server, so there are no logs")
	}
	return logStream{
		open: func(ctx context.Context) (io.ReadCloser, error) {
			return l.logs.Open(ctx, pod.Namespace, pod.Name, opts)
		},
		follow: opts.Follow,
	}, nil
}

// checkLogContainer fills in the container of a pod that has one, and refuses
// what names none or is ambiguous.
func checkLogContainer(pod *corev1.Pod, opts *corev1.PodLogOptions) error {
	var names []string
	for _, c := range append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		if c.Name == opts.Container {
			return nil
		}
		names = append(names, c.Name)
	}
	switch {
	case opts.Container != "":
		return apierrors.NewBadRequest("container " + opts.Container + " is not valid for pod " + pod.Name + ": it has " + quoteAll(names))
	case len(names) == 1:
		opts.Container = names[0]
		return nil
	case pod.Annotations[defaultContainerAnnotation] != "":
		opts.Container = pod.Annotations[defaultContainerAnnotation]
		return nil
	}
	return apierrors.NewBadRequest("a container name must be specified for pod " + pod.Name + ", choose one of: " + quoteAll(names))
}

// defaultContainerAnnotation names the container that kubectl means when told
// none (kubernetes.io/docs/reference/labels-annotations-taints).
const defaultContainerAnnotation = "kubectl.kubernetes.io/default-container"

type logStream struct {
	open   func(context.Context) (io.ReadCloser, error)
	follow bool
}

var _ rest.ResourceStreamer = logStream{}

func (logStream) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }
func (s logStream) DeepCopyObject() runtime.Object { return s }

// InputStream opens the log; a followed one is flushed line by line.
func (s logStream) InputStream(ctx context.Context, _, _ string) (io.ReadCloser, bool, string, error) {
	r, err := s.open(ctx)
	if err != nil {
		return nil, false, "", apierrors.NewBadRequest(err.Error())
	}
	return r, s.follow, "text/plain", nil
}
