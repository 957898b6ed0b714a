package grpctransport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
)

// Error is what a controller answered instead of, or besides, a result.
type Error struct {
	// Code is as in HTTP: 400 for a request that cannot be served as it is,
	// 404 for an unknown agent, 429 for too many measurements at once, 500 for
	// a fault of the controller, 503 where it or an agent cannot be reached.
	Code    int
	Message string // for people
	Err     error  // the gRPC status
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the gRPC status.
func (e *Error) Unwrap() error { return e.Err }

// StatusCode returns Code.
func (e *Error) StatusCode() int { return e.Code }

// statuses pairs codes as in HTTP with those of gRPC.
var statuses = map[int]codes.Code{
	http.StatusBadRequest:          codes.InvalidArgument,
	http.StatusUnauthorized:        codes.Unauthenticated,
	http.StatusForbidden:           codes.PermissionDenied,
	http.StatusNotFound:            codes.NotFound,
	http.StatusConflict:            codes.AlreadyExists,
	http.StatusTooManyRequests:     codes.ResourceExhausted,
	http.StatusInternalServerError: codes.Internal,
	http.StatusNotImplemented:      codes.Unimplemented,
	http.StatusServiceUnavailable:  codes.Unavailable,
	http.StatusGatewayTimeout:      codes.DeadlineExceeded,
}

// encodeError makes a gRPC status of a measurement's error. An error says its
// code with a method StatusCode.
func encodeError(err error) error {
	code := http.StatusInternalServerError
	var coded interface{ StatusCode() int }
	if errors.As(err, &coded) && coded.StatusCode() >= 400 && coded.StatusCode() <= 599 {
		code = coded.StatusCode()
	}
	to, ok := statuses[code]
	if !ok {
		to = codes.Unknown
	}
	message := text(err.Error())
	if len(message) > maxReason {
		message = strings.ToValidUTF8(message[:maxReason], "") + "..."
	}
	st := status.New(to, message)
	if detailed, err := st.WithDetails(&voltadomarv1.Failure{Code: int32(code), Message: message}); err == nil {
		st = detailed
	}
	return st.Err()
}

// decodeError makes an error of what a call ended with.
func (c *Client) decodeError(ctx context.Context, err error) error {
	st := status.Convert(err)
	for _, detail := range st.Details() {
		if f, ok := detail.(*voltadomarv1.Failure); ok {
			return &Error{Code: int(f.GetCode()), Message: f.GetMessage(), Err: err}
		}
	}
	// gRPC notices the end of a deadline a little before ctx does.
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("call to controller %s: %w", c.cfg.Addr, ctx.Err())
	case st.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("call to controller %s: %w", c.cfg.Addr, context.DeadlineExceeded)
	}
	for code, from := range statuses {
		if from == st.Code() {
			return &Error{Code: code, Message: fmt.Sprintf("controller %s: %s", c.cfg.Addr, reason(st)), Err: err}
		}
	}
	return &Error{Code: http.StatusInternalServerError, Message: fmt.Sprintf("controller %s: %s", c.cfg.Addr, reason(st)), Err: err}
}

// reason is what a gRPC status says, without gRPC's own words around the
// reason that a connection could not be made.
func reason(st *status.Status) string {
	m := st.Message()
	if inner, ok := strings.CutPrefix(m, `connection error: desc = "transport: `); ok {
		m = strings.TrimSuffix(inner, `"`)
		m = strings.TrimPrefix(m, "Error while dialing: ")
	}
	return m
}
