package controller

import (
	"testing"
	"time"
)

func TestARateIsToldWhenItIsKnownAndWhenItChanged(t *testing.T) {
	var p pace
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	arrive := func(perSecond int64, seconds int, ours bool) {
		for range seconds {
			now = now.Add(time.Second)
			p.count(perSecond, ours, now)
		}
	}
	told := func(generation int64) bool {
		news := p.news(generation)
		if news {
			p.generation = generation
			p.told, _ = p.rate.perSecond()
		}
		return news
	}
	arrive(5, 60, false) // nobody sees them all yet
	arrive(10, 20, true)
	if told(1) {
		t.Errorf("told after 20 s: %+v", p.rate)
	}
	arrive(10, 20, true)
	if v, ok := p.rate.perSecond(); !told(1) || !ok || v < 9.9 || v > 10.1 {
		t.Errorf("%v req/s, known: %v; want 10", v, ok)
	}
	arrive(10, 300, true)
	if told(1) {
		t.Error("told again though nothing changed")
	}
	if !told(2) {
		t.Error("not told of another spec")
	}
	arrive(0, 3600, true)
	if v, _ := p.rate.perSecond(); !told(2) || v > 0 {
		t.Errorf("%v req/s after an hour without any, or not told", v)
	}
	arrive(0, 3600, true)
	if told(2) {
		t.Error("told again of no requests at all")
	}
}
