package apiserver

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

// table prints objects of one kind the way kubectl users know them. kubectl
// asks the server for the columns; those with priority 1 show with -o wide.
type table struct{ resource resource }

func (t table) ConvertToTable(_ context.Context, obj runtime.Object, options runtime.Object) (*metav1.Table, error) {
	out := &metav1.Table{}
	if opts, ok := options.(*metav1.TableOptions); !ok || !opts.NoHeaders {
		out.ColumnDefinitions = append([]metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
		}, t.resource.columns...)
	}
	add := func(obj runtime.Object) error {
		out.Rows = append(out.Rows, metav1.TableRow{
			Cells:  append([]any{mustMeta(obj).GetName()}, t.resource.row(obj)...),
			Object: runtime.RawExtension{Object: obj},
		})
		return nil
	}
	if !meta.IsListType(obj) {
		return out, add(obj)
	}
	list, err := meta.ListAccessor(obj)
	if err != nil {
		return nil, err
	}
	out.ResourceVersion = list.GetResourceVersion()
	out.Continue = list.GetContinue()
	out.RemainingItemCount = list.GetRemainingItemCount()
	return out, meta.EachListItem(obj, add)
}

// column and wide name a column; wide ones show with -o wide only.
func column(name string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string"}
}

func number(name string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer"}
}

func wide(name string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Priority: 1}
}

