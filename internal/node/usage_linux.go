package node

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of CPU times in /proc, the same on all architectures that Go
// runs on (proc(5), sysconf(_SC_CLK_TCK)).
const tick = 10 * time.Millisecond

// read adds up what the processes of the group use; false when there is none.
func (p *process) read() (reading, bool) {
	r := reading{at: time.Now()}
	found := false
	// The pattern is well-formed, and /proc can only be missing as a whole.
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		if s, ok := parseStat(text); ok && s.group == p.os.Pid {
			r.cpu += s.cpu
			r.memory += s.pages * int64(os.Getpagesize())
			found = true
		}
	}
	return r, found
}

// stat is what /proc/PID/stat says of one process.
type stat struct {
	group int
	cpu   time.Duration
	pages int64
}

// parseStat reads /proc/PID/stat (proc(5)). The second field is the program's
// name in parentheses, which may itself have spaces and parentheses.
func parseStat(text []byte) (s stat, ok bool) {
	_, rest, found := bytes.Cut(text, []byte("("))
	end := bytes.LastIndexByte(rest, ')')
	if !found || end < 0 {
		return s, false
	}
	fields := bytes.Fields(rest[end+1:]) // begins with the third
	number := func(field int) int64 {
		if field-3 >= len(fields) {
			ok = false
			return 0
		}
		v, err := strconv.ParseInt(string(fields[field-3]), 10, 64)
		ok = ok && err == nil
		return v
	}
	ok = true
	s.group = int(number(5))
	s.cpu = time.Duration(number(14)+number(15)+number(16)+number(17)) * tick
	s.pages = number(24)
	return s, ok
}
