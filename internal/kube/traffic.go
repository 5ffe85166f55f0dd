package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"serin.dev/serin/api/v1alpha1"
	"serin.dev/serin/internal/rollout"
)

var (
	servicesResource    = corev1.SchemeGroupVersion.WithResource("services")
	podsResource        = corev1.SchemeGroupVersion.WithResource("pods")
	configMapsResource  = corev1.SchemeGroupVersion.WithResource("configmaps")
	secretsResource     = corev1.SchemeGroupVersion.WithResource("secrets")
	deploymentsResource = appsv1.SchemeGroupVersion.WithResource("deployments")
	revisionsResource   = appsv1.SchemeGroupVersion.WithResource("controllerrevisions")
	routesResource      = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}
	releasesResource    = v1alpha1.GroupVersion.WithResource("releases")
	rulesResource       = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"}
	experimentsResource = v1alpha1.GroupVersion.WithResource("experiments")
	canariesResource    = schema.GroupVersionResource{Group: "flagger.app", Version: "v1beta1", Resource: "canaries"}
)

// annotationSelector keeps the selector that a Service of the user's had before
// the Release pointed it to the stable pods, as JSON.
const annotationSelector = "serin.dev/original-selector"

// MakeSides makes the Services of the two sides, which no user calls yet. The
// canary's selects the pods of one revision alone, the target's present one: pods
// of the next are there as soon as the target is changed, and must not get what
// routes give to the one that is judged. Unless it follows the target it stays
// with the revision that it has, as it does without a target. MakeSides writes
// nothing where that is so already. The stable copy must exist.
func (c *Client) MakeSides(ctx context.Context, d *Delivery, follow bool) error {
	stable, err := c.deployment(d, d.Names.Stable)
	if err != nil {
		return err
	}
	if err := c.makeService(ctx, d, d.Names.StableService, stable.Spec.Selector.MatchLabels); err != nil || !d.Target.Exists {
		return err
	}
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return err
	}
	selector := ofRevision(target, &d.Target)
	have, err := c.coreInformers.Core().V1().Services().Lister().Services(d.Names.Namespace).Get(d.Names.CanaryService)
	if err == nil && !follow { // the lister's only error is "not found"
		selector = have.Spec.Selector
	}
	return c.makeService(ctx, d, d.Names.CanaryService, selector)
}

// ofRevision is the selector of the target's pods that run its present revision.
func ofRevision(target *appsv1.Deployment, w *Workload) map[string]string {
	out := maps.Clone(target.Spec.Selector.MatchLabels)
	out[LabelRevision] = w.Template
	if w.Config != "" {
		out[labelConfig] = w.Config
	}
	return out
}

// MakeTraffic makes the VirtualServices give the canary what t says, and with
// preview the testers' requests; everything else goes to stable. Then it makes the
// users' Service select the stable pods, if there is a stable copy. It writes
// nothing where that is so already, and one that cannot be written keeps it from
// none of the others. The caller learns from the Route of a later Delivery which
// generation to wait for. The target need not exist, so that traffic can be taken
// from one that was deleted.
func (c *Client) MakeTraffic(ctx context.Context, d *Delivery, t rollout.Traffic, preview bool) error {
	want, err := routesFor(d, t, preview)
	if err != nil {
		return err
	}
	var errs []error
	for _, vs := range want {
		errs = append(errs, c.makeRoute(ctx, d, vs))
	}
	// One of gateways that the spec names no more would go on with the last split.
	_, err = c.dropRoutes(ctx, d, routeNames(d.Release)...)
	errs = append(errs, err)
	if d.Stable.Exists && d.Holder == "" {
		stable, err := c.deployment(d, d.Names.Stable)
		if err == nil {
			err = c.makeService(ctx, d, d.Names.Service, stable.Spec.Selector.MatchLabels)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Client) makeRoute(ctx context.Context, d *Delivery, want *istiov1.VirtualService) error {
	have, err := c.istioInformers.Networking().V1().VirtualServices().Lister().VirtualServices(want.Namespace).Get(want.Name)
	if err == nil && !d.owns(have) {
		return fmt.Errorf("%s: VirtualService %s/%s exists and belongs to somebody else: delete it, or make the split anew with another spec.service.name",
			releaseName(d), want.Namespace, want.Name)
	}
	if err == nil && proto.Equal(&have.Spec, &want.Spec) && contains(have.Labels, want.Labels) {
		return nil
	}
	_, err = c.apply(ctx, routesResource, want)
	return err
}

// deployment returns one of the release's two; it must not be changed.
func (c *Client) deployment(d *Delivery, name string) (*appsv1.Deployment, error) {
	dep, err := c.coreInformers.Apps().V1().Deployments().Lister().Deployments(d.Names.Namespace).Get(name)
	if err != nil {
		return nil, fmt.Errorf("%s: deployment %s/%s: %w", releaseName(d), d.Names.Namespace, name, ErrNotFound)
	}
	return dep, nil
}

// makeService creates a Service or points an existing one to the selector. A
// Service that the user made keeps everything else, and its selector is
// remembered for HandBack.
func (c *Client) makeService(ctx context.Context, d *Delivery, name string, selector map[string]string) error {
	want := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: d.Names.Namespace,
		},
		Spec: corev1.ServiceSpec{Selector: selector},
	}
	have, err := c.coreInformers.Core().V1().Services().Lister().Services(d.Names.Namespace).Get(name)
	exists := err == nil // the lister's only error is "not found"
	mine := !exists || have.Labels[LabelRelease] == d.Release.Name
	if !mine {
		if maps.Equal(have.Spec.Selector, selector) {
			return nil
		}
		return c.takeService(ctx, have, selector)
	}
	own := d.metadata(name)
	want.Labels, want.Annotations = maps.Clone(own.Labels), maps.Clone(own.Annotations)
	if want.Labels == nil {
		want.Labels = map[string]string{}
	}
	want.Labels[LabelRelease] = d.Release.Name
	want.OwnerReferences = ownedBy(d.Release)
	if want.Spec.Ports, err = c.servicePorts(d); err != nil {
		return err
	}
	if exists && maps.Equal(have.Spec.Selector, selector) && samePorts(have.Spec.Ports, want.Spec.Ports) &&
		contains(have.Labels, want.Labels) && contains(have.Annotations, want.Annotations) {
		return nil
	}
	_, err = c.apply(ctx, servicesResource, want)
	return err
}