func age(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

var (
	namespaceColumns          = []metav1.TableColumnDefinition{column("Status"), column("Age")}
	configMapColumns          = []metav1.TableColumnDefinition{number("Data"), column("Age")}
	secretColumns             = []metav1.TableColumnDefinition{column("Type"), number("Data"), column("Age")}
	serviceAccountColumns     = []metav1.TableColumnDefinition{number("Secrets"), column("Age")}
	autoscalerColumns         = []metav1.TableColumnDefinition{column("Reference"), number("MinPods"), number("MaxPods"), number("Replicas"), column("Age")}
	leaseColumns              = []metav1.TableColumnDefinition{column("Holder"), column("Age")}
	controllerRevisionColumns = []metav1.TableColumnDefinition{column("Controller"), number("Revision"), column("Age")}
	endpointSliceColumns      = []metav1.TableColumnDefinition{column("AddressType"), column("Ports"), column("Endpoints"), column("Age")}
	serviceColumns            = []metav1.TableColumnDefinition{column("Type"), column("Cluster-IP"), column("External-IP"), column("Port(s)"), column("Age"), wide("Selector")}
	deploymentColumns         = []metav1.TableColumnDefinition{column("Ready"), number("Up-to-date"), number("Available"), column("Age"), wide("Containers"), wide("Images"), wide("Selector")}
	podColumns                = []metav1.TableColumnDefinition{column("Ready"), column("Status"), column("Restarts"), column("Age"), wide("IP"), wide("Node"), wide("Nominated Node"), wide("Readiness Gates")}
	eventColumns              = []metav1.TableColumnDefinition{column("Last Seen"), column("Type"), column("Reason"), column("Object"), wide("Subobject"), wide("Source"), column("Message"), wide("First Seen"), wide("Count"), wide("Name")}
)

func namespaceRow(obj runtime.Object) []any {
	ns := obj.(*corev1.Namespace)
	phase := ns.Status.Phase
	if ns.DeletionTimestamp != nil {
		phase = corev1.NamespaceTerminating
	}
	return []any{string(phase), age(ns.CreationTimestamp)}
}

func configMapRow(obj runtime.Object) []any {
	cm := obj.(*corev1.ConfigMap)
	return []any{int64(len(cm.Data) + len(cm.BinaryData)), age(cm.CreationTimestamp)}
}

func secretRow(obj runtime.Object) []any {
	secret := obj.(*corev1.Secret)
	return []any{string(secret.Type), int64(len(secret.Data)), age(secret.CreationTimestamp)}
}

func serviceAccountRow(obj runtime.Object) []any {
	account := obj.(*corev1.ServiceAccount)
	return []any{int64(len(account.Secrets)), age(account.CreationTimestamp)}
}

func autoscalerRow(obj runtime.Object) []any {
	hpa := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	least := int32(1)
	if hpa.Spec.MinReplicas != nil {
		least = *hpa.Spec.MinReplicas
	}
	target := hpa.Spec.ScaleTargetRef
	return []any{target.Kind + "/" + target.Name, least, hpa.Spec.MaxReplicas, hpa.Status.CurrentReplicas, age(hpa.CreationTimestamp)}
}

func leaseRow(obj runtime.Object) []any {
	lease := obj.(*coordinationv1.Lease)
	holder := ""
	if lease.Spec.HolderIdentity != nil {
		holder = *lease.Spec.HolderIdentity
	}
	return []any{holder, age(lease.CreationTimestamp)}
}

func controllerRevisionRow(obj runtime.Object) []any {
	r := obj.(*appsv1.ControllerRevision)
	controller := ""
	if c := metav1.GetControllerOf(r); c != nil {
		controller = strings.ToLower(c.Kind) + "/" + c.Name
	}
	return []any{orNone(controller), r.Revision, age(r.CreationTimestamp)}
}

func endpointSliceRow(obj runtime.Object) []any {
	slice := obj.(*discoveryv1.EndpointSlice)
	var ports, addresses []string
	for _, p := range slice.Ports {
		if p.Port != nil {
			ports = append(ports, strconv.Itoa(int(*p.Port)))
		}
	}
	for _, e := range slice.Endpoints {
		addresses = append(addresses, e.Addresses...)
	}
	const shown = 3 // as kubectl does; the rest is counted
	endpoints := strings.Join(addresses, ",")
	if len(addresses) > shown {
		endpoints = fmt.Sprintf("%s + %d more...", strings.Join(addresses[:shown], ","), len(addresses)-shown)
	}
	unset := func(s string) string {
		if s == "" {
			return "<unset>"
		}
		return s
	}
	return []any{string(slice.AddressType), unset(strings.Join(ports, ",")), unset(endpoints), age(slice.CreationTimestamp)}
}

func serviceRow(obj runtime.Object) []any {
	svc := obj.(*corev1.Service)
	external := strings.Join(svc.Spec.ExternalIPs, ",")
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		external = svc.Spec.ExternalName
	}
	var ports []string
	for _, p := range svc.Spec.Ports {
		if p.NodePort > 0 {
			ports = append(ports, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
			continue
		}
		ports = append(ports, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	return []any{
		string(svc.Spec.Type), orNone(svc.Spec.ClusterIP), orNone(external), orNone(strings.Join(ports, ",")),
		age(svc.CreationTimestamp), labels.FormatLabels(svc.Spec.Selector),
	}
}

func deploymentRow(obj runtime.Object) []any {
	d := obj.(*appsv1.Deployment)
	var wanted int32
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	var names, images []string
	for _, c := range d.Spec.Template.Spec.Containers {
		names, images = append(names, c.Name), append(images, c.Image)
	}
	return []any{
		fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, wanted), int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas),
		age(d.CreationTimestamp), strings.Join(names, ","), strings.Join(images, ","), metav1.FormatLabelSelector(d.Spec.Selector),
	}
}

func podRow(obj runtime.Object) []any {
	pod := obj.(*corev1.Pod)
	status := string(pod.Status.Phase)
	if pod.Status.Reason != "" {
		status = pod.Status.Reason
	}
	ready, restarts := 0, int32(0)
	var restarted metav1.Time
	for _, c := range pod.Status.ContainerStatuses {
		restarts += c.RestartCount
		if c.Ready && c.State.Running != nil {
			ready++
		}
		if t := c.LastTerminationState.Terminated; t != nil && restarted.Before(&t.FinishedAt) {
			restarted = t.FinishedAt
		}
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			status = c.State.Waiting.Reason
		case c.State.Terminated != nil && c.State.Terminated.Reason != "":
			status = c.State.Terminated.Reason
		case c.State.Terminated != nil:
			status = fmt.Sprintf("ExitCode:%d", c.State.Terminated.ExitCode)
		}
	}
	if pod.DeletionTimestamp != nil {
		status = "Terminating"
	}
	restartText := strconv.Itoa(int(restarts))
	if restarts > 0 && !restarted.IsZero() {
		restartText += fmt.Sprintf(" (%s ago)", age(restarted))
	}
	return []any{
		fmt.Sprintf("%d/%d", ready, len(pod.Spec.Containers)), status, restartText, age(pod.CreationTimestamp),
		orNone(pod.Status.PodIP), orNone(pod.Spec.NodeName), orNone(pod.Status.NominatedNodeName), "<none>",
	}
}

func eventRow(obj runtime.Object) []any {
	e := obj.(*corev1.Event)
	first, last, count := e.FirstTimestamp, e.LastTimestamp, e.Count
	if first.IsZero() {
		first = metav1.NewTime(e.EventTime.Time)
	}
	if e.Series != nil {
		last, count = metav1.NewTime(e.Series.LastObservedTime.Time), e.Series.Count
	}
	if last.IsZero() {
		last = first
	}
	source := []string{e.Source.Component}
	if e.Source.Component == "" {
		source[0] = e.ReportingController
	}
	if e.Source.Host != "" {
		source = append(source, e.Source.Host)
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	return []any{
		age(last), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, strings.Join(source, ", "),
		strings.TrimSpace(e.Message), age(first), strconv.Itoa(int(max(count, 1))), e.Name,
	}
}

// quoteAll lists names for a message.
func quoteAll(names []string) string {
	sort.Strings(names)
	return "[" + strings.Join(names, " ") + "]"
}

// isLatest: an image without a tag or with tag "latest", which Kubernetes pulls
// every time.
func isLatest(image string) bool {
	if strings.Contains(image, "@") {
		return false
	}
	rest := image[strings.LastIndexByte(image, '/')+1:]
	_, tag, tagged := strings.Cut(rest, ":")
	return !tagged || tag == "latest"
}
