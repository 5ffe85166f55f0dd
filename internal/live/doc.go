// Package live shows releases to people: as a block of lines that is redrawn
// in place in a terminal, and as one line per change where there is none.
//
// What is shown is a pure function of a Release, its events, a clock reading
// and a width (View.Lines, Log.Lines); only Screen writes. Text that comes
// from outside never reaches the terminal with control characters. The
// package decides nothing and reads no API.
//
// Read next: view.go, and its pictures in testdata.
package live
