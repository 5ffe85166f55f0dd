package apiserver

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The checks here are those whose absence would make an object mean something
// else than its author thinks, or nothing at all: names, ports, selectors,
// duplicates, what may not change. They use Kubernetes' own field errors, so a
// message names the field and the wrong value.

// validateName checks the name by the kind's rule. Labels, annotations and the
// rest of the metadata are checked for every kind by the registry.
func validateName(obj runtime.Object, rule validation.ValidateNameFunc) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range rule(mustMeta(obj).GetName(), false) {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), mustMeta(obj).GetName(), msg))
	}
	return errs
}

func validateDeployment(obj, old runtime.Object) field.ErrorList {
	d, spec := obj.(*appsv1.Deployment), field.NewPath("spec")
	errs := validateName(d, validation.NameIsDNSSubdomain)
	if d.Spec.Replicas != nil && *d.Spec.Replicas < 0 {
		errs = append(errs, negativeReplicas(*d.Spec.Replicas)...)
	}
	errs = append(errs, validateSelector(d, spec)...)
	errs = append(errs, validatePodSpec(&d.Spec.Template.Spec, spec.Child("template", "spec"))...)
	if p := d.Spec.Template.Spec.RestartPolicy; p != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(spec.Child("template", "spec", "restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	errs = append(errs, validateStrategy(&d.Spec.Strategy, spec.Child("strategy"))...)
	for name, v := range map[string]*int32{
		"revisionHistoryLimit": d.Spec.RevisionHistoryLimit, "progressDeadlineSeconds": d.Spec.ProgressDeadlineSeconds,
		"minReadySeconds": &d.Spec.MinReadySeconds,
	} {
		if v != nil {
			errs = append(errs, validation.ValidateNonnegativeField(int64(*v), spec.Child(name))...)
		}
	}
	if old != nil {
		errs = append(errs, validation.ValidateImmutableField(d.Spec.Selector, old.(*appsv1.Deployment).Spec.Selector, spec.Child("selector"))...)
	}
	return errs
}

func negativeReplicas(n int32) field.ErrorList {
	return validation.ValidateNonnegativeField(int64(n), field.NewPath("spec", "replicas"))
}

func validateSelector(d *appsv1.Deployment, spec *field.Path) field.ErrorList {
	path := spec.Child("selector")
	if d.Spec.Selector == nil {
		return field.ErrorList{field.Required(path, "say which pods belong to the Deployment, such as matchLabels: {app: "+d.Name+"}")}
	}
	errs := metav1validation.ValidateLabelSelector(d.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path)
	errs = append(errs, metav1validation.ValidateLabels(d.Spec.Template.Labels, spec.Child("template", "metadata", "labels"))...)
	if len(errs) > 0 {
		return errs
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	switch {
	case err != nil:
		errs = append(errs, field.Invalid(path, d.Spec.Selector, err.Error()))
	case selector.Empty():
		errs = append(errs, field.Invalid(path, d.Spec.Selector, "empty selector is invalid for deployment"))
	case !selector.Matches(labels.Set(d.Spec.Template.Labels)):
		errs = append(errs, field.Invalid(spec.Child("template", "metadata", "labels"), d.Spec.Template.Labels,
			fmt.Sprintf("`selector` does not match template `labels`: the selector is %q", selector)))
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(path.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
	default:
		return field.ErrorList{field.NotSupported(path.Child("type"), s.Type,
			[]appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
	}
	var errs field.ErrorList
	zero := 0
	for name, v := range map[string]*intstr.IntOrString{"maxUnavailable": s.RollingUpdate.MaxUnavailable, "maxSurge": s.RollingUpdate.MaxSurge} {
		path := path.Child("rollingUpdate", name)
		n, err := intstr.GetScaledValueFromIntOrPercent(v, 100, true)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(path, v.String(), "must be an integer or a percentage such as '25%'"))
		case n < 0:
			errs = append(errs, field.Invalid(path, v.String(), "must be greater than or equal to 0"))
		case n == 0:
			zero++
		}
	}
	if zero == 2 {
		errs = append(errs, field.Invalid(path.Child("rollingUpdate", "maxUnavailable"), s.RollingUpdate.MaxUnavailable.String(), "may not be 0 when `maxSurge` is 0"))
	}
	return errs
}

func validatePod(obj, old runtime.Object) field.ErrorList {
	pod, spec := obj.(*corev1.Pod), field.NewPath("spec")
	errs := validateName(pod, validation.NameIsDNSSubdomain)
	errs = append(errs, validatePodSpec(&pod.Spec, spec)...)
	if old == nil {
		return errs
	}
	// What runs in a pod cannot change under it, except for images and the
	// name of the node it was not yet given to.
	was, is := old.(*corev1.Pod).Spec.DeepCopy(), pod.Spec.DeepCopy()
	for _, s := range []*corev1.PodSpec{was, is} {
		s.ActiveDeadlineSeconds, s.TerminationGracePeriodSeconds, s.Tolerations = nil, nil, nil
		eachOf(s.InitContainers, func(c *corev1.Container) { c.Image = "" })
		eachOf(s.Containers, func(c *corev1.Container) { c.Image = "" })
	}
	if was.NodeName == "" {
		is.NodeName = ""
	}
	if !equality.Semantic.DeepEqual(was, is) {
		errs = append(errs, field.Forbidden(spec, "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, `spec.activeDeadlineSeconds` and `spec.tolerations`; delete the pod and create it anew"))
	}
	return errs
}

func validatePodSpec(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(spec.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), "a pod needs at least one container"))
	}
	volumes := map[string]bool{}
	for i, v := range spec.Volumes {
		path := path.Child("volumes").Index(i).Child("name")
		errs = append(errs, dnsLabel(path, v.Name)...)
		if volumes[v.Name] {
			errs = append(errs, field.Duplicate(path, v.Name))
		}
		volumes[v.Name] = true
	}
	names := map[string]bool{}
	check := func(containers []corev1.Container, path *field.Path) {
		for i := range containers {
			errs = append(errs, validateContainer(&containers[i], volumes, path.Index(i))...)
			if names[containers[i].Name] {
				errs = append(errs, field.Duplicate(path.Index(i).Child("name"), containers[i].Name))
			}
			names[containers[i].Name] = true
		}
	}
	check(spec.InitContainers, path.Child("initContainers"))
	check(spec.Containers, path.Child("containers"))
	switch spec.RestartPolicy {
	case corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
	default:
		errs = append(errs, field.NotSupported(path.Child("restartPolicy"), spec.RestartPolicy,
			[]corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
	if p := spec.TerminationGracePeriodSeconds; p != nil {
		errs = append(errs, validation.ValidateNonnegativeField(*p, path.Child("terminationGracePeriodSeconds"))...)
	}
	return errs
}

func validateContainer(c *corev1.Container, volumes map[string]bool, path *field.Path) field.ErrorList {
	errs := dnsLabel(path.Child("name"), c.Name)
	if strings.TrimSpace(c.Image) == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	}
	ports := map[string]bool{}
	for i, p := range c.Ports {
		path := path.Child("ports").Index(i)
		errs = append(errs, portNumber(path.Child("containerPort"), p.ContainerPort)...)
		errs = append(errs, protocol(path.Child("protocol"), p.Protocol)...)
		if p.Name == "" {
			continue
		}
		for _, msg := range utilvalidation.IsValidPortName(p.Name) {
			errs = append(errs, field.Invalid(path.Child("name"), p.Name, msg))
		}
		if ports[p.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), p.Name))
		}
		ports[p.Name] = true
	}
	for i, e := range c.Env {
		path := path.Child("env").Index(i)
		if e.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
			continue
		}
		for _, msg := range utilvalidation.IsRelaxedEnvVarName(e.Name) {
			errs = append(errs, field.Invalid(path.Child("name"), e.Name, msg))
		}
		if e.Value != "" && e.ValueFrom != nil {
			errs = append(errs, field.Invalid(path.Child("valueFrom"), "", "may not be specified when `value` is not empty"))
		}
	}
	for i, m := range c.VolumeMounts {
		path := path.Child("volumeMounts").Index(i)
		if !volumes[m.Name] {
			errs = append(errs, field.NotFound(path.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			errs = append(errs, field.Required(path.Child("mountPath"), ""))
		}
	}
	for name, p := range map[string]*corev1.Probe{"livenessProbe": c.LivenessProbe, "readinessProbe": c.ReadinessProbe, "startupProbe": c.StartupProbe} {
		errs = append(errs, validateProbe(p, ports, name != "readinessProbe", path.Child(name))...)
	}
	return errs
}

// validateProbe checks one probe; ports are the container's port names.
func validateProbe(p *corev1.Probe, ports map[string]bool, once bool, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	handlers := 0
	if p.Exec != nil {
		handlers++
		if len(p.Exec.Command) == 0 {
			errs = append(errs, field.Required(path.Child("exec", "command"), ""))
		}
	}
	if p.HTTPGet != nil {
		handlers++
		errs = append(errs, probePort(path.Child("httpGet", "port"), p.HTTPGet.Port, ports)...)
		if s := p.HTTPGet.Scheme; s != corev1.URISchemeHTTP && s != corev1.URISchemeHTTPS {
			errs = append(errs, field.NotSupported(path.Child("httpGet", "scheme"), s, []corev1.URIScheme{corev1.URISchemeHTTP, corev1.URISchemeHTTPS}))
		}
	}
	if p.TCPSocket != nil {
		handlers++
		errs = append(errs, probePort(path.Child("tcpSocket", "port"), p.TCPSocket.Port, ports)...)
	}
	if p.GRPC != nil {
		handlers++
		errs = append(errs, portNumber(path.Child("grpc", "port"), p.GRPC.Port)...)
	}
	switch {
	case handlers == 0:
		errs = append(errs, field.Required(path, "must specify a handler type: httpGet, tcpSocket or exec"))
	case handlers > 1:
		errs = append(errs, field.Forbidden(path, "may not specify more than 1 handler type"))
	}
	for name, v := range map[string]int32{"initialDelaySeconds": p.InitialDelaySeconds, "timeoutSeconds": p.TimeoutSeconds,
		"periodSeconds": p.PeriodSeconds, "successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold} {
		errs = append(errs, validation.ValidateNonnegativeField(int64(v), path.Child(name))...)
	}
	if once && p.SuccessThreshold > 1 {
		errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	return errs
}

func probePort(path *field.Path, port intstr.IntOrString, names map[string]bool) field.ErrorList {
	if port.Type == intstr.Int {
		return portNumber(path, port.IntVal)
	}
	if !names[port.StrVal] {
		return field.ErrorList{field.Invalid(path, port.StrVal, "the container has no port of this name")}
	}
	return nil
}

func validateService(obj, old runtime.Object) field.ErrorList {
	svc, spec := obj.(*corev1.Service), field.NewPath("spec")
	errs := validateName(svc, validation.NameIsDNS1035Label)
	types := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName}
	known := false
	for _, t := range types {
		known = known || svc.Spec.Type == t
	}
	if !known {
		errs = append(errs, field.NotSupported(spec.Child("type"), svc.Spec.Type, types))
	}
	errs = append(errs, metav1validation.ValidateLabels(svc.Spec.Selector, spec.Child("selector"))...)
	headless := svc.Spec.ClusterIP == corev1.ClusterIPNone
	external := svc.Spec.Type == corev1.ServiceTypeExternalName
	if external && svc.Spec.ExternalName == "" {
		errs = append(errs, field.Required(spec.Child("externalName"), ""))
	}
	if len(svc.Spec.Ports) == 0 && !headless && !external {
		errs = append(errs, field.Required(spec.Child("ports"), "a Service needs at least one port"))
	}
	names, numbers := map[string]bool{}, map[string]bool{}
	for i, p := range svc.Spec.Ports {
		path := spec.Child("ports").Index(i)
		errs = append(errs, portNumber(path.Child("port"), p.Port)...)
		errs = append(errs, protocol(path.Child("protocol"), p.Protocol)...)
		if p.Name == "" && len(svc.Spec.Ports) > 1 {
			errs = append(errs, field.Required(path.Child("name"), "several ports need names"))
		} else if p.Name != "" {
			errs = append(errs, dnsLabel(path.Child("name"), p.Name)...)
			if names[p.Name] {
				errs = append(errs, field.Duplicate(path.Child("name"), p.Name))
			}
			names[p.Name] = true
		}
		key := fmt.Sprintf("%s/%d", p.Protocol, p.Port)
		if numbers[key] {
			errs = append(errs, field.Duplicate(path.Child("port"), key))
		}
		numbers[key] = true
		if p.TargetPort.Type == intstr.Int {
			errs = append(errs, portNumber(path.Child("targetPort"), p.TargetPort.IntVal)...)
		} else {
			for _, msg := range utilvalidation.IsValidPortName(p.TargetPort.StrVal) {
				errs = append(errs, field.Invalid(path.Child("targetPort"), p.TargetPort.StrVal, msg))
			}
		}
	}
	if old != nil && old.(*corev1.Service).Spec.ClusterIP != "" && !external {
		errs = append(errs, validation.ValidateImmutableField(svc.Spec.ClusterIP, old.(*corev1.Service).Spec.ClusterIP, spec.Child("clusterIP"))...)
	}
	return errs
}

func serviceFields(obj runtime.Object) fields.Set {
	svc := obj.(*corev1.Service)
	return fields.Set{"spec.clusterIP": svc.Spec.ClusterIP, "spec.type": string(svc.Spec.Type)}
}

func dnsLabel(path *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	for _, msg := range utilvalidation.IsDNS1123Label(name) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}

func portNumber(path *field.Path, port int32) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range utilvalidation.IsValidPortNum(int(port)) {
		errs = append(errs, field.Invalid(path, port, msg))
	}
	return errs
}

