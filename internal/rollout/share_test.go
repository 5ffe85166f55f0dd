package rollout

import "testing"

func TestSharesReadPercentsDownToAHundredth(t *testing.T) {
	f := func(text string, want Share) {
		t.Helper()
		got, err := ParseShare(text)
		if err != nil || got != want {
			t.Errorf("ParseShare(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	f("25", 25*Percent)
	f("25%", 25*Percent)
	f("100 %", All)
	f("0.1%", 10)
	f("0.01", 1)
	f("12.50", 1250)
	f("0", 0)

	bad := func(text string) {
		t.Helper()
		if got, err := ParseShare(text); err == nil {
			t.Errorf("ParseShare(%q) = %v; want an error", text, got)
		}
	}
	bad("")
	bad("%")
	bad(".5")
	bad("-1")
	bad("100.01")
	bad("0.001")
	bad("1e1")
	bad("1,5")
	bad("1.+5")
	bad("999999999999999999999")
}

// FuzzParseShare: what is read is in range, and is read again from its own text.
func FuzzParseShare(f *testing.F) {
	for _, s := range []string{"25", "0.1%", "100 %", "0.001", "", "1.%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShare(text)
		if err != nil {
			return
		}
		if s < 0 || s > All {
			t.Errorf("ParseShare(%q) = %d is out of range", text, s)
		}
		if back, err := ParseShare(s.String()); err != nil || back != s {
			t.Errorf("ParseShare(%q) = %v, %v; want %v", s.String(), back, err, s)
		}
	})
}
