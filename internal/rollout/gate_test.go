package rollout

import (
	"testing"
	"time"
)

func TestAWindowKeepsToTheClockOfItsZone(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	office := &Window{
		Days: []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday},
		From: 9 * time.Hour, To: 17 * time.Hour, Location: berlin,
	}
	night := &Window{From: 22 * time.Hour, To: 4*time.Hour + 30*time.Minute}
	sundayNight := &Window{Days: []time.Weekday{time.Sunday}, From: 22 * time.Hour, To: 4 * time.Hour}
	gone := &Window{From: 2 * time.Hour, To: 3 * time.Hour, Location: berlin} // on one night of spring there is no such hour

	f := func(name string, w *Window, now, opens string) {
		t.Helper()
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		open, next := w.Opens(at)
		if got := next.UTC().Format(time.RFC3339); got != opens || open != (now == opens) {
			t.Errorf("%s: at %s open = %v, opens at %s; want %s", name, now, open, got, opens)
		}
	}
	f("winter", office, "2026-01-07T08:00:00Z", "2026-01-07T08:00:00Z")
	f("winter, a second too early", office, "2026-01-07T07:59:59Z", "2026-01-07T08:00:00Z")
	f("summer", office, "2026-07-08T07:00:00Z", "2026-07-08T07:00:00Z")
	f("its end is not part of it", office, "2026-07-08T15:00:00Z", "2026-07-09T07:00:00Z")
	f("Friday evening, over the change to summer time", office, "2026-03-27T16:30:00Z", "2026-03-30T07:00:00Z")
	f("Friday evening, over the change to winter time", office, "2026-10-23T15:30:00Z", "2026-10-26T08:00:00Z")
	f("past midnight", night, "2026-01-07T04:29:59Z", "2026-01-07T04:29:59Z")
	f("after the night", night, "2026-01-07T04:30:00Z", "2026-01-07T22:00:00Z")
	f("Monday morning belongs to Sunday", sundayNight, "2026-01-12T03:00:00Z", "2026-01-12T03:00:00Z")
	f("Sunday morning does not", sundayNight, "2026-01-11T03:00:00Z", "2026-01-11T22:00:00Z")
	f("the hour that is left out", gone, "2026-03-29T00:30:00Z", "2026-03-30T00:00:00Z")
}
