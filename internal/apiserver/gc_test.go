package apiserver

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// TestGarbageCollection tells its stories to one server, each in a namespace of
// its own.
func TestGarbageCollection(t *testing.T) {
	client := client(t, start(t, Config{}).RESTConfig())
	for _, story := range []struct {
		name string
		tell func(family)
	}{
		{"BackgroundDeletionTakesDescendantsAlong", backgroundDeletionTakesDescendantsAlong},
		{"ForegroundDeletionGoesBottomUp", foregroundDeletionGoesBottomUp},
		{"ForegroundDeletionDoesNotWaitForThoseThatDoNotBlock", foregroundDeletionDoesNotWaitForThoseThatDoNotBlock},
		{"OrphansStay", orphansStay},
		{"AnObjectStaysWhileOneOwnerDoes", anObjectStaysWhileOneOwnerDoes},
		{"AnotherObjectOfTheOwnersNameIsNotTheOwner", anotherObjectOfTheOwnersNameIsNotTheOwner},
		{"AnOwnerOfAnUnknownKindKeepsItsDependents", anOwnerOfAnUnknownKindKeepsItsDependents},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(newFamily(t, client)) })
	}
}

// family makes config maps that own each other, in one namespace.
type family struct {
	t         *testing.T
	client    kubernetes.Interface
	namespace string
}

func newFamily(t *testing.T, client kubernetes.Interface) family {
	t.Helper()
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "family-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return family{t, client, ns.Name}
}

func owner(cm *corev1.ConfigMap, blocks bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: cm.Name, UID: cm.UID, BlockOwnerDeletion: &blocks}
}

func (f family) create(name string, finalizers []string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	f.t.Helper()
	cm, err := f.client.CoreV1().ConfigMaps(f.namespace).Create(f.t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners, Finalizers: finalizers},
	}, metav1.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return cm
}

func (f family) delete(name string, policy metav1.DeletionPropagation) {
	f.t.Helper()
	err := f.client.CoreV1().ConfigMaps(f.namespace).Delete(f.t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &policy})
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f family) get(name string) *corev1.ConfigMap {
	f.t.Helper()
	cm, err := f.client.CoreV1().ConfigMaps(f.namespace).Get(f.t.Context(), name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		f.t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return cm
}

// await watches until the object is as wanted; nil stands for gone.
func (f family) await(name, what string, want func(*corev1.ConfigMap) bool) {
	f.t.Helper()
	const patience = time.Minute // of a busy machine; it takes milliseconds
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	list, err := f.client.CoreV1().ConfigMaps(f.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	var present *corev1.ConfigMap
	for i := range list.Items {
		if list.Items[i].Name == name {
			present = &list.Items[i]
		}
	}
	if want(present) {
		return
	}
	w, err := f.client.CoreV1().ConfigMaps(f.namespace).Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + name, ResourceVersion: list.ResourceVersion,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		cm := event.Object.(*corev1.ConfigMap)
		if event.Type == watch.Deleted {
			cm = nil
		}
		if want(cm) {
			return
		}
	}
	f.t.Fatalf("%s is not %s after %v", name, what, patience)
}

func (f family) awaitGone(name string) {
	f.t.Helper()
	f.await(name, "gone", func(cm *corev1.ConfigMap) bool { return cm == nil })
}

// settle waits until the collector has dealt with everything that happened up
// to now: it works an object's change off after those before it.
func (f family) settle() {
	f.t.Helper()
	probe := f.create("probe-"+string(types.UID(fmt.Sprint(time.Now().UnixNano()))), nil,
		metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "nobody", UID: "nobody"})
	f.awaitGone(probe.Name)
}

func backgroundDeletionTakesDescendantsAlong(f family) {
	grandmother := f.create("grandmother", nil)
	mother := f.create("mother", nil, owner(grandmother, true))
	f.create("child", nil, owner(mother, true))
	f.delete("grandmother", metav1.DeletePropagationBackground)
	for _, name := range []string{"grandmother", "mother", "child"} {
		f.awaitGone(name)
	}
}

func foregroundDeletionGoesBottomUp(f family) {
	grandmother := f.create("grandmother", nil)
	mother := f.create("mother", nil, owner(grandmother, true))
	f.create("child", []string{"test.example/hold"}, owner(mother, true))
	f.delete("grandmother", metav1.DeletePropagationForeground)

	f.await("child", "being deleted", func(cm *corev1.ConfigMap) bool { return cm != nil && cm.DeletionTimestamp != nil })
	f.settle()
	for _, name := range []string{"grandmother", "mother"} {
		if cm := f.get(name); cm == nil || cm.DeletionTimestamp == nil {
			f.t.Fatalf("%s = %v; want it to wait for its dependents", name, cm)
		}
	}
	_, err := f.client.CoreV1().ConfigMaps(f.namespace).Patch(f.t.Context(), "child", types.MergePatchType,
		[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range []string{"child", "mother", "grandmother"} {
		f.awaitGone(name)
	}
}

func foregroundDeletionDoesNotWaitForThoseThatDoNotBlock(f family) {
	mother := f.create("mother", nil)
	f.create("child", []string{"test.example/hold"}, owner(mother, false))
	f.delete("mother", metav1.DeletePropagationForeground)
	f.awaitGone("mother")
	f.await("child", "being deleted", func(cm *corev1.ConfigMap) bool { return cm != nil && cm.DeletionTimestamp != nil })
}

func orphansStay(f family) {
	mother := f.create("mother", nil)
	f.create("child", nil, owner(mother, true))
	f.settle() // the collector knows the child: it is told of changes in order
	f.delete("mother", metav1.DeletePropagationOrphan)
	f.awaitGone("mother")
	f.await("child", "free of its owner", func(cm *corev1.ConfigMap) bool { return cm != nil && len(cm.OwnerReferences) == 0 })
	f.settle()
	if f.get("child") == nil {
		f.t.Error("the orphan was deleted")
	}
}

func anObjectStaysWhileOneOwnerDoes(f family) {
	mother, father := f.create("mother", nil), f.create("father", nil)
	f.create("child", nil, owner(mother, true), owner(father, true))
	f.delete("mother", metav1.DeletePropagationBackground)
	f.await("child", "left with one owner", func(cm *corev1.ConfigMap) bool { return cm != nil && len(cm.OwnerReferences) == 1 })
	f.delete("father", metav1.DeletePropagationBackground)
	f.awaitGone("child")
}

func anotherObjectOfTheOwnersNameIsNotTheOwner(f family) {
	mother := f.create("mother", nil)
	ref := owner(mother, true)
	ref.UID = "somebody-else"
	f.create("changeling", nil, ref)
	f.awaitGone("changeling")
	// An owner in another namespace is none either.
	_, err := f.client.CoreV1().ConfigMaps("kube-system").Create(f.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "far"}}, metav1.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	far, err := f.client.CoreV1().ConfigMaps("kube-system").Get(f.t.Context(), "far", metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.create("near", nil, owner(far, true))
	f.awaitGone("near")
}

func anOwnerOfAnUnknownKindKeepsItsDependents(f family) {
	f.create("kept", nil, metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Unknown", Name: "x", UID: "x"})
	f.settle()
	if f.get("kept") == nil {
		f.t.Error("deleted although nobody can say whether its owner exists")
	}
}
