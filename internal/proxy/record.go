package proxy

import (
	"strings"
	"unsafe"

	"serin.dev/serin/internal/telemetry"
)

// Envoy's response flags, as far as this proxy has reason to set them.
const (
	flagNoRoute     = "NR"   // 404: no route for the host, port or request
	flagNoCluster   = "NC"   // 503: the route's service, port or subset does not exist
	flagNoHealthy   = "UH"   // 503: the service has no endpoint that may be used
	flagDelay       = "DI"   // a fault: it was delayed
	flagFault       = "FI"   // a fault: the answer was made up
	flagRateLimited = "RL"   // 429: beyond the route's rate limit
	flagDenied      = "UAEX" // 403: the caller may not call the service
	flagConnect     = "UF"   // 503: could not connect
	flagReset       = "UC"   // 503: the connection ended before an answer
	flagRemoteReset = "UR"   // 503: the endpoint reset the stream, or 200 and it did within
	flagOverflow    = "UO"   // 503: the destination's limits are reached
	flagTimeout     = "UT"   // 504: no answer in time
	flagProtocol    = "UPE"  // 502: what came is not an answer, or 200 and it ended within
	flagRetryLimit  = "URX"  // the last of all tries failed
	flagIdle        = "SI"   // nothing moved for too long
	flagMalformed   = "DPE"  // 400, 408, 431 …: what the caller sent is no request
	flagCallerGone  = "DC"   // the caller went away
)

// addFlag adds a flag to a record, if it is not the last one already. Two at
// once are rare; they allocate.
func addFlag(r *telemetry.Request, flag string) {
	switch {
	case r.Flags == "":
		r.Flags = flag
	case !strings.HasSuffix(r.Flags, flag):
		r.Flags += "," + flag
	}
}

// view is b as a string, without copying: good until b's owner writes there
// again.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