func protocol(path *field.Path, p corev1.Protocol) field.ErrorList {
	known := []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}
	for _, k := range known {
		if p == k {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(path, p, known)}
}

func validateAutoscaler(obj, _ runtime.Object) field.ErrorList {
	hpa := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	errs := validateName(hpa, validation.NameIsDNSSubdomain)
	spec := field.NewPath("spec")
	target := hpa.Spec.ScaleTargetRef
	if target.Kind == "" {
		errs = append(errs, field.Required(spec.Child("scaleTargetRef", "kind"), ""))
	}
	if target.Name == "" {
		errs = append(errs, field.Required(spec.Child("scaleTargetRef", "name"), ""))
	}
	least := int32(1)
	if hpa.Spec.MinReplicas != nil {
		least = *hpa.Spec.MinReplicas
	}
	if least < 1 {
		errs = append(errs, field.Invalid(spec.Child("minReplicas"), least, "must be greater than or equal to 1"))
	}
	if hpa.Spec.MaxReplicas < max(least, 1) {
		errs = append(errs, field.Invalid(spec.Child("maxReplicas"), hpa.Spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	return errs
}

func validateLease(obj, _ runtime.Object) field.ErrorList {
	lease := obj.(*coordinationv1.Lease)
	errs := validateName(lease, validation.NameIsDNSSubdomain)
	if d := lease.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	return errs
}

func validateEndpointSlice(obj, old runtime.Object) field.ErrorList {
	slice := obj.(*discoveryv1.EndpointSlice)
	errs := validateName(slice, validation.NameIsDNSSubdomain)
	switch slice.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
	default:
		errs = append(errs, field.NotSupported(field.NewPath("addressType"), slice.AddressType,
			[]discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN}))
	}
	for i, e := range slice.Endpoints {
		if len(e.Addresses) == 0 {
			errs = append(errs, field.Required(field.NewPath("endpoints").Index(i).Child("addresses"), "must contain at least 1 address"))
		}
	}
	if old != nil {
		errs = append(errs, validation.ValidateImmutableField(slice.AddressType, old.(*discoveryv1.EndpointSlice).AddressType, field.NewPath("addressType"))...)
	}
	return errs
}

func validateControllerRevision(obj, old runtime.Object) field.ErrorList {
	errs := validateName(obj, validation.NameIsDNSSubdomain)
	if old != nil {
		errs = append(errs, validation.ValidateImmutableField(obj.(*appsv1.ControllerRevision).Data, old.(*appsv1.ControllerRevision).Data, field.NewPath("data"))...)
	}
	return errs
}
