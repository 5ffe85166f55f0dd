package proxy

import (
	"errors"

	"serin.dev/serin/internal/proxy/http1"
	"serin.dev/serin/internal/proxy/http2"
)

// errConnect marks failures to connect: nothing of a request was sent.
type errConnect struct{ error }

func (e errConnect) Unwrap() error { return e.error }

// classify says what an error of a lease, or of taking one, means for retries,
// and what the caller is told if there is no other try.
func classify(err error) (outcomeKind, failure) {
	var connect errConnect
	var answer *http1.AnswerError
	var stream *http2.StreamError
	var conn *http2.ConnError
	switch {
	case errors.Is(err, errOverflow):
		return answered, failure{503, flagOverflow, "too many requests wait for a connection to %s"}
	case errors.As(err, &connect):
		return connectFailed, failure{503, flagConnect, "could not connect to %s"}
	case errors.Is(err, errNoUpgrade), errors.Is(err, errNoTunnel),
		errors.As(err, &answer) && (answer.Kind == http1.Malformed || answer.Kind == http1.Oversize),
		errors.As(err, &stream) && !stream.Remote && stream.Code != http2.Cancel,
		errors.As(err, &conn) && !conn.Remote:
		return broken, failure{502, flagProtocol, "what came from %s is not an answer"}
	case errors.Is(err, http2.ErrBusy), stream != nil && stream.Code == http2.RefusedStream:
		return refused, failure{503, flagRemoteReset, "%s refused the request"}
	case stream != nil && stream.Remote:
		return broken, failure{503, flagRemoteReset, "%s reset the request before an answer"}
	}
	return broken, failure{503, flagReset, "%s closed the connection before an answer"}
}

// isFault reports whether a stream or connection of HTTP/2 was ended by us for
// what its peer sent.
func isFault(err error) bool {
	var stream *http2.StreamError
	var conn *http2.ConnError
	return errors.As(err, &stream) && !stream.Remote || errors.As(err, &conn) && !conn.Remote
}

// isUnanswered reports whether an error says that the connection ended before
// any byte of the answer, as one does that the endpoint was closing anyway.
func isUnanswered(err error) bool {
	var answer *http1.AnswerError
	if errors.As(err, &answer) {
		return answer.Kind == http1.Unanswered
	}
	return errors.Is(err, http2.ErrClosed)
}
