// Package fault is the error that a measurement or an agent ends with: a code
// as in HTTP, a sentence for people, a cause for programs.
package fault

import (
	"errors"
	"fmt"
)

// Codes, as the users' door answers them.
const (
	BadRequest      = 400
	Forbidden       = 403
	NotFound        = 404
	Conflict        = 409
	TooManyRequests = 429
	Internal        = 500
	Unavailable     = 503
)

// What callers branch on.
var (
	ErrUsage          = errors.New("bad request")
	ErrUnknownProber  = errors.New("unknown prober")
	ErrUnknownAgent   = errors.New("unknown agent")
	ErrDuplicateAgent = errors.New("agent id taken")
	ErrAgentLost      = errors.New("agent lost")
	ErrRefused        = errors.New("refused by agent")
	ErrBlocked        = errors.New("blocked by a rule")
	ErrStopped        = errors.New("controller stopped")
)

// Error is a failure with its code.
type Error struct {
	Code   int
	Reason string
	Err    error // the cause, for errors.Is
}

// New makes an Error.
func New(code int, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Reason: fmt.Sprintf(format, args...), Err: cause}
}

func (e *Error) Error() string { return e.Reason }

func (e *Error) Unwrap() error { return e.Err }
