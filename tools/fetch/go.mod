// The fetcher of programs that are not built from source here. It needs the
// standard library alone.
module serin.dev/serin/tools/fetch

go 1.26.8
