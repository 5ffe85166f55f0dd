package kube

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A changed ConfigMap or Secret can break a service as well as a changed image,
// so what a pod template uses of them belongs to its revision. Serin never
// writes to the user's objects: the stable copy runs on copies of its own, and
// a revision that may have to be run again is kept with copies of what it used.

// Annotations of what a release does with ConfigMaps and Secrets.
const (
	// AnnotationConfigTracking set to "disabled" on a ConfigMap, a Secret or the
	// target leaves its changes out of the revision, and out of the copies.
	AnnotationConfigTracking        = "serin.dev/config-tracking"
	annotationFlaggerConfigTracking = "flagger.app/config-tracking"

	// annotationRevision says on the template of a copy, whose references lead
	// to copies, which revision it runs.
	annotationRevision = "serin.dev/revision"
	// annotationSum is the sum of a cached Secret's data, which is not cached.
	annotationSum = "serin.dev/sum"

	labelKept   = "serin.dev/kept"   // on kept copies: the revision they belong to
	labelConfig = "serin.dev/config" // on the target's pods: the sum of what they use
)

// Configs reads ConfigMaps and Secrets. Any error means that there is none.
type Configs interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, error)
	Secret(namespace, name string) (*corev1.Secret, error)
}

// RevisionOf names what a Deployment runs: its template, with what that uses
// of ConfigMaps and Secrets. Without any of these it is Revision.
func RevisionOf(dep *appsv1.Deployment, from Configs) string {
	revision, _ := revisionOf(dep, from)
	return revision
}

// revisionOf returns as well the sum of what the template uses; "" = nothing.
func revisionOf(dep *appsv1.Deployment, from Configs) (revision, sum string) {
	revision = Revision(&dep.Spec.Template)
	if dep.Spec.Template.Annotations[annotationRevision] != "" || optedOut(dep.ObjectMeta) {
		return revision, ""
	}
	h := fnv.New64a()
	for _, ref := range configsOf(&dep.Spec.Template) {
		if data, ok := ref.read(from, dep.Namespace); ok {
			fmt.Fprintf(h, "%s %s %s\n", ref.kind, ref.name, data)
			sum = fmt.Sprintf("%016x", h.Sum64())
		}
	}
	if sum == "" {
		return revision, ""
	}
	h.Write([]byte(revision))
	return fmt.Sprintf("%016x", h.Sum64()), sum
}

func optedOut(o metav1.ObjectMeta) bool {
	return cmp.Or(o.Annotations[AnnotationConfigTracking], o.Annotations[annotationFlaggerConfigTracking]) == "disabled"
}

// configRef is one object that a template uses.
type configRef struct{ kind, name string }

// The kinds of configRef.
const (
	configMapKind = "ConfigMap"
	secretKind    = "Secret"
)

// read returns the sum of the object's data; ok is false where it does not take
// part.
func (r configRef) read(from Configs, namespace string) (sum string, ok bool) {
	if r.kind == configMapKind {
		o, err := from.ConfigMap(namespace, r.name)
		if err != nil || optedOut(o.ObjectMeta) {
			return "", false
		}
		return sumOf(o.Data, o.BinaryData), true
	}
	o, err := from.Secret(namespace, r.name)
	if err != nil || optedOut(o.ObjectMeta) {
		return "", false
	}
	return cmp.Or(heldSum(o), sumOf(nil, o.Data)), true
}

func sumOf(texts map[string]string, data map[string][]byte) string {
	h := fnv.New128a()
	for _, k := range slices.Sorted(maps.Keys(texts)) {
		fmt.Fprintf(h, "%q=%q\n", k, texts[k])
	}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(h, "%q:%q\n", k, data[k])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// configsOf lists what a template uses, each once, in order.
func configsOf(t *corev1.PodTemplateSpec) []configRef {
	var out []configRef
	renameConfigs(t.DeepCopy(), func(r configRef) string {
		out = append(out, r)
		return r.name
	})
	slices.SortFunc(out, func(a, b configRef) int {
		return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.name, b.name))
	})
	return slices.Compact(out)
}

