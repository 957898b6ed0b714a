package plugins

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// lonely is how long a plugin waits for its host to connect.
const lonely = time.Minute

// Serve makes the program a plugin that serves one measurement type. It is all
// of main:
//
//	func main() { plugins.Serve(dns.Prober{}) }
//
// The prober may be a [probe.Optioner], [probe.Describer] and [probe.Batcher].
// Its methods are called concurrently. It may print what it likes: that goes to
// the agent's log. A panic ends the program, which the agent then starts again.
//
// Serve returns when the agent has gone or needs the plugin no more. It exits
// with status 1 if the program was run by hand, after it said how plugins are
// used, or if the prober cannot be a plugin.
func Serve(pr probe.Prober) {
	if err := serve(pr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(pr probe.Prober) error {
	number, err := protocolOf(pr)
	if err != nil {
		return err
	}
	protocol, ok := contract.Protocol(number)
	if !ok {
		return fmt.Errorf("%s: probes of IP protocol %d, want 17 (UDP), 6 (TCP), or 1 (ICMP) over IPv4 and 58 over IPv6", pr.Name(), number)
	}
	description, err := contract.Describe(pr, protocol)
	if err != nil {
		return err
	}
	if os.Getenv(handshakeConfig.MagicCookieKey) != handshakeConfig.MagicCookieValue {
		return errors.New(manual(description))
	}
	s := &server{
		worker: worker{prober: pr, set: map[string]probe.Prober{}}, description: description,
		stdout: os.Stdout, stderr: os.Stderr,
	}
	timer := time.AfterFunc(lonely, s.stop)
	defer timer.Stop()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  handshakeConfig,
		VersionedPlugins: map[int]goplugin.PluginSet{contract.Version: {serviceName: s}},
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr}),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options,
				grpc.MaxRecvMsgSize(contract.MaxMessage), grpc.MaxSendMsgSize(contract.MaxMessage),
				grpc.InitialWindowSize(contract.MaxMessage), grpc.InitialConnWindowSize(contract.MaxMessage))...)
		},
	})
	return nil
}

// protocolOf returns the IP protocol of the probes that a prober builds.
func protocolOf(pr probe.Prober) (uint8, error) {
	if p, ok := pr.(interface{ Protocol() uint8 }); ok {
		return p.Protocol(), nil
	}
	var refused error
	for _, v6 := range []bool{false, true} {
		for _, port := range []uint16{33434, 53, 80, 443} {
			p := probe.Probe{ID: 1, DstPort: port, TTL: 1, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("198.51.100.1")}
			at := 9
			if v6 {
				p.Src, p.Dst, at = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), 6
			}
			b, err := pr.Build(nil, &p)
			if err == nil && len(b) > at {
				return b[at], nil
			}
			refused = errors.Join(refused, err)
		}
	}
	return 0, fmt.Errorf("%s: it builds no probe from which its IP protocol could be seen, and has no method Protocol() uint8 that says it: %w", pr.Name(), refused)
}

// manual is what somebody learns who runs a plugin by hand.
func manual(d *pluginv1.Description) string {
	var b strings.Builder
	fmt.Fprintf(&b, "This is the measurement type %q, a plugin that agents run.\n", d.Name)
	if d.Help != "" {
		fmt.Fprintf(&b, "%s\n", d.Help)
	}
	path, err := os.Executable()
	if err != nil {
		path = os.Args[0]
	}
	fmt.Fprintf(&b, "\nGive an agent the option\n  --plugin %s", path)
	if program, err := os.ReadFile(path); err == nil {
		fmt.Fprintf(&b, ",sha256=%x", sha256.Sum256(program))
	}
	fmt.Fprintf(&b, "\nand measure from it with\n  -P %s", d.Name)
	if len(d.Options) > 0 {
		b.WriteString(" [-o NAME=VALUE]...\n\nOptions:")
	}
	for _, o := range d.Options {
		fmt.Fprintf(&b, "\n  %s", o.Name)
		if kind := probe.OptionKind(o.Kind); kind == probe.ChoiceOption {
			fmt.Fprintf(&b, "=%s", strings.Join(o.Choices, "|"))
		} else {
			fmt.Fprintf(&b, "=%s", strings.ToUpper(kind.String()))
		}
		fmt.Fprintf(&b, "  %s", o.Help)
		if o.Default != "" {
			fmt.Fprintf(&b, " (default %s)", o.Default)
		}
	}
	return b.String()
}

// server is the plugin's side of the contract.
type server struct {
	goplugin.NetRPCUnsupportedPlugin
	pluginv1.UnimplementedPluginServer
	worker      worker
	description *pluginv1.Description

	stdout, stderr *os.File // before go-plugin put pipes in their place

	mu     sync.Mutex // guards grpc
	grpc   *grpc.Server
	served bool
}

// GRPCServer registers the service.
func (s *server) GRPCServer(_ *goplugin.GRPCBroker, g *grpc.Server) error {
	s.mu.Lock()
	s.grpc = g
	s.mu.Unlock()
	pluginv1.RegisterPluginServer(g, s)
	return nil
}

// GRPCClient is not for the plugin's side.
func (s *server) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this is the plugin's side")
}

// stop ends the program, unless a host is served.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grpc != nil && !s.served {
		s.grpc.Stop()
	}
}

// Session implements the service. Its end is that of the program.
func (s *server) Session(stream pluginv1.Plugin_SessionServer) error {
	s.mu.Lock()
	again := s.served
	s.served = true
	s.mu.Unlock()
	if again {
		return errors.New("there is a session already")
	}
	defer func() { go s.grpc.Stop() }() // which waits for this to return
	// What is printed shall not wait for a service of go-plugin that nobody
	// asks.
	os.Stdout, os.Stderr = s.stdout, s.stderr

	if err := stream.Send(&pluginv1.ToHost{Message: &pluginv1.ToHost_Description{Description: s.description}}); err != nil {
		return err
	}
	return s.worker.serve(stream)
}
