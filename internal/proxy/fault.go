package proxy

import (
	"net/http"

	"serin.dev/serin/internal/mesh"
)

// drawn reports whether the next request is of a share of all. A share of
// nothing or of everything draws no number.
func drawn(share mesh.Share, d *draws) bool {
	return share >= mesh.Everything || share > 0 && d.below(uint64(mesh.Everything)) < uint64(share)
}

// abort is Envoy's answer in place of a destination.
func abort(a *mesh.Abort) *reply {
	r := &reply{status: a.Status, grpc: noGRPC, body: "fault filter abort"}
	if a.Status == 0 {
		r.status, r.grpc = http.StatusOK, a.GRPC
	}
	return r
}
