//go:build linux || darwin

package live

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mute keeps a terminal from showing what is typed, which would tear the
// picture apart; keys such as Ctrl-C still work. The function returned undoes
// it. A file that is no terminal is left alone.
func Mute(f *os.File) (restore func() error, err error) {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, ioctlGetTermios)
	if err != nil {
		return func() error { return nil }, nil
	}
	muted := *old
	muted.Lflag &^= unix.ECHO | unix.ECHONL
	if err := unix.IoctlSetTermios(fd, ioctlSetTermios, &muted); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return func() error { return unix.IoctlSetTermios(fd, ioctlSetTermios, old) }, nil
}
