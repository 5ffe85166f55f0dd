package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/kubectl/pkg/util/resource"

	"serin.dev/serin/internal/kube"
)

// inherited are the variables of Serin's own environment that processes get.
// All else must be in the pod's spec, so that it runs the same elsewhere.
var inherited = []string{"PATH", "HOME", "TMPDIR", "LANG"}

// configs reads the objects that environments refer to. An error for which
// apierrors.IsNotFound holds means that the object is missing.
type configs interface {
	configMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// environment is what a container's variables are made from.
type environment struct {
	base      map[string]string // the lowest layer
	image     map[string]string // what the image would set
	pod       *corev1.Pod
	container *corev1.Container
	podIP     string
	hostIP    string
	ports     portMap
	outbound  string            // host:port of the proxy for outgoing requests
	services  []*corev1.Service // in the pod's namespace
	marker    string
	configs   configs
}

// portMap says where a container really listens.
type portMap struct {
	main    int           // the value of PORT; 0: none
	private map[int32]int // by container port
}

// build returns the variables. Layers, each over the ones before: the base,
// Serin's additions, the image's, service variables, envFrom, env; and last
// PORT, POD_IP and the marker, which cannot be overridden because they say
// what is.
//
// Errors are about the pod's spec and name the variable.
func (e *environment) build(ctx context.Context) (map[string]string, error) {
	vars := maps.Clone(e.base)
	if vars == nil {
		vars = map[string]string{}
	}
	fixed := e.additions(vars)
	if err := e.upstreams(vars); err != nil {
		return nil, err
	}
	maps.Copy(vars, e.image)
	if e.pod.Spec.EnableServiceLinks == nil || *e.pod.Spec.EnableServiceLinks {
		for _, s := range e.services {
			serviceVariables(s, vars)
		}
	}
	for _, from := range e.container.EnvFrom {
		if err := e.addAll(ctx, from, vars); err != nil {
			return nil, err
		}
	}
	maps.Copy(vars, fixed) // before env, where $(PORT) must be the real one
	for _, v := range e.container.Env {
		value, set, err := e.value(ctx, v, vars)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", v.Name, err)
		}
		if _, isFixed := fixed[v.Name]; set && !isFixed {
			vars[v.Name] = value
		}
	}
	return vars, nil
}

// additions adds Serin's own variables and returns those that are fixed.
func (e *environment) additions(vars map[string]string) (fixed map[string]string) {
	vars["POD_NAME"] = e.pod.Name
	vars["POD_NAMESPACE"] = e.pod.Namespace
	if v := kube.Version(&corev1.PodTemplateSpec{ObjectMeta: e.pod.ObjectMeta, Spec: e.pod.Spec}); v != "" {
		vars["SERIN_VERSION"] = v
	}
	if e.outbound != "" {
		vars["HTTP_PROXY"] = "http://" + e.outbound
		vars["http_proxy"] = "http://" + e.outbound
	}
	fixed = map[string]string{"POD_IP": e.podIP}
	if name, value, ok := strings.Cut(e.marker, "="); ok {
		fixed[name] = value
	}
	if e.ports.main != 0 {
		fixed["PORT"] = strconv.Itoa(e.ports.main)
	}
	for _, p := range e.container.Ports {
		name := p.Name
		if name == "" {
			name = strconv.Itoa(int(p.ContainerPort))
		}
		if private := e.ports.private[p.ContainerPort]; private != 0 {
			fixed["PORT_"+variableName(name)] = strconv.Itoa(private)
		}
	}
	return fixed
}

// upstreams adds, for each service that the pod reaches at a port of its own,
// the variables by which Consul tells it where.
func (e *environment) upstreams(vars map[string]string) error {
	list, err := kube.ParseUpstreams(e.pod.Annotations[kube.AnnotationUpstreams])
	if err != nil {
		return err
	}
	for _, u := range list {
		service, _, _ := strings.Cut(u.Service, ".")
		name := variableName(service) + "_CONNECT_SERVICE_"
		vars[name+"HOST"], vars[name+"PORT"] = e.podIP, strconv.Itoa(int(u.LocalPort))
	}
	return nil
}

// addAll adds the keys of one ConfigMap or Secret.
func (e *environment) addAll(ctx context.Context, from corev1.EnvFromSource, vars map[string]string) error {
	add := func(key, value string) {
		// Kubernetes skips keys that cannot be variables, too.
		if len(validation.IsEnvVarName(from.Prefix+key)) == 0 {
			vars[from.Prefix+key] = value
		}
	}
	switch {
	case from.ConfigMapRef != nil:
		ref := from.ConfigMapRef
		cm, err := e.configs.configMap(ctx, e.pod.Namespace, ref.Name)
		if err != nil {
			return missing(err, ref.Optional)
		}
		for k, v := range cm.Data {
			add(k, v)
		}
	case from.SecretRef != nil:
		ref := from.SecretRef
		s, err := e.configs.secret(ctx, e.pod.Namespace, ref.Name)
		if err != nil {
			return missing(err, ref.Optional)
		}
		for k, v := range s.Data {
			add(k, string(v))
		}
	}
	return nil
}

