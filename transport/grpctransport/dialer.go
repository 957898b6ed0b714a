package grpctransport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// ClientConfig says how to reach a controller.
type ClientConfig struct {
	// Addr is the controller's "host:port".
	Addr string
	// TLS secures the connection; with certificates in it the controller can
	// tell who calls. Its zero ServerName means Addr's host. Nil is plain
	// text.
	TLS *tls.Config
	// Insecure allows plain text to other hosts than this one. It means
	// nothing if TLS is set.
	Insecure bool
	// Logger gets what goes wrong. Nil is silent.
	Logger *slog.Logger

	// dialer replaces the network in tests.
	dialer func(ctx context.Context, addr string) (net.Conn, error)
}

// connect makes a gRPC connection, which dials when it is first used.
func (c *ClientConfig) connect() (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if c.TLS != nil {
		creds = credentials.NewTLS(c.TLS)
	}
	// The passthrough resolver leaves names to net.Dialer, and keeps proxies
	// that the environment names out of it.
	return grpc.NewClient("passthrough:///"+c.Addr,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(c.dial),
		grpc.WithKeepaliveParams(clientPings),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: longestBackoff / 20, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestBackoff},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	)
}

func (c *ClientConfig) dial(ctx context.Context, addr string) (net.Conn, error) {
	if c.dialer != nil {
		return c.dialer(ctx, addr)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// A name can lead anywhere, "localhost" too.
	if c.TLS == nil && !c.Insecure && !staysHere(conn.RemoteAddr()) {
		conn.Close()
		return nil, refusePlain("dial", addr)
	}
	return conn, nil
}

// check completes and checks a configuration.
func (c *ClientConfig) check() error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	ok, err := plainAllowed(c.Addr)
	if err != nil {
		return fmt.Errorf("controller %w", err)
	}
	if c.TLS == nil && !c.Insecure && !ok {
		return refusePlain("dial", c.Addr)
	}
	return nil
}

// Dialer is the agents' half of a [transport.Transport]: it dials, and does
// not accept. It is safe for concurrent use.
type Dialer struct {
	cfg  ClientConfig
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	work sync.WaitGroup // dials under way and connections

	mu     sync.Mutex // guards all below
	closed bool
	conns  map[*agentConn]struct{}
}

type agentConn = conn[*voltadomarv1.AgentMessage, *voltadomarv1.ControllerMessage]

// NewDialer makes a Dialer. It does no I/O. The error is
// [transport.ErrInsecure] where the configuration means plain text to another
// host without saying so.
func NewDialer(cfg ClientConfig) (*Dialer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	d := &Dialer{cfg: cfg, conns: make(map[*agentConn]struct{})}
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d, nil
}

// Accept returns an error that is [errors.ErrUnsupported]: agents do not accept.
func (d *Dialer) Accept(context.Context) (transport.Conn, error) {
	if d.ctx.Err() != nil {
		return nil, transport.ErrClosed
	}
	return nil, fmt.Errorf("accept with a Dialer: %w: a Server accepts", errors.ErrUnsupported)
}

// Dial connects to the controller and waits until it accepts. A controller
// that cannot be reached is an error at once, without retries. Each connection
// has its own TCP connection.
func (d *Dialer) Dial(ctx context.Context) (transport.Conn, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, transport.ErrClosed
	}
	d.work.Add(1)
	d.mu.Unlock()
	defer d.work.Done()
	if err := ctx.Err(); err != nil {
		return nil, err
	}

	cc, err := d.cfg.connect()
	if err != nil {
		return nil, fmt.Errorf("dial controller %s: %w", d.cfg.Addr, err)
	}
	// The stream outlives the dial: until then ctx and Close end it.
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stops := []func() bool{context.AfterFunc(ctx, cancel), context.AfterFunc(d.ctx, cancel)}
	stream, header, err := open(streamCtx, cc)
	for _, stop := range stops {
		if !stop() && err == nil {
			err = streamCtx.Err()
		}
	}
	var c *agentConn
	if err == nil {
		c = newConn(agentWire(stream))
		if !d.add(c) {
			err = transport.ErrClosed
		}
	}
	if err != nil {
		cancel()
		cc.Close()
		switch {
		case d.ctx.Err() != nil:
			return nil, transport.ErrClosed
		case ctx.Err() != nil:
			return nil, fmt.Errorf("dial controller %s: %w", d.cfg.Addr, ctx.Err())
		}
		return nil, fmt.Errorf("dial controller %s: %s", d.cfg.Addr, reason(status.Convert(err)))
	}
	times := dialTiming(stream.Context(), header)
	go c.writes()
	go c.reads()
	go d.supervise(c, stream, func() {
		cancel()
		cc.Close()
		if times != nil {
			times.Close()
		}
	})
	if times == nil {
		return c, nil
	}
	return &askingConn{c, times}, nil
}

// open begins a stream and waits for the controller to accept it.
func open(ctx context.Context, cc *grpc.ClientConn) (voltadomarv1.Agents_ConnectClient, metadata.MD, error) {
	stream, err := voltadomarv1.NewAgentsClient(cc).Connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	header, err := stream.Header()
	if err != nil {
		return nil, nil, err
	}
	if len(header.Get(versionKey)) > 0 {
		return stream, header, nil
	}
	if header == nil { // the stream ended with no headers: its status says why
		if _, err := stream.Recv(); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, errors.New("what answers there is no controller")
}

func agentWire(stream voltadomarv1.Agents_ConnectClient) wire[*voltadomarv1.AgentMessage, *voltadomarv1.ControllerMessage] {
	return wire[*voltadomarv1.AgentMessage, *voltadomarv1.ControllerMessage]{
		encode: encodeAgent,
		write: func(ms []*voltadomarv1.AgentMessage) error {
			return stream.Send(&voltadomarv1.ToController{Messages: ms})
		},
		read: func() ([]*voltadomarv1.ControllerMessage, error) {
			m, err := stream.Recv()
			return m.GetMessages(), err
		},
		decode: decodeController,
	}
}

// supervise ends a connection and what belongs to it.
func (d *Dialer) supervise(c *agentConn, stream voltadomarv1.Agents_ConnectClient, end func()) {
	defer d.work.Done()
	defer close(c.done)
	select {
	case <-c.readerGone:
	case <-c.quit:
		c.drained(func() { _ = stream.CloseSend() })
	}
	end()
	<-c.writerGone
	<-c.readerGone
	if bad := (*malformed)(nil); errors.As(c.reason(), &bad) {
		d.cfg.Logger.Warn("controller's stream ended", "controller", d.cfg.Addr, "error", bad)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

func (d *Dialer) add(c *agentConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.conns[c] = struct{}{}
	d.work.Add(1)
	return true
}

// Close ends the connections, as their own Close does, and dials under way.
func (d *Dialer) Close() error {
	d.mu.Lock()
	d.closed = true
	for c := range d.conns {
		c.leave()
	}
	d.mu.Unlock()
	d.stop()
	d.work.Wait()
	return nil
}
