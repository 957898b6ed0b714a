package grpctransport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// Users runs what users ask for; a controller is one. All methods may be
// called concurrently.
type Users interface {
	// Do runs the command whose words are args, without "volta". It calls
	// each, if not nil, from one goroutine at a time with what happens
	// meanwhile. The trace is not nil if the measurement began, whatever the
	// error. An error with a method StatusCode() int has a code as in HTTP.
	// Do returns soon after ctx ends.
	Do(ctx context.Context, args []string, each func(result.Event)) (*result.Trace, error)
	// Command runs a command line as the original Voltadomar does. Code is as
	// in HTTP; output is the result or what went wrong.
	Command(ctx context.Context, line string) (code int, output string)
	// Agents names the connected agents, sorted.
	Agents() []string
	// Types tells what each of them can measure, by its id.
	Types() map[string][]probe.Type
}

// measurements serves [Users] as the typed service.
type measurements struct {
	voltadomarv1.UnimplementedMeasurementsServer
	users Users
}

func (s *measurements) ListAgents(context.Context, *voltadomarv1.ListAgentsRequest) (*voltadomarv1.ListAgentsResponse, error) {
	return &voltadomarv1.ListAgentsResponse{Agents: texts(s.users.Agents())}, nil
}

// Measure runs the measurement in a goroutine of its own, so that a slow user
// does not hold it up.
func (s *measurements) Measure(req *voltadomarv1.MeasureRequest, stream voltadomarv1.Measurements_MeasureServer) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	events := eventQueue{wake: make(chan struct{}, 1), overflow: func() { cancel(errSlowUser) }}
	var trace *result.Trace
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		trace, failed = s.users.Do(ctx, req.GetArgs(), events.add)
	}()

	var lost error // of the stream
	send := func() {
		for _, e := range events.take() {
			if lost == nil {
				lost = stream.Send(e)
			}
		}
		if lost != nil {
			cancel(lost)
		}
	}
	for running := true; running; {
		select {
		case <-events.wake:
		case <-done:
			running = false
		}
		send()
	}
	if trace != nil && lost == nil {
		lost = stream.Send(&voltadomarv1.MeasureEvent{Event: &voltadomarv1.MeasureEvent_Trace{Trace: encodeTrace(trace)}})
	}
	switch {
	case lost != nil:
		return lost
	case errors.Is(context.Cause(ctx), errSlowUser):
		return encodeError(errSlowUser)
	case failed != nil:
		return encodeError(failed)
	case trace == nil:
		return encodeError(errors.New("the measurement has no result"))
	}
	return nil
}

var errSlowUser = &Error{Code: http.StatusServiceUnavailable, Message: fmt.Sprintf("more than %d events were waiting to be read", maxEvents)}

// eventQueue holds the events of a measurement until its user takes them.
type eventQueue struct {
	wake     chan struct{}
	overflow func()

	mu     sync.Mutex // guards events
	events []*voltadomarv1.MeasureEvent
}

// add never waits. The whole trace goes its own way: Do returns it.
func (q *eventQueue) add(e result.Event) {
	if e.Probe == nil {
		return
	}
	event := &voltadomarv1.MeasureEvent{Event: &voltadomarv1.MeasureEvent_Probe{Probe: encodeProbe(e.Probe)}}
	q.mu.Lock()
	full := len(q.events) >= maxEvents
	if !full {
		q.events = append(q.events, event)
	}
	q.mu.Unlock()
	if full {
		q.overflow()
		return
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *eventQueue) take() []*voltadomarv1.MeasureEvent {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	return events
}

// anycastMethod is the original Voltadomar's door.
const anycastMethod = "/AnycastService/UserRequest"

// anycastService is written by hand: generated code would register "Request"
// and "Response" for the whole program, see command.proto.
var anycastService = grpc.ServiceDesc{
	ServiceName: "AnycastService",
	HandlerType: (*Users)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "UserRequest", Handler: userRequest}},
	Metadata:    "seed/anycast.proto",
}

//nolint:revive // gRPC's generated handlers have their context second.
func userRequest(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var req voltadomarv1.CommandRequest
	if err := decode(&req); err != nil {
		return nil, err
	}
	if at := invalidAt(req.GetCommand()); at >= 0 {
		return &voltadomarv1.CommandResponse{
			Code:   http.StatusBadRequest,
			Output: fmt.Sprintf("command: byte %d, %#02x, is not UTF-8", at, req.GetCommand()[at]),
		}, nil
	}
	code, output := srv.(Users).Command(ctx, string(req.GetCommand()))
	return &voltadomarv1.CommandResponse{Code: int32(code), Output: text(output)}, nil
}

// invalidAt returns the index of the first byte that is not UTF-8, or -1.
func invalidAt(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
