package proxy

import (
	"time"

	"serin.dev/serin/internal/mesh"
)

// route is one mesh.Route.
type route struct {
	name    string
	origin  mesh.Origin
	service mesh.ServiceName
	matches []match // any; none means always

	interferes bool // by cors, limit or fault
	cors       *cors
	limit      *bucket
	fault      *mesh.Fault

	split    split
	affinity []mesh.HashKey
	redirect *redirect
	direct   *reply

	rewrite         *pathRewrite // nil: the path stays
	authority       string       // that the destination sees; "" = as called
	request, answer edit
	mirrors         []mirror
	retry           *mesh.Retry   // never nil
	timeout         time.Duration // for the whole answer, retries included; 0 = none
	idle            time.Duration // without a byte in either direction; 0 = none
}

// split holds the shares with a weight, and whether there were several
// destinations before those without one were left out.
type split struct {
	several bool
	shares  []share
}

// share is one destination; upTo is the sum of the weights so far.
type share struct {
	upTo            uint64
	backend         *backend
	authority       string // that the destination sees; "" = as the route says
	request, answer edit
}

// mirror is where copies of requests go.
type mirror struct {
	backend *backend
	share   mesh.Share
	compare bool // the answers of copies
}

// drawn reports whether the next request is copied.
func (m *mirror) drawn(d *draws) bool { return drawn(m.share, d) }

// pick draws one share in proportion to the weights, or finds the one of a
// hash, which is always the same one as long as the weights are: shares stay
// exact since hashes are spread evenly. The split is not empty.
func (s *split) pick(hash uint64, hashed bool, d *draws) *share {
	if len(s.shares) == 1 {
		return &s.shares[0]
	}
	sum := s.shares[len(s.shares)-1].upTo
	at := hash % sum
	if !hashed {
		at = d.below(sum)
	}
	for i := range s.shares {
		if at < s.shares[i].upTo {
			return &s.shares[i]
		}
	}
	panic("proxy: the draw is below the sum of the weights")
}
