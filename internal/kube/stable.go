package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// MakeStable makes the stable Deployment run the given revision: the target's
// present template, or one kept by KeepRevision, on copies of what that used. It
// writes nothing where that is so already. Replicas are the target's when the copy is made, and the
// user's affair afterwards. Without a target an existing copy can still go back
// to a kept revision.
func (c *Client) MakeStable(ctx context.Context, d *Delivery, revision string) error {
	if d.Stable.Exists && d.Stable.Revision == revision {
		return c.repairCopies(ctx, d, revision)
	}
	if have, err := c.deployment(d, d.Names.Stable); err == nil && !isCopyOf(d.Release, have) {
		return fmt.Errorf("%s: deployment %s %w", releaseName(d), have.Name, ErrTaken)
	}
	model := d.Names.Target
	if !d.Target.Exists {
		model = d.Names.Stable // it keeps all but its template
	}
	target, err := c.deployment(d, model)
	if err != nil {
		return err
	}
	if !identified(target) {
		return fmt.Errorf("%s: deployment %s must select its pods by one of the labels app, name or app.kubernetes.io/name, so that a stable copy can be told apart",
			releaseName(d), target.Name)
	}
	template := target.Spec.Template.DeepCopy()
	if d.Target.Revision != revision || d.Target.Config != "" || Revision(template) != revision {
		if template, err = c.keptTemplate(ctx, d, revision); err != nil {
			return err
		}
		if err := c.onCopies(ctx, d, template, revision, d.Names.suffix()); err != nil {
			return err
		}
	}
	labels := target.Spec.Selector.MatchLabels
	if d.Target.Exists {
		labels = copyLabels(target, d.Names.Stable)
	}
	dep := copyOf(d, target, d.Names.Stable, template, labels)
	dep.Spec.Template.Labels[LabelRelease] = d.Release.Name
	if !d.Stable.Exists {
		replicas := max(d.Target.Replicas, d.Scaler.Least, 1)
		dep.Spec.Replicas = &replicas
		_, err = c.apply(ctx, deploymentsResource, dep)
		return err
	}
	return c.replaceTemplate(ctx, dep)
}

// copyOf builds a Deployment like the model, with a name, labels and a template
// of its own.
func copyOf(d *Delivery, model *appsv1.Deployment, name string, template *corev1.PodTemplateSpec, labels map[string]string) *appsv1.Deployment {
	template = template.DeepCopy()
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	maps.Copy(template.Labels, labels)
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: ownMeta(d, name),
		Spec: appsv1.DeploymentSpec{
			Selector:        &metav1.LabelSelector{MatchLabels: labels},
			Template:        *template,
			Strategy:        model.Spec.Strategy,
			MinReadySeconds: model.Spec.MinReadySeconds,
		},
	}
}

// replaceTemplate swaps the whole pod template of an existing Deployment: an
// apply would leave fields behind that only the old template had and others own.
func (c *Client) replaceTemplate(ctx context.Context, want *appsv1.Deployment) error {
	api := c.core.AppsV1().Deployments(want.Namespace)
	have, err := api.Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("stable deployment %s/%s: %w", want.Namespace, want.Name, kindOf(err))
	}
	have.Spec.Template = want.Spec.Template
	have.Spec.Strategy = want.Spec.Strategy
	have.Spec.MinReadySeconds = want.Spec.MinReadySeconds
	if _, err := api.Update(ctx, have, metav1.UpdateOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("stable deployment %s/%s: %w", want.Namespace, want.Name, kindOf(err))
	}
	return nil
}

