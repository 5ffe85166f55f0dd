package kube

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"

	"serin.dev/serin/internal/metric"
	"serin.dev/serin/internal/notify"
)

// apiWith is a client of an API that has some objects, by path.
func apiWith(t *testing.T, objects map[string]string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		object, ok := objects[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			object = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"not there"}`
		}
		_, _ = io.WriteString(w, object) // the client sees what is missing
	}))
	t.Cleanup(server.Close)
	c, err := NewClient(&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.broadcaster.Shutdown)
	return c
}

const (
	flaggerPath = "/apis/flagger.app/v1beta1/namespaces/shop/"
	secretsPath = "/api/v1/namespaces/shop/secrets/"
)

func TestMetricTemplatesComeWithTheirSecret(t *testing.T) {
	template := func(provider string) string {
		return `{"apiVersion":"flagger.app/v1beta1","kind":"MetricTemplate","metadata":{"name":"errors","namespace":"shop"},"spec":{"query":"up","provider":` + provider + `}}`
	}
	c := apiWith(t, map[string]string{
		flaggerPath + "metrictemplates/errors": template(`{"type":"prometheus","address":"http://p","region":"r","insecureSkipVerify":true,"headers":{"X-Scope-OrgID":["7"]},"secretRef":{"name":"prom"}}`),
		flaggerPath + "metrictemplates/open":   template(`{"type":"web"}`),
		flaggerPath + "metrictemplates/empty":  template(`{"type":"web","secretRef":{"name":"empty"}}`),
		flaggerPath + "metrictemplates/lost":   template(`{"type":"web","secretRef":{"name":"lost"}}`),
		flaggerPath + "metrictemplates/other":  `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"other"}}`,
		secretsPath + "prom":                   `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"prom"},"data":{"token":"ZXk="}}`,
		secretsPath + "empty":                  `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"empty"}}`,
	})
	got, err := c.MetricTemplate(t.Context(), "shop", "errors")
	want := metric.Template{Namespace: "shop", Name: "errors", Query: "up", Config: metric.Config{
		Type: "prometheus", Address: "http://p", Region: "r", InsecureSkipVerify: true,
		Headers: http.Header{"X-Scope-OrgID": {"7"}}, Credentials: map[string][]byte{"token": []byte("ey")},
	}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := c.MetricTemplate(t.Context(), "shop", "open"); err != nil || got.Config.Credentials != nil {
		t.Errorf("without a Secret: %+v, %v", got, err)
	}
	// A Secret that is named must not be passed over because it is empty.
	if got, err := c.MetricTemplate(t.Context(), "shop", "empty"); err != nil || got.Config.Credentials == nil {
		t.Errorf("with an empty Secret: %+v, %v", got, err)
	}
	for name, want := range map[string]string{
		"none":  "read metrictemplates shop/none: not found: not there",
		"lost":  "MetricTemplate shop/lost: read Secret shop/lost: not found: not there",
		"other": "Pod other is no MetricTemplate",
	} {
		_, err := c.MetricTemplate(t.Context(), "shop", name)
		if err == nil || err.Error() != want || errors.Is(err, ErrNotFound) != (name != "other") {
			t.Errorf("%s:\n got %v\nwant %s", name, err, want)
		}
	}
}

func TestAlertProvidersComeWithTheirSecret(t *testing.T) {
	provider := func(spec string) string {
		return `{"apiVersion":"flagger.app/v1beta1","kind":"AlertProvider","metadata":{"name":"a","namespace":"shop"},"spec":` + spec + `}`
	}
	c := apiWith(t, map[string]string{
		flaggerPath + "alertproviders/plain":  provider(`{"type":"msteams","address":"https://t","channel":"c","username":"u","proxy":"http://p"}`),
		flaggerPath + "alertproviders/secret": provider(`{"type":"slack","address":"https://public","secretRef":{"name":"hook"}}`),
		flaggerPath + "alertproviders/empty":  provider(`{"type":"slack","secretRef":{"name":"empty"}}`),
		secretsPath + "hook":                  `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"hook"},"data":{"address":"aHR0cHM6Ly9ob29rCg==","token":"dG9r"}}`,
		secretsPath + "empty":                 `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"empty"}}`,
	})
	for name, want := range map[string]notify.Config{
		"plain":  {Type: "msteams", Address: "https://t", Channel: "c", Username: "u", Proxy: "http://p"},
		"secret": {Type: "slack", Address: "https://hook", Token: "tok"},
	} {
		got, err := c.AlertProvider(t.Context(), "shop", name)
		if got != want || err != nil {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"empty": "AlertProvider shop/empty: Secret empty has no address: put the webhook's there",
		"none":  "read alertproviders shop/none: not found: not there",
	} {
		if _, err := c.AlertProvider(t.Context(), "shop", name); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, want)
		}
	}
}
