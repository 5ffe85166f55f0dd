package apiserver

import (
	"fmt"
	"syscall"
)

// minFreeBytes is what must be free on the disk for a write to be taken. etcd
// cannot go on after a write that failed half way, so nothing is begun that
// might: an object is at most 1.5 MiB, written to the log and to the database,
// and the database grows by 16 MiB at a time.
const minFreeBytes = 48 << 20

// checkSpace tells in one line that the disk of the data directory is full. An
// etcd elsewhere looks after its own disk.
func checkSpace(cfg Config) error {
	if cfg.externalEtcd() {
		return nil
	}
	free, err := cfg.freeBytes(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if free < minFreeBytes {
		return fmt.Errorf("the disk of data directory %s is full: %d MiB are free, %d MiB are needed; nothing was changed, free some space and try again",
			cfg.DataDir, free>>20, minFreeBytes>>20)
	}
	return nil
}

// freeBytes is the space an unprivileged process may still use.
func freeBytes(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("measure free space of %s: %w", dir, err)
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}
