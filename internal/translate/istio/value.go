package istio

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"

	"serin.dev/serin/internal/mesh"
)

// duration translates a duration of at least so long, in milliseconds as
// Istio's are. Nil is 0; so is what is wrong, which is reported.
func duration(d *durationpb.Duration, least time.Duration, path string, r *report) time.Duration {
	if d == nil {
		return 0
	}
	v := d.AsDuration()
	if d.CheckValid() != nil || v < least || v%time.Millisecond != 0 {
		r.errorf(path, "%v is not %v or longer in whole milliseconds, such as 250ms, 5s or 1h", v, least)
		return 0
	}
	return v
}

// percentage translates Istio's Percent. Nil gives absent.
func percentage(p *networking.Percent, absent mesh.Share, path string, r *report) mesh.Share {
	if p == nil {
		return absent
	}
	return share(p.Value, path+".value", r)
}

// share translates a percentage.
func share(percent float64, path string, r *report) mesh.Share {
	if !(percent >= 0 && percent <= 100) {
		r.errorf(path, "%v is not in 0..100: it is a percentage", percent)
		return 0
	}
	return mesh.Share(math.Round(percent * float64(mesh.Everything) / 100))
}

// count translates a number that must not be negative. With 0, which Istio
// cannot tell from absent, it is the default.
func count(n int32, path string, r *report) uint32 {
	if n < 0 {
		r.errorf(path, "%d is negative", n)
		return 0
	}
	return uint32(n)
}
