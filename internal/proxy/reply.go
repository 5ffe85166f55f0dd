package proxy

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"serin.dev/serin/internal/proxy/wire"
)

// reply is an answer that the proxy makes itself, Envoy's "local reply". It is
// never changed after it was made.
type reply struct {
	status int
	grpc   int // grpc-status for callers who speak gRPC; noGRPC = what status means
	body   string
	fields []wire.Field
}

const noGRPC = -1

// head writes the head of the reply to a request, and returns the body that
// belongs to it (which is not sent as an answer to HEAD).
//
// A caller who speaks gRPC gets status and text as trailers in a head alone: it
// knows no other failures (gRPC over HTTP/2, "Trailers-Only").
func (r *reply) head(request, out *wire.Head) (body string) {
	out.Reset()
	out.Major, out.Minor = request.Major, request.Minor
	if isGRPC(request) {
		status := r.grpc
		if status == noGRPC {
			status = grpcOfHTTP(r.status)
		}
		out.Status = http.StatusOK
		out.Body, out.Length = wire.Sized, 0
		out.Add("content-type", "application/grpc")
		out.Add("grpc-status", strconv.Itoa(status))
		if r.body != "" {
			out.Add("grpc-message", grpcMessage(r.body))
		}
		out.Fields = append(out.Fields, r.fields...)
		return ""
	}
	out.Status = r.status
	if body = r.body; r.status == http.StatusNoContent || r.status == http.StatusNotModified {
		body = ""
	}
	out.Body, out.Length = wire.Sized, int64(len(body))
	if body != "" {
		out.Add("content-type", "text/plain")
	}
	out.Fields = append(out.Fields, r.fields...)
	if out.Length == 0 {
		out.Body = wire.NoBody
	}
	return body
}

// isGRPC reports whether the caller speaks gRPC.
func isGRPC(request *wire.Head) bool {
	value, _ := request.Get("content-type")
	rest, found := strings.CutPrefix(value, "application/grpc")
	return found && (rest == "" || rest[0] == '+')
}

// grpcMessage escapes a text for grpc-message.
func grpcMessage(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// grpcOfHTTP is what a status of a proxy means in gRPC ("HTTP to gRPC Status
// Code Mapping" of its specification).
func grpcOfHTTP(status int) int {
	switch status {
	case http.StatusBadRequest:
		return 13 // INTERNAL
	case http.StatusUnauthorized:
		return 16 // UNAUTHENTICATED
	case http.StatusForbidden:
		return 7 // PERMISSION_DENIED
	case http.StatusNotFound:
		return 12 // UNIMPLEMENTED
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}

// httpOfGRPC is the nearest HTTP status of a gRPC status (google.rpc.Code).
func httpOfGRPC(status int) int {
	statuses := [...]int{
		http.StatusOK, 499, http.StatusInternalServerError, http.StatusBadRequest, http.StatusGatewayTimeout,
		http.StatusNotFound, http.StatusConflict, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusBadRequest, http.StatusConflict, http.StatusBadRequest, http.StatusNotImplemented,
		http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusInternalServerError,
		http.StatusUnauthorized,
	}
	if status < 0 || status >= len(statuses) {
		return http.StatusInternalServerError
	}
	return statuses[status]
}

// accessDenied is Envoy's answer to callers whom the service does not admit.
func accessDenied() *reply {
	return &reply{status: http.StatusForbidden, grpc: noGRPC, body: "RBAC: access denied"}
}

// rateLimited is Envoy's answer to what is beyond a local rate limit.
func rateLimited() *reply {
	return &reply{status: http.StatusTooManyRequests, grpc: noGRPC, body: "local_rate_limited"}
}
