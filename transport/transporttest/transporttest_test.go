package transporttest_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
	"bitbucket.org/uwpatio/voltadomar/transport/transporttest"
)

const defectVar = "TRANSPORTTEST_DEFECT"

// broken wraps a good transport and spoils its connections.
type broken struct {
	transport.Transport
	spoil  func(context.Context, transport.Conn) transport.Conn
	accept func(transport.Conn) transport.Conn
}

func (b broken) Accept(ctx context.Context) (transport.Conn, error) {
	c, err := b.Transport.Accept(ctx)
	if err != nil || b.accept == nil {
		return c, err
	}
	return b.accept(c), nil
}

func (b broken) Dial(ctx context.Context) (transport.Conn, error) {
	c, err := b.Transport.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return b.spoil(ctx, c), nil
}

// defective overrides single methods of a connection.
type defective struct {
	transport.Conn
	send    func(context.Context, transport.Message) error
	receive func(context.Context) (transport.Message, error)
	close   func() error
}

func (d *defective) Send(ctx context.Context, m transport.Message) error {
	if d.send != nil {
		return d.send(ctx, m)
	}
	return d.Conn.Send(ctx, m)
}

func (d *defective) Receive(ctx context.Context) (transport.Message, error) {
	if d.receive != nil {
		return d.receive(ctx)
	}
	return d.Conn.Receive(ctx)
}

func (d *defective) Close() error {
	if d.close != nil {
		return d.close()
	}
	return d.Conn.Close()
}

// asking and telling are the two sides of a transport that exchanges times, or
// says so.
type asking struct{ *defective }

func (asking) AskTime(ctx context.Context) (*transport.Timing, error) {
	now := time.Now()
	return &transport.Timing{Exchange: 1, Sent: now, Received: now}, ctx.Err()
}

type telling struct {
	transport.Conn
	tell func() (transport.Told, bool)
}

func (c telling) ToldTime(uint64) (transport.Told, bool) { return c.tell() }

// defects are what the suite has to find, with the tests one of which finds
// each first. The context is the one of the test.
var defects = map[string]struct {
	found string
	spoil func(context.Context, *defective)
	// tell, if set, has both sides exchange times.
	tell func() (transport.Told, bool)
}{
	"loses a field": {"Types", func(_ context.Context, d *defective) {
		d.send = func(ctx context.Context, m transport.Message) error {
			if hello, ok := m.(*transport.Hello); ok {
				m = &transport.Hello{Agent: hello.Agent, Instance: hello.Instance, Types: hello.Types, Sources: hello.Sources}
			}
			return d.Conn.Send(ctx, m)
		}
	}, nil},
	"swaps neighbours": {"Order", func(_ context.Context, d *defective) {
		var held transport.Message
		d.send = func(ctx context.Context, m transport.Message) error {
			f, ok := m.(*transport.Failed)
			switch {
			case ok && f.Session == 100:
				held = m
				return nil
			case ok && f.Session == 101:
				if err := d.Conn.Send(ctx, m); err != nil {
					return err
				}
				return d.Conn.Send(ctx, held)
			}
			return d.Conn.Send(ctx, m)
		}
	}, nil},
	"sends twice": {"Types", func(_ context.Context, d *defective) {
		d.send = func(ctx context.Context, m transport.Message) error {
			if err := d.Conn.Send(ctx, m); err != nil {
				return err
			}
			return d.Conn.Send(ctx, m)
		}
	}, nil},
	"loses a message": {"Order", func(_ context.Context, d *defective) {
		d.send = func(ctx context.Context, m transport.Message) error {
			if f, ok := m.(*transport.Failed); ok && f.Session == 300 {
				return nil
			}
			return d.Conn.Send(ctx, m)
		}
	}, nil},
	"queues without bound": {"Backpressure", func(test context.Context, d *defective) {
		queue := make(chan transport.Message, 1<<20)
		go func() {
			for {
				select {
				case m := <-queue:
					_ = d.Conn.Send(test, m)
				case <-test.Done():
					return
				}
			}
		}()
		d.send = func(ctx context.Context, m transport.Message) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			queue <- m
			return nil
		}
	}, nil},
	"forgets the context": {"ReceiveContext|Backpressure|SlowPeer", func(_ context.Context, d *defective) {
		d.send = func(ctx context.Context, m transport.Message) error {
			return d.Conn.Send(context.WithoutCancel(ctx), m)
		}
	}, nil},
	"loses what was sent before the close": {"ControllerCloses", func(_ context.Context, d *defective) {
		d.receive = func(ctx context.Context) (transport.Message, error) {
			m, err := d.Conn.Receive(ctx)
			if r, ok := m.(*transport.Refused); ok && r.Code == 10 {
				return nil, transport.ErrClosed
			}
			return m, err
		}
	}, nil},
	"another error than ErrClosed": {"SlowPeer|ControllerCloses|AgentCloses", func(_ context.Context, d *defective) {
		d.receive = func(ctx context.Context) (transport.Message, error) {
			m, err := d.Conn.Receive(ctx)
			if err != nil && ctx.Err() == nil {
				err = os.ErrClosed
			}
			return m, err
		}
	}, nil},
	"close does nothing": {"SlowPeer|AgentCloses", func(_ context.Context, d *defective) {
		d.close = func() error { return nil }
	}, nil},
	"leaks a goroutine": {"Types", func(context.Context, *defective) {
		go func() { select {} }()
	}, nil},
	"tells times of nothing": {"Times", nil, func() (transport.Told, bool) { return transport.Told{}, false }},
	"tells times that are none here": {"Times", nil, func() (transport.Told, bool) {
		return transport.Told{Received: time.Unix(1, 0), Sent: time.Unix(1, 0)}, true
	}},
}

// TestDefects runs the suite on broken transports, each in a process of its
// own, and expects it to fail there.
func TestDefects(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	for name, defect := range defects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestDefective$", "-test.failfast", "-test.v", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), defectVar+"="+name)
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "the suite passed:\n%s", out)
			require.Regexp(t, `--- FAIL: TestDefective/(`+defect.found+`)\b`, string(out))
		})
	}
}

func TestDefective(t *testing.T) {
	name := os.Getenv(defectVar)
	if name == "" {
		t.Skip("only TestDefects runs this, and expects it to fail")
	}
	defect, ok := defects[name]
	require.True(t, ok, "unknown defect %q", name)
	transporttest.Run(t, func(testing.TB) transport.Transport {
		b := broken{Transport: inproc.New()}
		b.spoil = func(ctx context.Context, c transport.Conn) transport.Conn {
			d := &defective{Conn: c}
			if defect.tell != nil {
				return asking{d}
			}
			defect.spoil(ctx, d)
			return d
		}
		if defect.tell != nil {
			b.accept = func(c transport.Conn) transport.Conn { return telling{c, defect.tell} }
		}
		return b
	})
}
