// Package live shows releases to people: as a block of lines that is redrawn
// in place in a terminal, as one line per change where there is none, and as
// tables.
//
// What is shown is a pure function of a Release, its events, a clock reading
// and a width (View.Lines, Log.Lines, Table.Lines); only Screen writes. Text that comes
// from outside never reaches the terminal with control characters. The
// package decides nothing and reads no API.
//
// Read next: view.go, and its pictures in testdata.
package live