// KeepRevision stores the target's present pod template under its revision, with
// what it uses of ConfigMaps and Secrets, so that it can be run again after the
// user has changed the target. Keeping the
// same revision twice is no error.
func (c *Client) KeepRevision(ctx context.Context, d *Delivery) error {
	target, err := c.deployment(d, d.Names.Target)
	if err != nil {
		return err
	}
	if d.Target.Template != Revision(&target.Spec.Template) {
		return nil // it was changed since it was looked at: the next look keeps it
	}
	name := revisionName(d, d.Target.Revision)
	_, err = c.coreInformers.Apps().V1().ControllerRevisions().Lister().ControllerRevisions(d.Names.Namespace).Get(name)
	if err == nil && c.configsKept(d, target) {
		return nil
	}
	if err := c.keepConfigs(ctx, d, target); err != nil {
		return err
	}
	data, err := json.Marshal(&target.Spec.Template)
	if err != nil {
		return fmt.Errorf("%s: keep revision: %w", releaseName(d), err)
	}
	rev := &appsv1.ControllerRevision{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevision"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: d.Names.Namespace,
			Labels:          map[string]string{LabelRelease: d.Release.Name},
			OwnerReferences: ownedBy(d.Release),
		},
		Data:     runtime.RawExtension{Raw: data},
		Revision: target.Generation,
	}
	_, err = c.apply(ctx, revisionsResource, rev)
	return err
}

func (c *Client) keptTemplate(ctx context.Context, d *Delivery, revision string) (*corev1.PodTemplateSpec, error) {
	rev, err := c.core.AppsV1().ControllerRevisions(d.Names.Namespace).Get(ctx, revisionName(d, revision), metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: revision %s was not kept: %w", releaseName(d), revision, kindOf(err))
	}
	t := &corev1.PodTemplateSpec{}
	if err := json.Unmarshal(rev.Data.Raw, t); err != nil {
		return nil, fmt.Errorf("%s: revision %s: %w", releaseName(d), revision, err)
	}
	return t, nil
}

// DropRevisions deletes the kept revisions that are not in keep.
func (c *Client) DropRevisions(ctx context.Context, d *Delivery, keep map[string]bool) error {
	list, err := c.coreInformers.Apps().V1().ControllerRevisions().Lister().ControllerRevisions(d.Names.Namespace).List(ownLabels(d.Release))
	if err != nil {
		return fmt.Errorf("%s: kept revisions: %w", releaseName(d), err)
	}
	wanted := map[string]bool{}
	for rev := range keep {
		wanted[revisionName(d, rev)] = true
	}
	for _, rev := range list {
		if wanted[rev.Name] {
			continue
		}
		err := c.core.AppsV1().ControllerRevisions(rev.Namespace).Delete(ctx, rev.Name, metav1.DeleteOptions{})
		if err = kindOf(err); err != nil && !isNotFound(err) {
			return fmt.Errorf("%s: drop revision %s: %w", releaseName(d), rev.Name, err)
		}
	}
	return c.dropConfigs(ctx, d, keep)
}

func revisionName(d *Delivery, revision string) string {
	return d.Names.Target + "-" + revision
}

// ScaleTarget sets the canary's replicas, without a claim on them; it writes
// nothing where that is so already.
func (c *Client) ScaleTarget(ctx context.Context, d *Delivery, replicas int32) error {
	switch {
	case !d.Target.Exists || d.Target.Replicas == replicas && !d.Target.Claimed:
		return nil
	case d.Target.Replicas == replicas:
		return c.disown(ctx, deploymentsResource, d.Names.Namespace, d.Names.Target)
	default:
		return c.borrow(ctx, deploymentsResource, d.Names.Namespace, d.Names.Target,
			map[string]any{"spec": map[string]any{"replicas": replicas}})
	}
}

// ScaleStable sets the replicas of the stable copy.
func (c *Client) ScaleStable(ctx context.Context, d *Delivery, replicas int32) error {
	if !d.Stable.Exists || d.Stable.Replicas == replicas {
		return nil
	}
	return c.patch(ctx, deploymentsResource, d.Names.Namespace, d.Names.Stable,
		map[string]any{"spec": map[string]any{"replicas": replicas}})
}
