package mesh_test

import (
	"strings"
	"testing"

	"serin.dev/serin/internal/mesh"
)

func TestARegexIsWhatBothGoAndRE2Understand(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		_, err := mesh.CompileRegex(value)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", value, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: error = %v, want one that says %q", value, err, want)
		}
	}
	f(`^(.*?;)?(user=(jason|maria)(\.[a-z]+)*@(example|example2)\.(com|org|net))(;.*)?$`, "")
	f(`\p{Greek}\pL\P{Lu}\p{^Han}\p{Any}\x7f\x{41}\\p\Q\p{x}\E日本`, "")
	f(`(abcdefghij){1000}`, "")
	f(``, "is empty")
	f(`a)(b`, "unexpected )")
	f(`\p{Letter}`, `the class \p{Letter} is not known to RE2`)
	f(`\\\P{^latin}`, `the class \p{^latin} is not known`)
	f(`\p{LC}`, `the class \p{LC} is not known`)
	f(`\x{e9}`, `\x{e9} is a byte to some proxies and a character to others`)
	f(`[\xe9]`, `\x{e9} is a byte`)
	f(`\101`, `\1 is octal`)
	f(`(abcdefghijklmnopqrst){1000}`, "steps is larger than 32768")
}

// FuzzRegex holds checks to not reading beyond what Go's parser accepted.
func FuzzRegex(f *testing.F) {
	for _, seed := range []string{`\x{41}`, `\p{Lu}\pL`, `\Qa\E`, `\Q\`, `[\x41-\x42]`, `(?i)\pN{2,}`, `\7`, `日`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		re, err := mesh.CompileRegex(value)
		if err == nil && re.String() != `\A(?:`+value+`)\z` {
			t.Errorf("%q became %s", value, re)
		}
	})
}