// missing is nil for an optional object that does not exist.
func missing(err error, optional *bool) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// value returns a variable's value, or set=false for an optional one that is
// not there.
func (e *environment) value(ctx context.Context, v corev1.EnvVar, vars map[string]string) (value string, set bool, err error) {
	from := v.ValueFrom
	switch {
	case from == nil:
		return expand(v.Value, vars), true, nil
	case from.FieldRef != nil:
		value, err = e.field(from.FieldRef.FieldPath)
	case from.ResourceFieldRef != nil:
		value, err = e.resource(from.ResourceFieldRef)
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := e.configs.configMap(ctx, e.pod.Namespace, ref.Name)
		if err != nil {
			return "", false, missing(err, ref.Optional)
		}
		value, ok := cm.Data[ref.Key]
		return optionalKey(value, ok, "ConfigMap", ref.Name, ref.Key, ref.Optional)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, err := e.configs.secret(ctx, e.pod.Namespace, ref.Name)
		if err != nil {
			return "", false, missing(err, ref.Optional)
		}
		value, ok := s.Data[ref.Key]
		return optionalKey(string(value), ok, "Secret", ref.Name, ref.Key, ref.Optional)
	default:
		return "", false, fmt.Errorf("its valueFrom is not supported: use value, fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef")
	}
	return value, err == nil, err
}

func optionalKey(value string, ok bool, kind, name, key string, optional *bool) (string, bool, error) {
	if ok || optional != nil && *optional {
		return value, ok, nil
	}
	return "", false, fmt.Errorf("%s %q has no key %q", kind, name, key)
}

// field is the downward API.
func (e *environment) field(path string) (string, error) {
	if name, key, ok := strings.Cut(path, "['"); ok && strings.HasSuffix(key, "']") {
		key = strings.TrimSuffix(key, "']")
		switch name {
		case "metadata.labels":
			return e.pod.Labels[key], nil
		case "metadata.annotations":
			return e.pod.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return e.pod.Name, nil
	case "metadata.namespace":
		return e.pod.Namespace, nil
	case "metadata.uid":
		return string(e.pod.UID), nil
	case "spec.nodeName":
		return e.pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return e.pod.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return e.hostIP, nil
	case "status.podIP", "status.podIPs":
		return e.podIP, nil
	}
	return "", fmt.Errorf("unknown fieldPath %q", path)
}

// resource is a request or limit of a container. One that is not set is
// refused: the machine's size, which a cluster would give, is not the share
// that one process of many should plan with.
func (e *environment) resource(ref *corev1.ResourceFieldSelector) (string, error) {
	of := e.container
	if ref.ContainerName != "" && ref.ContainerName != of.Name {
		i := slices.IndexFunc(e.pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == ref.ContainerName })
		if i < 0 {
			return "", fmt.Errorf("unknown container %q", ref.ContainerName)
		}
		of = &e.pod.Spec.Containers[i]
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	list := map[string]corev1.ResourceList{"limits": of.Resources.Limits, "requests": of.Resources.Requests}[kind]
	if _, ok := list[corev1.ResourceName(name)]; !ok {
		return "", fmt.Errorf("container %s sets no resources.%s", of.Name, ref.Resource)
	}
	return resource.ExtractContainerResourceValue(ref, of)
}

// serviceVariables adds NAME_SERVICE_HOST, NAME_SERVICE_PORT and
// NAME_SERVICE_PORT_<PORTNAME> of a service with a cluster IP.
func serviceVariables(s *corev1.Service, vars map[string]string) {
	if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	name := variableName(s.Name)
	vars[name+"_SERVICE_HOST"] = s.Spec.ClusterIP
	vars[name+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			vars[name+"_SERVICE_PORT_"+variableName(p.Name)] = strconv.Itoa(int(p.Port))
		}
	}
}

func variableName(s string) string {
	return strings.ToUpper(strings.ReplaceAll(s, "-", "_"))
}

// environ renders variables for a process, sorted by name.
func environ(vars map[string]string) []string {
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out
}

// expand replaces $(NAME) by the variable's value, as Kubernetes does in
// command, args and env: $$ is a dollar sign, and a reference to a variable
// that does not exist stays as it is.
func expand(s string, vars map[string]string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		if s[1] == '$' {
			b.WriteByte('$')
			s = s[2:]
			continue
		}
		if end := strings.IndexByte(s, ')'); s[1] == '(' && end > 0 {
			if v, ok := vars[s[2:end]]; ok {
				b.WriteString(v)
			} else {
				b.WriteString(s[:end+1])
			}
			s = s[end+1:]
			continue
		}
		b.WriteByte('$')
		s = s[1:]
	}
}
