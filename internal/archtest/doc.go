// Package archtest holds the tests that keep the project in shape: who may
// import whom and why, what every package and exported name must say, how
// long a file may grow, what tests may not do, and that documents tell the
// truth about what they link to.
//
// It has no code of its own and reads sources alone: nothing is compiled or
// run, so it costs a second. A failure says what to do instead. To move a
// wall, change ARCHITECTURE.md and the table in walls_test.go together.
//
// Read next: walls_test.go.
package archtest
