package controller

import "time"

// Something is held up for passing before there is an event, and for lasting
// before somebody is alerted: what another writer changed or deleted between
// our reading and writing is seen by one of the next looks.
const (
	passing = time.Second
	lasting = 10 * time.Second
)

// trouble is what holds a Release or an Experiment up. The zero value is none.
type trouble struct {
	what    string    // "" = nothing
	since   time.Time // when it was first met
	told    bool      // there was an event
	alarmed bool      // somebody was alerted
}

// met notes the trouble of a look. It says whether it is to be told, and whether
// somebody is to be alerted: each of them once, when it has been there for long
// enough.
func (t *trouble) met(err error, now time.Time) (tell, alarm bool) {
	if err.Error() != t.what {
		*t = trouble{what: err.Error(), since: now}
		return false, false
	}
	tell = !t.told && now.Sub(t.since) >= passing
	alarm = !t.alarmed && now.Sub(t.since) >= lasting
	t.told, t.alarmed = t.told || tell, t.alarmed || alarm
	return tell, alarm
}
