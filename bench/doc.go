// Package bench measures the whole program from outside, as ratios or as
// figures that README promises. It holds benchmarks alone: nothing here passes
// or fails, because a figure depends on the machine it was taken on, which is
// printed with it.
//
//	make build && go test -run '^$' -bench . -benchtime 200x ./bench
//
// Benchmarks of single functions stand beside the functions.
package bench
