package grpctransport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport/internal/timing"
)

// ServerConfig says where to listen and whom to serve.
type ServerConfig struct {
	// Listener is what to listen on. The server closes it. If it is nil, Addr
	// is.
	Listener net.Listener
	// Addr is the "host:port" to listen on if Listener is nil. No host means
	// all addresses of this host, port 0 a free one.
	Addr string
	// TLS secures connections; set its ClientAuth and ClientCAs to let in only
	// those with a certificate. Nil is plain text.
	TLS *tls.Config
	// Insecure allows plain text on other addresses than loopback ones. It
	// means nothing if TLS is set.
	Insecure bool
	// NoTiming does without exchanges of time over UDP. They use the UDP port
	// of the listener's address and number, answer connected agents alone, and
	// tell how far agents' clocks are off better than the streams can. Where
	// that port is taken the server does without as well.
	NoTiming bool
	// Users serves users. If it is nil, only agents are served.
	Users Users
	// Logger gets what goes wrong. Nil is silent.
	Logger *slog.Logger
}

// Server is the controller's half of a [transport.Transport]: it accepts, and
// does not dial. It is safe for concurrent use.
type Server struct {
	voltadomarv1.UnimplementedAgentsServer

	cfg      ServerConfig
	grpc     *grpc.Server
	listener *cutter
	addr     net.Addr
	timing   *timing.Server // nil: none
	accepted chan transport.Conn
	quit     chan struct{} // closed by Close
	served   chan struct{} // closed when the listener failed or closed
	err      error         // set before served is closed
	work     sync.WaitGroup
	once     sync.Once
	closeErr error // set by once

	mu     sync.Mutex // guards all below
	closed bool
	conns  map[*controllerConn]struct{}
}

type controllerConn = conn[*voltadomarv1.ControllerMessage, *voltadomarv1.AgentMessage]

// Listen starts a server. The error is [transport.ErrInsecure] where the
// configuration means plain text beyond loopback without saying so.
func Listen(cfg ServerConfig) (*Server, error) {
	l, err := listen(&cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		addr:     l.Addr(),
		listener: newCutter(l),
		timing:   serveTiming(&cfg, l.Addr()),
		accepted: make(chan transport.Conn),
		quit:     make(chan struct{}),
		served:   make(chan struct{}),
		conns:    make(map[*controllerConn]struct{}),
	}
	options := []grpc.ServerOption{
		grpc.KeepaliveParams(serverPings),
		grpc.KeepaliveEnforcementPolicy(pingPolicy),
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.WaitForHandlers(true),
	}
	if cfg.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	}
	s.grpc = grpc.NewServer(options...)
	voltadomarv1.RegisterAgentsServer(s.grpc, s)
	if cfg.Users != nil {
		voltadomarv1.RegisterMeasurementsServer(s.grpc, &measurements{users: cfg.Users})
		s.grpc.RegisterService(&anycastService, cfg.Users)
	}
	s.work.Go(func() {
		s.err = s.grpc.Serve(s.listener)
		close(s.served)
	})
	return s, nil
}

// listen checks the configuration and opens the listener.
func listen(cfg *ServerConfig) (net.Listener, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	plain := cfg.TLS == nil && !cfg.Insecure
	l := cfg.Listener
	if l == nil {
		ok, err := plainAllowed(cfg.Addr)
		if err != nil {
			return nil, fmt.Errorf("listen %w", err)
		}
		if plain && !ok {
			return nil, refusePlain("listen on", cfg.Addr)
		}
		if l, err = net.Listen("tcp", cfg.Addr); err != nil {
			return nil, err
		}
	}
	// A name can lead anywhere, "localhost" too.
	if plain && !staysHere(l.Addr()) {
		l.Close()
		return nil, refusePlain("listen on", l.Addr().String())
	}
	return l, nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.addr }

