package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"serin.dev/serin/internal/metric"
	"serin.dev/serin/internal/notify"
)

// metricTemplate is Flagger's kind as far as a question needs it. The pinned
// module's own type lacks the headers that later versions have.
type metricTemplate struct {
	Kind     string            `json:"kind"`
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		Provider struct {
			Type               string                       `json:"type"`
			Address            string                       `json:"address"`
			Headers            http.Header                  `json:"headers"`
			SecretRef          *corev1.LocalObjectReference `json:"secretRef"`
			Region             string                       `json:"region"`
			InsecureSkipVerify bool                         `json:"insecureSkipVerify"`
		} `json:"provider"`
		Query string `json:"query"`
	} `json:"spec"`
}

// DecodeMetricTemplate reads a MetricTemplate in JSON. Its credentials are those
// of the Secret whose name is returned, in the same namespace; empty for none.
// The interval is left to who asks.
func DecodeMetricTemplate(object []byte) (t metric.Template, secret string, err error) {
	var m metricTemplate
	if err := json.Unmarshal(object, &m); err != nil {
		return t, "", fmt.Errorf("MetricTemplate: %w", err)
	}
	if m.Kind != flaggerv1.MetricTemplateKind {
		return t, "", fmt.Errorf("%s %s is no MetricTemplate", m.Kind, m.Metadata.Name)
	}
	p := m.Spec.Provider
	t = metric.Template{
		Namespace: m.Metadata.Namespace,
		Name:      m.Metadata.Name,
		Query:     m.Spec.Query,
		Config: metric.Config{
			Type:               p.Type,
			Address:            p.Address,
			Region:             p.Region,
			Headers:            p.Headers,
			InsecureSkipVerify: p.InsecureSkipVerify,
		},
	}
	if p.SecretRef != nil {
		secret = p.SecretRef.Name
	}
	return t, secret, nil
}

// MetricTemplate reads a MetricTemplate and the Secret that it names. Nothing of
// them is cached: they are read when a question is asked, so that a corrected
// one counts at once and no credential is held in memory. Run is not needed.
func (c *Client) MetricTemplate(ctx context.Context, namespace, name string) (metric.Template, error) {
	object, err := c.readFlagger(ctx, "metrictemplates", namespace, name)
	if err != nil {
		return metric.Template{}, err
	}
	t, secret, err := DecodeMetricTemplate(object)
	if err != nil || secret == "" {
		return t, err
	}
	t.Config.Credentials, err = c.SecretData(ctx, namespace, secret)
	if err != nil {
		return t, fmt.Errorf("MetricTemplate %s/%s: %w", namespace, name, err)
	}
	return t, nil
}

// AlertProvider reads an AlertProvider and the Secret that it names, of which
// the address wins over the one in the object. Nothing is cached.
func (c *Client) AlertProvider(ctx context.Context, namespace, name string) (notify.Config, error) {
	object, err := c.readFlagger(ctx, "alertproviders", namespace, name)
	if err != nil {
		return notify.Config{}, err
	}
	var p flaggerv1.AlertProvider
	if err := json.Unmarshal(object, &p); err != nil {
		return notify.Config{}, fmt.Errorf("AlertProvider %s/%s: %w", namespace, name, err)
	}
	config := notify.Config{
		Type: p.Spec.Type, Address: p.Spec.Address, Channel: p.Spec.Channel, Username: p.Spec.Username, Proxy: p.Spec.Proxy,
	}
	if p.Spec.SecretRef == nil {
		return config, nil
	}
	data, err := c.SecretData(ctx, namespace, p.Spec.SecretRef.Name)
	if err != nil {
		return notify.Config{}, fmt.Errorf("AlertProvider %s/%s: %w", namespace, name, err)
	}
	if len(data["address"]) == 0 {
		return notify.Config{}, fmt.Errorf("AlertProvider %s/%s: Secret %s has no address: put the webhook's there", namespace, name, p.Spec.SecretRef.Name)
	}
	config.Address, config.Token = strings.TrimSpace(string(data["address"])), strings.TrimSpace(string(data["token"]))
	return config, nil
}

// SecretData reads the data of a Secret; it is never nil without an error.
func (c *Client) SecretData(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	s, err := c.core.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read Secret %s/%s: %w", namespace, name, kindOf(err))
	}
	if s.Data == nil {
		return map[string][]byte{}, nil
	}
	return s.Data, nil
}

// readFlagger reads one object of Flagger's as JSON.
func (c *Client) readFlagger(ctx context.Context, resource, namespace, name string) ([]byte, error) {
	gvr := schema.GroupVersionResource{Group: flaggerv1.SchemeGroupVersion.Group, Version: flaggerv1.SchemeGroupVersion.Version, Resource: resource}
	u, err := c.dynamic.Resource(gvr).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", resource, namespace, name, kindOf(err))
	}
	return u.MarshalJSON()
}
