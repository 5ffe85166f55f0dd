// Package rollout moves one release forward: a pure state machine from
// observations to decisions.
//
// Step takes the state and what was observed and returns the next state, with
// events for people. State.Want says what the world has to look like in that
// state: share of the canary, scale, revision of the stable copy. The caller
//
//  1. observes and calls Step,
//  2. writes the new State to where it survives a crash (see MustWrite), and
//     tries until that is done,
//  3. makes the world equal to Want, again and again.
//
// A crash between any two of these is harmless: before 2 nothing happened, and
// after 2 the next process makes the same world from the same state. Events
// may be told twice.
//
// The package reads no clock, does no I/O, draws no random numbers and imports
// nothing but the standard library and analysis, so a week of rollout replays
// in a millisecond. No phase waits without saying for what, and each wait that
// another party could leave unanswered has a deadline.
//
// Read next: step.go for the phases; sim for the proof that they hold together.
package rollout
