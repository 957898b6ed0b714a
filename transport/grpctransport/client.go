package grpctransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/grpc"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// Client asks a controller for measurements. It is safe for concurrent use.
type Client struct {
	cfg  ClientConfig
	conn *grpc.ClientConn
}

// NewClient makes a Client. It does no I/O: a controller that cannot be
// reached is found by the first call. The error is [transport.ErrInsecure]
// where the configuration means plain text to another host without saying so.
func NewClient(cfg ClientConfig) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	conn, err := cfg.connect()
	if err != nil {
		return nil, fmt.Errorf("controller %s: %w", cfg.Addr, err)
	}
	return &Client{cfg: cfg, conn: conn}, nil
}

// Measure runs the command whose words are args, without "volta", and calls
// each, if it is not nil, with what happens meanwhile, the whole trace last.
// Each is called from the calling goroutine; while it runs, later events wait.
//
// The trace is not nil if the measurement began, whatever the error. The
// error is an [*Error], or ctx's.
func (c *Client) Measure(ctx context.Context, args []string, each func(result.Event)) (*result.Trace, error) {
	size := 0
	for _, arg := range args {
		if at := invalidAt([]byte(arg)); at >= 0 {
			return nil, &Error{Code: http.StatusBadRequest, Message: fmt.Sprintf("argument %.80q: byte %d is not UTF-8", arg, at)}
		}
		size += len(arg)
	}
	if size > maxCommand {
		return nil, tooLong(size)
	}
	// A call that is not read to its end has to be cancelled.
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := voltadomarv1.NewMeasurementsClient(c.conn).Measure(calling, &voltadomarv1.MeasureRequest{Args: args})
	if err != nil {
		return nil, c.decodeError(ctx, err)
	}
	var trace *result.Trace
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && trace == nil:
			return nil, c.malformed(errors.New("no result came"))
		case errors.Is(err, io.EOF):
			return trace, nil
		case err != nil:
			return trace, c.decodeError(ctx, err)
		}
		event, err := decodeEvent(m)
		if err != nil {
			return trace, c.malformed(err)
		}
		if event.Trace != nil {
			trace = event.Trace
		}
		if each != nil && event != (result.Event{}) {
			each(event)
		}
	}
}

// decodeEvent returns an empty event for one of a kind that is not known.
func decodeEvent(m *voltadomarv1.MeasureEvent) (e result.Event, err error) {
	switch m := m.GetEvent().(type) {
	case *voltadomarv1.MeasureEvent_Probe:
		e.Probe, err = decodeProbe(m.Probe)
	case *voltadomarv1.MeasureEvent_Trace:
		e.Trace, err = decodeTrace(m.Trace)
	}
	return e, err
}

// Agents names the agents that are connected to the controller, sorted. The
// error is an [*Error], or ctx's.
func (c *Client) Agents(ctx context.Context) ([]string, error) {
	m, err := voltadomarv1.NewMeasurementsClient(c.conn).ListAgents(ctx, &voltadomarv1.ListAgentsRequest{})
	if err != nil {
		return nil, c.decodeError(ctx, err)
	}
	return m.GetAgents(), nil
}

// UserRequest runs a command line, "volta" and all, as clients of the original
// Voltadomar do. Code is as in HTTP; output is the result or what went wrong.
// The error, an [*Error] or ctx's, is of the call alone.
func (c *Client) UserRequest(ctx context.Context, command string) (code int, output string, err error) {
	if len(command) > maxCommand {
		return 0, "", tooLong(len(command))
	}
	var m voltadomarv1.CommandResponse
	if err := c.conn.Invoke(ctx, anycastMethod, &voltadomarv1.CommandRequest{Command: []byte(command)}, &m); err != nil {
		return 0, "", c.decodeError(ctx, err)
	}
	return int(m.GetCode()), m.GetOutput(), nil
}

// Close ends the connection and the calls under way. It is idempotent.
func (c *Client) Close() error {
	// The only error is that it was closed before.
	_ = c.conn.Close()
	return nil
}

func tooLong(n int) error {
	return &Error{Code: http.StatusBadRequest, Message: fmt.Sprintf("a command of %d bytes: must be at most %d", n, maxCommand)}
}

func (c *Client) malformed(err error) error {
	return &Error{Code: http.StatusInternalServerError, Message: fmt.Sprintf("controller %s: malformed answer: %v", c.cfg.Addr, err), Err: err}
}
