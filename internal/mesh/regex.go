package mesh

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode"
)

// MaxRegexSize is how large a regular expression may be, in steps of the
// program that RE2 makes of it: the limit that Istio sets for its Envoys. At each
// byte a proxy may have to try all of them. An Envoy takes no routes at all for
// the sake of one expression that is larger.
const MaxRegexSize = 32_768

// CompileRegex compiles the value of a Regex match so that it has to match the
// whole string.
func CompileRegex(value string) (*regexp.Regexp, error) {
	// Compiled alone first: "a)(b" is wrong although "(?:a)(b)" is not.
	if _, err := compileRegex(value); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + value + `)\z`)
}

// compileRegex compiles what Go and RE2, as Envoy uses it, both understand.
func compileRegex(value string) (*regexp.Regexp, error) {
	if value == "" {
		return nil, fmt.Errorf("regex is empty: write exact for an empty string")
	}
	re, err := regexp.Compile(value)
	if err != nil {
		return nil, err
	}
	if err := checkEscapes(value); err != nil {
		return nil, err
	}
	if n := regexSize(value); n > MaxRegexSize {
		return nil, fmt.Errorf("regex of %d steps is larger than %d: make it shorter, above all the numbers in braces", n, MaxRegexSize)
	}
	return re, nil
}

// checkEscapes looks for what Go knows and RE2 does not. The expression compiles.
func checkEscapes(value string) error {
	for {
		at := strings.IndexByte(value, '\\')
		if at < 0 {
			return nil
		}
		kind, rest := value[at+1], value[at+2:]
		switch kind {
		case 'Q':
			_, rest, _ = strings.Cut(rest, `\E`)
		case 'p', 'P':
			if name, after, braced := cutBraces(rest); braced {
				if rest = after; !knownClass(strings.TrimPrefix(name, "^")) {
					return fmt.Errorf(`regex: the class \p{%s} is not known to RE2: use a category such as Lu, or a script such as Greek`, name)
				}
			}
		case 'x':
			digits, after, braced := cutBraces(rest)
			if !braced {
				digits, after = rest[:2], rest[2:]
			}
			rest = after
			if n, err := strconv.ParseUint(digits, 16, 32); err != nil || n > unicode.MaxASCII {
				return fmt.Errorf(`regex: \x{%s} is a byte to some proxies and a character to others: write the character itself`, digits)
			}
		case '1', '2', '3', '4', '5', '6', '7':
			return fmt.Errorf(`regex: \%c is octal: write \x and two hexadecimal digits`, kind)
		}
		value = rest
	}
}

// cutBraces cuts "{inside}" from the front.
func cutBraces(s string) (inside, after string, found bool) {
	if !strings.HasPrefix(s, "{") {
		return "", s, false
	}
	return strings.Cut(s[1:], "}")
}

// knownClass reports whether RE2 has a class of Unicode, by just this name.
func knownClass(name string) bool {
	if unicode.Scripts[name] != nil || name == "Any" {
		return true
	}
	return unicode.Categories[name] != nil && name != "LC" && name != "Cn"
}

// regexSize is an upper bound on the size of RE2's program for an expression
// that compiles. Envoy's RE2 takes bytes, as if each were a character.
func regexSize(value string) int {
	var bytes strings.Builder
	for i := range len(value) {
		bytes.WriteRune(rune(value[i]))
	}
	re, err := syntax.Parse(bytes.String(), syntax.Perl)
	if err != nil {
		return 0
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0
	}
	n := 8 // a search before the start, and the end
	for i := range prog.Inst {
		n++
		if prog.Inst[i].Op != syntax.InstRune {
			continue
		}
		for class := prog.Inst[i].Rune; len(class) > 2 && class[2] <= 0xff; class = class[2:] {
			n++ // each range after the first
		}
	}
	return 2 * n // RE2 makes several steps of a loop around what may be empty
}

// Compile returns the expression, and the substitution as Go's regexp writes
// it, for ReplaceAllString on a path without its query.
func (r *RegexRewrite) Compile() (re *regexp.Regexp, substitution string, err error) {
	if re, err = compileRegex(r.Match); err != nil {
		return nil, "", err
	}
	var b strings.Builder
	for i := 0; i < len(r.Substitution); i++ {
		c := r.Substitution[i]
		switch {
		case c == '$':
			b.WriteString("$$")
			continue
		case c != '\\':
			b.WriteByte(c)
			continue
		}
		i++
		switch {
		case i == len(r.Substitution):
			return nil, "", fmt.Errorf(`substitution %q ends in a backslash: write \\`, r.Substitution)
		case r.Substitution[i] == '\\':
			b.WriteByte('\\')
		case r.Substitution[i] < '0' || r.Substitution[i] > '9':
			return nil, "", fmt.Errorf(`substitution %q: \ stands before a digit or another \`, r.Substitution)
		case int(r.Substitution[i]-'0') > re.NumSubexp():
			return nil, "", fmt.Errorf("substitution %q: the expression has %d groups", r.Substitution, re.NumSubexp())
		default:
			fmt.Fprintf(&b, "${%c}", r.Substitution[i])
		}
	}
	return re, b.String(), nil
}
