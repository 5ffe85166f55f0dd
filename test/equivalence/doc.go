// Package equivalence holds our proxy and Envoy to the same decisions. Both get
// the same snapshot, ours in process and Envoy through internal/xds as in
// production, and both are sent the same requests. What is compared: the
// endpoints that saw the request and what they saw of it (so also how often it
// was tried), status, headers, trailers and body of the answer, response flags,
// and, where chance decides, the shares over many requests. Both lead to the
// same endpoints, which run in the test and do what a request tells them to.
//
//	story_test.go      stories as data: testdata/*.txtar, one snapshot each
//	generated_test.go  random snapshots and calls, and what mesh.Resolve says
//	hostile_test.go    malformed and smuggling requests, broken connections
//	plane_test.go      the two data planes
//	endpoint_test.go   the endpoints behind them
//	caller_test.go     who calls
//	outcome_test.go    what became of a call, and what of it is not compared
//
// A difference is a fault, unless docs/reference/envoy.md names it with its
// reason; a story that shows one says which. The package must never compare
// with tolerance what could be compared exactly, nor wait for time to pass
// where it can wait for an event.
package equivalence
