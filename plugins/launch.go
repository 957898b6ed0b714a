package plugins

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/sandbox"
)

// dying is how long a process may take to be gone once its connection is.
const dying = 300 * time.Millisecond

// undying is how long a process may take to die once it is killed.
const undying = 5 * time.Second

// launch is a process that was started by way of go-plugin, of which a new
// client is made for each: one whose process has crashed does not recover.
type launch struct {
	*process
	client *goplugin.Client
	dir    *socketDir // gone once it is connected to
	dead   bool       // in the end
}

// start starts a process and opens the session with it.
func (p *Plugin) start(ctx context.Context) (*instance, error) {
	program, err := p.read()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.c.StartTimeout,
		fmt.Errorf("%w: %s: not ready in %v", ErrTimeout, p.c.Path, p.c.StartTimeout))
	defer cancel()
	cert, certPEM, err := certificate()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	dir, err := newSocketDir()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	pr := &process{
		log: newOutput(p.log),
		command: sandbox.Command{
			Program: program, Path: p.c.Path, Dir: dir.path, User: p.user, Limits: p.c.Limits.settle(),
		},
	}
	l := &launch{process: pr, dir: dir}
	l.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  handshakeConfig,
		VersionedPlugins: map[int]goplugin.PluginSet{contract.Version: {serviceName: connector{}}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,
		StartTimeout:     24 * time.Hour, // ctx says when
		Logger:           hclog.NewNullLogger(),
		// As AutoMTLS, but with a curve that all TLS libraries know.
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, ServerName: "localhost"},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, tmp string) (runner.Runner, error) {
			// Instead of a directory that nobody would find should we be killed.
			set := goplugin.EnvUnixSocketDir + "="
			env := slices.DeleteFunc(cmd.Env, func(e string) bool { return strings.HasPrefix(e, set) })
			pr.command.Env = slices.Concat(env, []string{set + dir.path, "PLUGIN_CLIENT_CERT=" + certPEM}, p.c.Env)
			return pr, os.Remove(tmp)
		},
		GRPCDialOptions: dialOptions(pr),
	})
	in, err := p.session(ctx, l)
	if err != nil {
		l.kill()
		l.release()
		if ctx.Err() != nil {
			return nil, contextError(ctx, p.c.Path)
		}
		return nil, err
	}
	return in, nil
}

// session connects to the process and reads its description. When ctx ends
// before, the process is killed, and whatever waits for it returns.
func (p *Plugin) session(ctx context.Context, l *launch) (*instance, error) {
	let := context.AfterFunc(ctx, l.kill)
	defer let()
	if _, err := l.client.Start(); err != nil {
		return nil, l.why(err)
	}
	protocol, err := l.client.Client()
	if err != nil {
		return nil, l.why(err)
	}
	conn, err := protocol.Dispense(serviceName)
	if err != nil {
		return nil, l.why(err)
	}
	in := &instance{launch: l, name: p.c.Path, timeout: p.c.Timeout}
	streamCtx, hangUp := context.WithCancel(context.Background())
	in.hangUp = hangUp
	if in.stream, err = pluginv1.NewPluginClient(conn.(*grpc.ClientConn)).Session(streamCtx); err != nil {
		hangUp()
		return nil, l.why(err)
	}
	if err := p.described(in); err != nil {
		hangUp()
		return nil, err
	}
	// The plugin is connected to: nobody else shall be, and nothing be left
	// behind should this process be killed.
	if err := l.dir.remove(); err != nil {
		hangUp()
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	if !let() {
		hangUp()
		return nil, contextError(ctx, p.c.Path)
	}
	in.converse()
	return in, nil
}

// described reads the description, which is the same each time.
func (p *Plugin) described(in *instance) error {
	m, err := in.stream.Recv()
	if err != nil {
		return in.why(err)
	}
	if m.GetDescription() == nil || m.GetRequest() != 0 {
		return fmt.Errorf("%w: %s: the first message is no description", ErrProtocol, in.name)
	}
	d, err := contract.ReadDescription(m.GetDescription())
	if err == nil && p.d != nil {
		err = p.d.Same(d)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrProtocol, in.name, err)
	}
	if p.d == nil {
		p.d, p.port = d, d.Port
	}
	in.name = d.Name
	return nil
}

// read returns the plugin's file, which has to be what it was.
func (p *Plugin) read() ([]byte, error) {
	info, err := os.Stat(p.c.Path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is no file", ErrStart, p.c.Path)
	case info.Size() > maxProgram:
		return nil, fmt.Errorf("%w: %s is of %d bytes, want %d at most", ErrStart, p.c.Path, info.Size(), maxProgram)
	case info.Mode()&0o111 == 0 && runtime.GOOS != "windows":
		return nil, fmt.Errorf("%w: %s is not executable", ErrStart, p.c.Path)
	}
	program, err := os.ReadFile(p.c.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	sum := sha256.Sum256(program)
	found := hex.EncodeToString(sum[:])
	if p.c.SHA256 == "" {
		p.c.SHA256 = found
	}
	if found != p.c.SHA256 {
		return nil, fmt.Errorf("%w: %s has %s, want %s", ErrChecksum, p.c.Path, found, p.c.SHA256)
	}
	return program, nil
}

// why returns the reason for an error on the way to a session, which the
// process knows better.
func (l *launch) why(err error) error {
	if reason := l.reason(); reason != nil {
		return reason
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled:
		select { // a process takes a moment to die
		case <-l.proc.Done():
			return l.crashed()
		case <-time.After(dying):
		}
	}
	return fmt.Errorf("%w: %s: %s", ErrProtocol, l.command.Path, contract.Line(status.Convert(err).Message(), 255))
}

// release waits until nothing of a process is left. It has been killed.
func (l *launch) release() {
	_ = l.dir.remove()
	if l.dead = l.gone(); l.dead {
		l.client.Kill()
	}
}

const serviceName = "prober"

var handshakeConfig = goplugin.HandshakeConfig{
	ProtocolVersion:  contract.Version,
	MagicCookieKey:   "VOLTADOMAR_PLUGIN_COOKIE",
	MagicCookieValue: "d6b9e1f2-probe",
}

// connector gives the connection itself.
type connector struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (connector) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

func (connector) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("this is the host's side")
}

// dialOptions bound what a plugin can make of the connection. The services of
// go-plugin, through which it could make the host hold as much as it likes,
// are not used.
func dialOptions(p *process) []grpc.DialOption {
	unused := status.Error(codes.Unimplemented, "not used by this host")
	return []grpc.DialOption{
		grpc.WithContextDialer(p.dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(contract.MaxMessage), grpc.MaxCallSendMsgSize(contract.MaxMessage)),
		grpc.WithMaxHeaderListSize(16 << 10),
		grpc.WithInitialWindowSize(contract.MaxMessage),
		grpc.WithInitialConnWindowSize(contract.MaxMessage),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithUserAgent("voltadomar"),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if strings.HasPrefix(method, "/plugin.") {
				return nil, unused
			}
			return next(ctx, desc, conn, method, opts...)
		}),
		grpc.WithUnaryInterceptor(func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
			return unused
		}),
	}
}
