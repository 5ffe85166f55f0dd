package flagger

import "fmt"

// Severity says what a finding means for the Canary. The zero value is Error.
type Severity uint8

// The severities.
const (
	Error   Severity = iota // the Canary must not be run
	Warning                 // it can be run; the field has no effect, or hardly the one that is meant
)

// Finding is something in a Canary that is wrong or not supported.
type Finding struct {
	Severity Severity
	Path     string // of the field, such as spec.analysis.webhooks[0].type
	Message  string // what is the matter and what to do
}

// String is the finding in one line.
func (f Finding) String() string { return f.Path + ": " + f.Message }

// findings collects what is found.
type findings []Finding

func (fs *findings) error(path, format string, args ...any) {
	*fs = append(*fs, Finding{Error, path, fmt.Sprintf(format, args...)})
}

func (fs *findings) warn(path, format string, args ...any) {
	*fs = append(*fs, Finding{Warning, path, fmt.Sprintf(format, args...)})
}
