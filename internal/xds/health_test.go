package xds

import (
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
)

// TestEnvoyTakesTheSameAnswersForHealthy as our own proxy: 200 to 299, and all
// others count up to the threshold.
func TestEnvoyTakesTheSameAnswersForHealthy(t *testing.T) {
	asked := &mesh.HealthCheck{Path: "/health", Interval: time.Second, Timeout: time.Second, UnhealthyAfter: 3, HealthyAfter: 1}
	h := encodeHealth(asked, &destination{service: &mesh.Service{Name: "music.default"}, policy: &mesh.Policy{Health: asked}})
	if err := h.ValidateAll(); err != nil {
		t.Fatal(err)
	}
	check := h.GetHttpHealthCheck()
	for status := int64(100); status < 600; status++ {
		good, counted := false, false
		for _, r := range check.GetExpectedStatuses() {
			good = good || r.GetStart() <= status && status < r.GetEnd()
		}
		for _, r := range check.GetRetriableStatuses() {
			counted = counted || r.GetStart() <= status && status < r.GetEnd()
		}
		if good != (status >= 200 && status <= 299) || !good && !counted {
			t.Errorf("status %d: good %t, counts up to the threshold %t", status, good, counted)
		}
	}
}
