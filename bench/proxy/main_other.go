//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench/proxy: needs Linux: CPU time and pinning are taken from its kernel")
	os.Exit(1)
}