// Dial returns an error that is [errors.ErrUnsupported]: controllers do not dial.
func (s *Server) Dial(context.Context) (transport.Conn, error) {
	select {
	case <-s.quit:
		return nil, transport.ErrClosed
	default:
	}
	return nil, fmt.Errorf("dial with a Server: %w: a Dialer dials", errors.ErrUnsupported)
}

// Accept waits for the next agent. The error is ctx's, [transport.ErrClosed]
// after Close, or the listener's if that failed.
func (s *Server) Accept(ctx context.Context) (transport.Conn, error) {
	select {
	case <-s.quit:
		return nil, transport.ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.quit:
		return nil, transport.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.served:
	}
	select {
	case <-s.quit:
		return nil, transport.ErrClosed
	default:
		return nil, fmt.Errorf("listener %s: %w", s.addr, s.err)
	}
}

// Connect serves the stream of one agent. It is called by gRPC.
func (s *Server) Connect(stream voltadomarv1.Agents_ConnectServer) error {
	c := newConn(controllerWire(stream))
	if !s.add(c) {
		return errStopping
	}
	defer s.supervise(c)
	accepted, header, done := s.admit(c)
	defer done()
	select {
	case s.accepted <- accepted:
	case <-s.quit:
		c.fail(transport.ErrClosed)
	case <-stream.Context().Done():
		c.fail(transport.ErrClosed)
	}
	if err := stream.SendHeader(header); err != nil {
		c.fail(broken(err))
	}
	go c.writes()
	go c.reads()
	select {
	case <-c.readerGone:
	case <-c.quit:
		// The stream ends for the peer when this returns, not before.
		within(linger, c.writerGone)
	}
	if bad := (*malformed)(nil); errors.As(c.reason(), &bad) {
		from, _ := peer.FromContext(stream.Context())
		s.cfg.Logger.Warn("agent's stream ended", "peer", from.Addr, "error", bad)
		return status.Error(codes.InvalidArgument, bad.Error())
	}
	return nil
}

var errStopping = status.Error(codes.Unavailable, "controller stopped")

func controllerWire(stream voltadomarv1.Agents_ConnectServer) wire[*voltadomarv1.ControllerMessage, *voltadomarv1.AgentMessage] {
	return wire[*voltadomarv1.ControllerMessage, *voltadomarv1.AgentMessage]{
		encode: encodeController,
		write: func(ms []*voltadomarv1.ControllerMessage) error {
			return stream.Send(&voltadomarv1.ToAgent{Messages: ms})
		},
		read: func() ([]*voltadomarv1.AgentMessage, error) {
			m, err := stream.Recv()
			switch status.Code(err) {
			case codes.Internal, codes.ResourceExhausted: // not decodable, or too long
				err = &malformed{errors.New(status.Convert(err).Message())}
			}
			return m.GetMessages(), err
		},
		decode: decodeAgent,
	}
}

// supervise waits, after the handler returned, for a connection's goroutines.
func (s *Server) supervise(c *controllerConn) {
	go func() {
		defer s.work.Done()
		defer close(c.done)
		<-c.writerGone
		<-c.readerGone
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
}

func (s *Server) add(c *controllerConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	s.work.Add(1)
	return true
}

// errBusy says that Close gave up waiting.
var errBusy = errors.New("a measurement goes on although its context ended")

// Close ends the server. What runs gets a second to finish, then its context
// ends; the error says if it still did not half a second later.
func (s *Server) Close() error {
	s.once.Do(func() { s.closeErr = s.shut() })
	return s.closeErr
}

func (s *Server) shut() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.leave()
	}
	s.mu.Unlock()
	close(s.quit)
	if s.timing != nil {
		s.timing.Close()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
		s.work.Wait()
	}()
	if within(linger, done) {
		return nil
	}
	s.listener.cutAll()
	go s.grpc.Stop()
	if within(linger/2, done) {
		return nil
	}
	return errBusy
}

// within tells whether done closes within d.
func within(d time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