// renameConfigs gives each reference of a template the name that f says.
func renameConfigs(t *corev1.PodTemplateSpec, f func(configRef) string) {
	rename := func(kind string, name *string) {
		if *name != "" {
			*name = f(configRef{kind, *name})
		}
	}
	for _, containers := range [][]corev1.Container{t.Spec.InitContainers, t.Spec.Containers} {
		for i := range containers {
			for _, from := range containers[i].EnvFrom {
				if from.ConfigMapRef != nil {
					rename(configMapKind, &from.ConfigMapRef.Name)
				}
				if from.SecretRef != nil {
					rename(secretKind, &from.SecretRef.Name)
				}
			}
			for _, v := range containers[i].Env {
				if v.ValueFrom != nil && v.ValueFrom.ConfigMapKeyRef != nil {
					rename(configMapKind, &v.ValueFrom.ConfigMapKeyRef.Name)
				}
				if v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil {
					rename(secretKind, &v.ValueFrom.SecretKeyRef.Name)
				}
			}
		}
	}
	for _, v := range t.Spec.Volumes {
		if v.ConfigMap != nil {
			rename(configMapKind, &v.ConfigMap.Name)
		}
		if v.Secret != nil {
			rename(secretKind, &v.Secret.SecretName)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				rename(configMapKind, &s.ConfigMap.Name)
			}
			if s.Secret != nil {
				rename(secretKind, &s.Secret.Name)
			}
		}
	}
}

// liveConfigs reads from the API itself: what is copied must be whole, and new.
type liveConfigs struct {
	c   *Client
	ctx context.Context
}

func (l liveConfigs) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	return l.c.core.CoreV1().ConfigMaps(namespace).Get(l.ctx, name, metav1.GetOptions{})
}

func (l liveConfigs) Secret(namespace, name string) (*corev1.Secret, error) {
	return l.c.core.CoreV1().Secrets(namespace).Get(l.ctx, name, metav1.GetOptions{})
}

// cachedConfigs reads from the caches, in which Secrets have sums alone.
type cachedConfigs struct{ c *Client }

func (r cachedConfigs) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	return r.c.coreInformers.Core().V1().ConfigMaps().Lister().ConfigMaps(namespace).Get(name)
}

func (r cachedConfigs) Secret(namespace, name string) (*corev1.Secret, error) {
	return r.c.coreInformers.Core().V1().Secrets().Lister().Secrets(namespace).Get(name)
}

// copyConfig copies the object that a reference leads to under another name.
func (c *Client) copyConfig(ctx context.Context, d *Delivery, ref configRef, name string, labels map[string]string) error {
	if _, taken := c.isCopy(d, configRef{ref.kind, name}); taken {
		return fmt.Errorf("%s: %s %s exists and is not this Release's, which needs the name for a copy of %s: rename it", releaseName(d), ref.kind, name, ref.name)
	}
	meta := ownMeta(d, name)
	maps.Copy(meta.Labels, labels)
	if ref.kind == configMapKind {
		o, err := c.core.CoreV1().ConfigMaps(d.Names.Namespace).Get(ctx, ref.name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("%s: copy ConfigMap %s: %w", releaseName(d), ref.name, kindOf(err))
		}
		return c.applyWhole(ctx, configMapsResource, &corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: configMapKind}, ObjectMeta: meta,
			Data: o.Data, BinaryData: o.BinaryData,
		})
	}
	o, err := c.core.CoreV1().Secrets(d.Names.Namespace).Get(ctx, ref.name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("%s: copy Secret %s: %w", releaseName(d), ref.name, kindOf(err))
	}
	return c.applyWhole(ctx, secretsResource, &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: secretKind}, ObjectMeta: meta,
		Data: o.Data, Type: o.Type,
	})
}

func keptName(name, revision string) string { return name + "-" + revision }

// keepConfigs keeps copies of what the target's template uses, which must be
// what its revision says.
func (c *Client) keepConfigs(ctx context.Context, d *Delivery, target *appsv1.Deployment) error {
	live := liveConfigs{c, ctx}
	revision, sum := revisionOf(target, live)
	if revision != d.Target.Revision {
		return fmt.Errorf("%s: what revision %s used was changed before it was kept", releaseName(d), d.Target.Revision)
	}
	if sum == "" {
		return nil
	}
	for _, ref := range configsOf(&target.Spec.Template) {
		if _, ok := ref.read(live, target.Namespace); !ok {
			continue
		}
		if err := c.copyConfig(ctx, d, ref, keptName(ref.name, revision), map[string]string{labelKept: revision}); err != nil {
			return err
		}
	}
	return nil
}

// onCopies makes a template of a kept revision refer to its kept copies, or with
// a suffix to copies of these under names of their own.
func (c *Client) onCopies(ctx context.Context, d *Delivery, t *corev1.PodTemplateSpec, revision, suffix string) error {
	live := liveConfigs{c, ctx}
	names := map[configRef]string{}
	for _, ref := range configsOf(t) {
		kept := configRef{ref.kind, keptName(ref.name, revision)}
		if _, ok := kept.read(live, d.Names.Namespace); !ok {
			continue // it took no part in the revision
		}
		names[ref] = kept.name
		if suffix == "" {
			continue
		}
		names[ref] = ref.name + suffix
		if err := c.copyConfig(ctx, d, kept, names[ref], nil); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return nil
	}
	renameConfigs(t, func(r configRef) string { return cmp.Or(names[r], r.name) })
	if t.Annotations == nil {
		t.Annotations = map[string]string{}
	}
	t.Annotations[annotationRevision] = revision
	return nil
}

