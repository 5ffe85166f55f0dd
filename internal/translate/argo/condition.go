package argo

import (
	"regexp"
	"strconv"
	"strings"
)

// bounds reads the conditions of a metric; ok is false when no check can be
// made of them.
func (a *analyses) bounds(m *node) (low, high string, ok bool) {
	success, failure := m.at("successCondition"), m.at("failureCondition")
	var b bound
	switch {
	case success.set():
		if failure.set() {
			failure.note("what is neither a success nor a failure pauses in Argo; here it is a failed look")
		}
		b, ok = parse(success.text(), "&&")
		if !ok {
			success.note("%q cannot be kept: write the bounds of the value into the check's min and max", success.text())
		}
	case failure.set():
		b, ok = parse(failure.text(), "||")
		if ok = ok && b.low != b.high; !ok { // an equation says which value is bad, and no range
			failure.note("%q cannot be kept: write the bounds of the value into the check's min and max", failure.text())
		}
		b = b.inverted()
	default:
		m.note("without a condition every value is good: nothing is checked")
	}
	if ok && b.noData {
		m.note("a look without data is good in Argo; here the canary waits for data, up to spec.stepDeadline")
	}
	if ok && (b.openLow || b.openHigh) {
		m.note("the bound itself is good here")
	}
	return b.low, b.high, ok
}

// bound is a range of values; the ends belong to it unless they are open.
type bound struct {
	low, high         string
	openLow, openHigh bool
	// noData: an answer without a value was meant to be good.
	noData bool
}

// result is what stands for the value, noData what asks whether there is one.
var (
	operator   = regexp.MustCompile(`&&|\|\|`)
	comparison = regexp.MustCompile(`^(.+?)\s*(>=|<=|==|>|<)\s*(.+)$`)
	result     = regexp.MustCompile(`^(?:asFloat|asInt)?\(?\s*result(?:\[0\])?\s*\)?$|^default\(\s*result(?:\[0\])?\s*,[^)]*\)$`)
	noData     = regexp.MustCompile(`^(?:len\(\s*result\s*\)\s*(?:==|<=|>|!=|>=)\s*[01]|!?\s*isNaN\(\s*result(?:\[0\])?\s*\)|!?\s*isInf\(\s*result(?:\[0\])?\s*\)|result(?:\[0\])?\s*[!=]=\s*nil)$`)
)

// parse reads comparisons of the value that are joined by one operator. What is
// about answers without a value does not count: without a value a look is no
// failure, and no success.
func parse(text, join string) (bound, bool) {
	var out bound
	values := 0
	for _, part := range operator.Split(text, -1) {
		part = strings.TrimSpace(part)
		for strings.HasPrefix(part, "(") && strings.HasSuffix(part, ")") {
			part = strings.TrimSpace(part[1 : len(part)-1])
		}
		if noData.MatchString(part) {
			out.noData = out.noData || join == "&&" && strings.Contains(text, "||")
			continue
		}
		if !out.compare(part) {
			return bound{}, false
		}
		values++
	}
	for _, found := range operator.FindAllString(text, -1) {
		if values > 1 && found != join {
			return bound{}, false
		}
	}
	return out, values > 0
}

// compare narrows the range by one comparison.
func (b *bound) compare(text string) bool {
	parts := comparison.FindStringSubmatch(text)
	if parts == nil {
		return false
	}
	left, op, right := strings.TrimSpace(parts[1]), parts[2], strings.TrimSpace(parts[3])
	if !result.MatchString(left) {
		left, right = right, left
		op = map[string]string{">=": "<=", "<=": ">=", ">": "<", "<": ">", "==": "=="}[op]
	}
	if _, err := strconv.ParseFloat(right, 64); err != nil || !result.MatchString(left) {
		return false
	}
	switch op {
	case ">=", ">":
		if b.low != "" {
			return false
		}
		b.low, b.openLow = right, op == ">"
	case "<=", "<":
		if b.high != "" {
			return false
		}
		b.high, b.openHigh = right, op == "<"
	case "==":
		if b.low+b.high != "" {
			return false
		}
		b.low, b.high = right, right
	}
	return true
}

// inverted is the range of the values that are not bad.
func (b bound) inverted() bound {
	return bound{low: b.high, high: b.low, openLow: b.high != "" && !b.openHigh, openHigh: b.low != "" && !b.openLow}
}
