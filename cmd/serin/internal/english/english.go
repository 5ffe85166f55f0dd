// Package english keeps the kubectl library from translating its texts.
//
// The library looks up every text of every command in a message catalogue
// while its packages are initialised: 17 ms and 4 MB for each start of a
// process, also of one that is no command line at all. And a command line
// that is half English, half the user's language, reads badly.
//
// The library accepts this only before the first text was looked up. Go
// initialises packages in the order of their import paths as far as their
// imports allow, and the commands need packages that come after this one.
// The test of cmd/serin holds that.
package english

import "k8s.io/kubectl/pkg/util/i18n"

// Err is nil when the library took the request in time.
var Err = i18n.SetLoadTranslationsFunc(func() error { return nil })