// offCopies undoes what onCopies did with a suffix.
func offCopies(t *corev1.PodTemplateSpec, suffix string) *corev1.PodTemplateSpec {
	t = t.DeepCopy()
	if t.Annotations[annotationRevision] == "" {
		return t
	}
	delete(t.Annotations, annotationRevision)
	renameConfigs(t, func(r configRef) string { return strings.TrimSuffix(r.name, suffix) })
	return t
}

// dropConfigs deletes kept copies of revisions that are not in keep.
func (c *Client) dropConfigs(ctx context.Context, d *Delivery, keep map[string]bool) error {
	core := c.coreInformers.Core().V1()
	maps, err := core.ConfigMaps().Lister().ConfigMaps(d.Names.Namespace).List(ownLabels(d.Release))
	if err != nil {
		return fmt.Errorf("%s: kept ConfigMaps: %w", releaseName(d), err)
	}
	for _, o := range maps {
		if rev := o.Labels[labelKept]; rev != "" && !keep[rev] {
			if err := kindOf(c.core.CoreV1().ConfigMaps(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{})); err != nil && !isNotFound(err) {
				return fmt.Errorf("%s: drop ConfigMap %s: %w", releaseName(d), o.Name, err)
			}
		}
	}
	secrets, err := core.Secrets().Lister().Secrets(d.Names.Namespace).List(ownLabels(d.Release))
	if err != nil {
		return fmt.Errorf("%s: kept Secrets: %w", releaseName(d), err)
	}
	for _, o := range secrets {
		if rev := o.Labels[labelKept]; rev != "" && !keep[rev] {
			if err := kindOf(c.core.CoreV1().Secrets(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{})); err != nil && !isNotFound(err) {
				return fmt.Errorf("%s: drop Secret %s: %w", releaseName(d), o.Name, err)
			}
		}
	}
	return nil
}

// configure adds to the target what its template uses of ConfigMaps and Secrets.
func (c *Client) configure(d *Delivery) error {
	w := &d.Target
	dep, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return nil // there is no target
	}
	// The Deployment may be newer than the one that the rest was read from: a
	// revision must not get the label of the one before.
	w.Template = Revision(&dep.Spec.Template)
	w.Revision, w.Config = revisionOf(dep, cachedConfigs{c})
	w.Version = versionOf(&dep.Spec.Template, w.Revision)
	if !w.Ready || w.Config == "" {
		return nil
	}
	pods, err := c.podsOf(dep)
	if slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Labels[labelConfig] != w.Config }) {
		w.Ready, w.Message = false, fmt.Sprintf("the pods of %s begin anew with the changed configuration", dep.Name)
	}
	return err
}

// RefreshPods notes on the target's pods what the ConfigMaps and Secrets said with
// which they began. When they are vacant, those that began with what one said
// before are replaced, all at once: a process reads its environment once. Pods
// that requests may be under way to stay as they are. It writes nothing where
// that is so already.
func (c *Client) RefreshPods(ctx context.Context, d *Delivery, vacant bool) error {
	if d.Target.Config == "" {
		return nil
	}
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return err
	}
	pods, err := c.podsOf(target)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		switch began := pod.Labels[labelConfig]; {
		case began == d.Target.Config:
			continue
		case began == "":
			label := map[string]any{"metadata": map[string]any{"labels": map[string]any{labelConfig: d.Target.Config}}}
			err = c.patch(ctx, podsResource, pod.Namespace, pod.Name, label)
		case vacant:
			err = kindOf(c.core.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{}))
		}
		if err != nil && !isNotFound(err) {
			return fmt.Errorf("%s: pod %s: %w", releaseName(d), pod.Name, err)
		}
	}
	return nil
}

// podsOf lists the pods of a Deployment that are not being deleted.
func (c *Client) podsOf(dep *appsv1.Deployment) ([]*corev1.Pod, error) {
	pods, err := c.coreInformers.Core().V1().Pods().Lister().Pods(dep.Namespace).List(selectorOf(dep))
	if err != nil {
		return nil, fmt.Errorf("pods of %s/%s: %w", dep.Namespace, dep.Name, err)
	}
	return slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil }), nil
}
