//go:build unix && !linux

package node

// read finds nothing: other systems don't show what a process group uses.
func (p *process) read() (reading, bool) { return reading{}, false }