// takeService replaces the selector of a user's Service; a merge patch with
// null removes keys that the new selector lacks, which apply could not do for
// fields that others own.
func (c *Client) takeService(ctx context.Context, have *corev1.Service, selector map[string]string) error {
	patch := map[string]any{}
	for k := range have.Spec.Selector {
		patch[k] = nil
	}
	for k, v := range selector {
		patch[k] = v
	}
	doc := map[string]any{"spec": map[string]any{"selector": patch}}
	if _, kept := have.Annotations[annotationSelector]; !kept {
		original, err := json.Marshal(have.Spec.Selector)
		if err != nil {
			return fmt.Errorf("keep the selector of service %s: %w", have.Name, err)
		}
		doc["metadata"] = map[string]any{"annotations": map[string]any{annotationSelector: string(original)}}
	}
	return c.borrow(ctx, servicesResource, have.Namespace, have.Name, doc)
}

func samePorts(have, want []corev1.ServicePort) bool {
	return slices.EqualFunc(have, want, func(h, w corev1.ServicePort) bool {
		return h.Port == w.Port && h.Name == w.Name && reflect.DeepEqual(h.TargetPort, w.TargetPort) && reflect.DeepEqual(h.AppProtocol, w.AppProtocol)
	})
}

// contains reports whether have says all that want says.
func contains(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// metadata is what the spec says of one of the Release's Services.
func (d *Delivery) metadata(service string) v1alpha1.Metadata {
	m := d.Release.Spec.Service.Metadata
	if m == nil {
		return v1alpha1.Metadata{}
	}
	of := map[string]*v1alpha1.Metadata{
		d.Names.Service: m.Service, d.Names.StableService: m.Stable, d.Names.CanaryService: m.Canary,
	}[service]
	if of == nil {
		return v1alpha1.Metadata{}
	}
	return *of
}

// servicePorts are those of the Release's Services.
func (c *Client) servicePorts(d *Delivery) ([]corev1.ServicePort, error) {
	s := &d.Release.Spec.Service
	ports := []corev1.ServicePort{servicePort(s)}
	if !s.PortDiscovery {
		return ports, nil
	}
	model := d.Names.Target
	if !d.Target.Exists {
		model = d.Names.Stable
	}
	pods, err := c.deployment(d, model)
	if err != nil {
		return nil, err
	}
	return append(ports, otherPorts(ports[0], &pods.Spec.Template.Spec)...), nil
}

func servicePort(s *v1alpha1.Service) corev1.ServicePort {
	p := corev1.ServicePort{Name: s.PortName, Port: s.Port, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(s.Port)}
	if p.Name == "" {
		p.Name = "http"
	}
	if s.TargetPort != nil {
		p.TargetPort = *s.TargetPort
	}
	if s.AppProtocol != "" {
		p.AppProtocol = &s.AppProtocol
	}
	return p
}

// otherPorts are the ports of the pods' containers but for the one that is
// served already, named as the container does or by where they stand.
func otherPorts(served corev1.ServicePort, pod *corev1.PodSpec) []corev1.ServicePort {
	var out []corev1.ServicePort
	taken := map[string]bool{served.Name: true}
	for _, c := range pod.Containers {
		for i, p := range c.Ports {
			isServed := p.ContainerPort == served.TargetPort.IntVal
			if served.TargetPort.Type == intstr.String {
				isServed = p.Name == served.TargetPort.StrVal
			}
			name := p.Name
			if name == "" {
				name = fmt.Sprintf("tcp-%s-%d", c.Name, i)
			}
			if isServed || taken[name] || p.ContainerPort == served.Port || p.Protocol == corev1.ProtocolUDP || p.Protocol == corev1.ProtocolSCTP {
				continue
			}
			taken[name] = true
			out = append(out, corev1.ServicePort{Name: name, Port: p.ContainerPort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(p.ContainerPort)})
		}
	}
	return out
}

func releaseName(d *Delivery) string {
	if d.experiment != nil {
		return experimentName(d.experiment)
	}
	return "release " + d.Release.Namespace + "/" + d.Release.Name
}

func ownedBy(r *v1alpha1.Release) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "Release",
		Name: r.Name, UID: r.UID, Controller: &yes, BlockOwnerDeletion: &yes,
	}}
}

// copyLabels is the selector of a copy of the target, by the copy's name: the
// target's, with the value of its identity label changed.
func copyLabels(target *appsv1.Deployment, name string) map[string]string {
	out := maps.Clone(target.Spec.Selector.MatchLabels)
	for _, l := range IdentityLabels {
		if v, ok := out[l]; ok {
			out[l] = v + name[len(target.Name):]
			break
		}
	}
	return out
}

// identified reports whether a stable copy of the Deployment can be told apart
// from it by labels.
func identified(target *appsv1.Deployment) bool {
	return slices.ContainsFunc(IdentityLabels, func(l string) bool {
		_, ok := target.Spec.Selector.MatchLabels[l]
		return ok
	})
}
