package node

import (
	"testing"
	"time"
)

func TestStatOfAProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want stat
		ok   bool
	}{
		"odd name":  {"4242 (a (b) c) S 1 4200 4200 0 -1 4194560 100 0 0 0 150 50 20 5 20 0 5 0 100 1000000 777 1 1\n", stat{4200, 2250 * time.Millisecond, 777}, true},
		"cut short": {"4242 (sh) S 1 4200 4200 0 -1 4194560 100 0 0 0 150", stat{}, false},
		"no name":   {"4242", stat{}, false},
		"empty":     {"", stat{}, false},
		"words":     {"1 (x) S a b c d e f g h i j k l m n o p q r s t u v w", stat{}, false},
	} {
		got, ok := parseStat([]byte(tc.text))
		if ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: got %+v, %v, want %+v, %v", name, got, ok, tc.want, tc.ok)
		}
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("4242 (a (b) c) S 1 4200 4200 0 -1 4194560 100 0 0 0 150 50 20 5 20 0 5 0 100 1000000 777 1 1\n"))
	f.Add([]byte("1 ()"))
	f.Fuzz(func(t *testing.T, text []byte) {
		again := append([]byte("7 (x) "), text...)
		if _, ok := parseStat(text); ok {
			if _, ok := parseStat(again); !ok {
				t.Errorf("%q is read, but not behind another name", text)
			}
		}
	})
}

// The first usage is the average since the start, later ones between readings;
// one that comes too soon repeats the CPU.
func TestAMeterTellsTheUsageBetweenReadings(t *testing.T) {
	start := time.Unix(100, 0)
	m := meter{last: reading{at: start}, usage: Usage{Container: "app"}}
	for i, tc := range []struct {
		after  time.Duration
		cpu    time.Duration
		want   float64
		window time.Duration
	}{
		{500 * time.Millisecond, 400 * time.Millisecond, 0, 0},
		{4 * time.Second, 2 * time.Second, 0.5, 4 * time.Second},
		{4200 * time.Millisecond, 2200 * time.Millisecond, 0.5, 4 * time.Second},
		{6 * time.Second, 5 * time.Second, 1.5, 2 * time.Second},
		{8 * time.Second, 4 * time.Second, 0, 2 * time.Second}, // a busy child is gone
	} {
		got := m.read(reading{cpu: tc.cpu, memory: int64(i), at: start.Add(tc.after)})
		if want := (Usage{Container: "app", CPU: tc.want, Memory: int64(i), At: start.Add(tc.after), Window: tc.window}); got != want {
			t.Errorf("reading %d: got %+v, want %+v", i, got, want)
		}
	}
}
