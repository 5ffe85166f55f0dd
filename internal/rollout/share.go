package rollout

import (
	"fmt"
	"strconv"
	"strings"
)

// Share of something, mostly of the users' requests, in hundredths of a
// percent: 0 to All.
type Share int32

// Units of a Share: 25*Percent is a quarter.
const (
	Percent Share = 100
	All           = 100 * Percent
)

// String writes the share in percent, with no more digits than it needs.
func (s Share) String() string { return strconv.FormatFloat(float64(s)/100, 'f', -1, 64) + " %" }

// Fraction returns the share as a number from 0 to 1.
func (s Share) Fraction() float64 { return float64(s) / float64(All) }

// ParseShare reads a number of percent, with or without the sign: "25",
// "0.1%". No share is finer than 0.01 %.
func ParseShare(text string) (Share, error) {
	digits := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "%"))
	whole, part, _ := strings.Cut(digits, ".")
	if len(part) > 2 && strings.Trim(part[2:], "0") != "" {
		return 0, fmt.Errorf("share %q: nothing is finer than 0.01 %%", text)
	}
	n, err := strconv.ParseUint(whole+(part + "00")[:2], 10, 16)
	if err != nil || whole == "" || n > uint64(All) {
		return 0, fmt.Errorf("share %q: write percent from 0 to 100, such as 25 or 0.1%%", text)
	}
	return Share(n), nil
}
