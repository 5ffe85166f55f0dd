package wire

import "unsafe"

// view is b as a string, without copying: it shows what b's memory holds, so it
// is good until the owner of the buffer writes there again. It is the one
// reason why a parsed Head costs no allocation.
func view(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// bytesOf is s as bytes, without copying. Nobody may write to them.
func bytesOf(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
