//go:build unix

package plugins_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// roles are what the test binary is in another process, by MODE.
var roles = map[string]func(){
	"udp":       func() { plugins.Serve(udp.Prober{}) },
	"icmp":      func() { plugins.Serve(icmp.Prober{}) },
	"tcp":       func() { plugins.Serve(tcp.Prober{}) },
	"hello":     func() { plugins.Serve(udp.Carry(hello{})) },
	"ping":      func() { plugins.Serve(icmp.Carry(hello{})) },
	"batcher":   func() { plugins.Serve(batcher{udp.Prober{}}) },
	"faulty":    func() { plugins.Serve(faulty{udp.Prober{}}) },
	"unnamed":   func() { plugins.Serve(named{udp.Prober{}, "No Name"}) },
	"raw":       func() { serveRaw(sessions[os.Getenv("SESSION")]) },
	"unruly":    unruly,
	"host":      host,
	"version":   serveOther,
	"unready":   func() { unready[os.Getenv("HOW")]() },
	"greedy":    func() { plugins.Serve(greedy{udp.Prober{}}) },
	"hopeless":  func() { plugins.Serve(hopeless{}) },
	"declared":  func() { plugins.Serve(declared{}) },
	"ephemeral": func() { fmt.Fprintln(os.Stderr, "no configuration"); os.Exit(3) },
}

// hello is a payload with an option, and with values in its answers.
type hello struct{ word string }

func (hello) Name() string { return "hello" }

func (hello) Help() string { return "greets whoever is there" }

func (hello) DefaultPort() uint16 { return 7 }

func (hello) Options() []probe.Option {
	return []probe.Option{
		{Name: "word", Default: "hello", Help: "what to say"},
		{Name: "times", Kind: probe.IntOption, Default: "1", Help: "how often, 1 to 9"},
	}
}

func (h hello) With(values map[string]string) (probe.Payload, error) {
	all, err := probe.CheckOptions(h.Options(), values)
	if err != nil {
		return nil, err
	}
	times, err := strconv.Atoi(all["times"])
	if err != nil || times < 1 || times > 9 {
		return nil, &probe.OptionError{Name: "times", Value: all["times"], Want: "must be 1 to 9"}
	}
	if all["word"] == "port" {
		return greeting{hello{"port"}, 1234}, nil
	}
	return hello{strings.Repeat(all["word"], times)}, nil
}

func (h hello) AppendPayload(b []byte, _ *probe.Probe) ([]byte, error) {
	if h.word == "" {
		h.word = "hello"
	}
	return append(b, h.word...), nil
}

func (h hello) ReadAnswer(data []byte, a *probe.Answer) bool {
	if a.Kind == probe.UDPReply {
		id, tag, ok := probe.TrailingIdentity(data)
		if !ok {
			return false
		}
		a.ID, a.Tag, a.TagBits = id, tag, 64
	}
	word, _ := h.AppendPayload(nil, nil)
	a.Values = []probe.Value{{Name: "heard", Text: string(data[:min(len(data), len(word))])}}
	return true
}

// greeting is hello on another port.
type greeting struct {
	hello
	port uint16
}

func (g greeting) DefaultPort() uint16 { return g.port }

// greedy takes everything for an answer to probe 7.
type greedy struct{ probe.Prober }

func (greedy) Match(_ []byte, a *probe.Answer) bool {
	a.ID = 7
	return true
}

// hopeless builds nothing.
type hopeless struct{ udp.Prober }

func (hopeless) Name() string { return "hopeless" }

func (hopeless) Build(b []byte, _ *probe.Probe) ([]byte, error) { return b, errors.New("not now") }

type declared struct{ hopeless }

func (declared) Protocol() uint8 { return probe.UDP }

type named struct {
	probe.Prober
	name string
}

func (n named) Name() string { return n.name }

// batcher does one thing at a time, or all at once, but fails for destination
// port 99.
type batcher struct{ probe.Prober }

func (b batcher) BuildAll(_ context.Context, ps []probe.Probe, out []probe.Built) error {
	for i := range ps {
		if ps[i].DstPort == 99 {
			return errors.New("the database is gone")
		}
		out[i].Data, out[i].Err = b.Build(nil, &ps[i])
	}
	return nil
}

func (b batcher) MatchAll(_ context.Context, datagrams [][]byte, out []probe.Matched) error {
	for i, d := range datagrams {
		out[i].OK = b.Match(d, &out[i].Answer)
	}
	return nil
}

// faulty does as the destination port of a probe says.
type faulty struct{ probe.Prober }

// What faulty does.
const (
	fine = 33434 + iota
	crash
	segfault
	exit
	hang
	print
	flood
	eat
	fork
	look
	shrink
	grow
	nothing
	spoof
	elsewhere
	another
	late
)

var calls atomic.Int32

func (f faulty) Build(b []byte, p *probe.Probe) ([]byte, error) {
	q := *p
	switch p.DstPort {
	case crash:
		panic("boom\x1b[31m")
	case segfault:
		must(syscall.Kill(os.Getpid(), syscall.SIGSEGV))
		select {}
	case exit:
		os.Exit(0)
	case hang:
		select {}
	case late: // once
		if calls.Add(1) == 1 {
			time.Sleep(100 * time.Millisecond)
		}
	case print:
		fmt.Println("on stdout \x1b[2J")
		fmt.Fprintln(os.Stderr, "on stderr", strings.Repeat("x", 5000))
		fmt.Fprintln(os.Stderr, `{"@message":1}`)
		fmt.Fprintln(os.Stderr, `{"@level":"error","@message":"m","@timestamp":3}`)
		fmt.Println(`{"@message":1}`)
		_, _ = os.Stderr.Write([]byte("\xff\x00\n"))
	case flood:
		for _, f := range []*os.File{os.Stdout, os.Stderr} {
			go func() {
				junk := []byte(strings.Repeat("junk ", 2000) + "\n")
				for {
					if _, err := f.Write(junk); err != nil {
						return
					}
				}
			}()
		}
	case eat:
		var all [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
			calls.Add(int32(len(all)))
		}
	case fork:
		cmd := exec.Command("/bin/sh", "-c", "trap '' TERM HUP INT; echo child; while :; do sleep 1000; done")
		cmd.Env = os.Environ()
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return b, err
		}
	case look:
		return b, errors.New(confinement())
	case shrink:
		return b[:len(b)/2], nil
	case grow:
		b, err := f.Prober.Build(b, &q)
		return append(b, make([]byte, 3000)...), err
	case nothing:
		return b, nil
	case spoof:
		q.Src = q.Src.Next()
	case elsewhere:
		q.Dst = q.Dst.Next()
	case another:
		q.ID++
	}
	return f.Prober.Build(b, &q)
}

// confinement says what the sandbox leaves, in a line.
func confinement() string {
	var said []string
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	for line := range strings.Lines(string(status)) {
		if name, value, _ := strings.Cut(line, ":"); strings.HasPrefix(name, "Cap") || name == "NoNewPrivs" || name == "Uid" {
			said = append(said, name+"="+strings.ReplaceAll(strings.TrimSpace(value), "\t", ","))
		}
	}
	_, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)
	said = append(said, fmt.Sprintf("raw=%v", err))
	_, err = net.Dial("udp", "192.0.2.1:53")
	said = append(said, fmt.Sprintf("dial=%t", err == nil))
	said = append(said, fmt.Sprintf("env=%d", len(os.Environ())))
	return strings.Join(said, " ")
}

// serveRaw speaks the contract as a function says.
func serveRaw(session func(stream pluginv1.Plugin_SessionServer) error) {
	serveWith(1, rawPlugin{session: session})
}

func serveWith(version int, p goplugin.Plugin) {
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  plugins.HandshakeConfig,
		VersionedPlugins: map[int]goplugin.PluginSet{version: {plugins.ServiceName: p}},
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.MaxSendMsgSize(64<<20))...)
		},
	})
}

func serveOther() {
	version, err := strconv.Atoi(os.Getenv("SPEAK"))
	must(err)
	serveWith(version, rawPlugin{})
}

type rawPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	pluginv1.UnimplementedPluginServer
	session func(stream pluginv1.Plugin_SessionServer) error
}

func (rawPlugin) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

func (p rawPlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	if p.session != nil {
		pluginv1.RegisterPluginServer(s, p)
	}
	return nil
}

func (p rawPlugin) Session(stream pluginv1.Plugin_SessionServer) error { return p.session(stream) }

// described sends a description and then answers each request by a function.
func described(answer func(stream pluginv1.Plugin_SessionServer, m *pluginv1.ToPlugin) error) func(pluginv1.Plugin_SessionServer) error {
	return func(stream pluginv1.Plugin_SessionServer) error {
		d := &pluginv1.Description{Name: "raw", Protocol: pluginv1.Protocol_PROTOCOL_UDP}
		if err := stream.Send(&pluginv1.ToHost{Message: &pluginv1.ToHost_Description{Description: d}}); err != nil {
			return err
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				os.Exit(0) // the host has gone
			}
			if err := answer(stream, m); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// with answers a request with a message.
func with(answer func(m *pluginv1.ToPlugin) *pluginv1.ToHost) func(pluginv1.Plugin_SessionServer) error {
	return described(func(stream pluginv1.Plugin_SessionServer, m *pluginv1.ToPlugin) error {
		a := answer(m)
		if a.Request == 0 {
			a.Request = m.Request
		}
		return stream.Send(a)
	})
}

func builtAs(m *pluginv1.Built) func(pluginv1.Plugin_SessionServer) error {
	return with(func(*pluginv1.ToPlugin) *pluginv1.ToHost {
		return &pluginv1.ToHost{Message: &pluginv1.ToHost_Built{Built: m}}
	})
}

func matchedAs(m *pluginv1.Matched) func(pluginv1.Plugin_SessionServer) error {
	return with(func(*pluginv1.ToPlugin) *pluginv1.ToHost {
		return &pluginv1.ToHost{Message: &pluginv1.ToHost_Matched{Matched: m}}
	})
}

// sessions break the contract, by SESSION.
var sessions = map[string]func(pluginv1.Plugin_SessionServer) error{
	"silent":         func(s pluginv1.Plugin_SessionServer) error { <-s.Context().Done(); return nil },
	"no description": func(s pluginv1.Plugin_SessionServer) error { return s.Send(&pluginv1.ToHost{}) },
	"bad name": func(s pluginv1.Plugin_SessionServer) error {
		return s.Send(&pluginv1.ToHost{Message: &pluginv1.ToHost_Description{Description: &pluginv1.Description{Name: "\x1b[31m", Protocol: 1}}})
	},
	"refused session": func(pluginv1.Plugin_SessionServer) error { return errors.New("not today\x1b[31m") },
	"changing": func(s pluginv1.Plugin_SessionServer) error {
		d := &pluginv1.Description{Name: "raw", Help: strconv.Itoa(os.Getpid()) + time.Now().Format(time.RFC3339Nano), Protocol: pluginv1.Protocol_PROTOCOL_UDP}
		if err := s.Send(&pluginv1.ToHost{Message: &pluginv1.ToHost_Description{Description: d}}); err != nil {
			return err
		}
		_, err := s.Recv()
		if err == nil {
			os.Exit(1)
		}
		return err
	},
	"ends":      described(func(pluginv1.Plugin_SessionServer, *pluginv1.ToPlugin) error { return io.EOF }),
	"error":     described(func(pluginv1.Plugin_SessionServer, *pluginv1.ToPlugin) error { return errors.New("out of luck") }),
	"no answer": described(func(pluginv1.Plugin_SessionServer, *pluginv1.ToPlugin) error { return nil }),
	"unasked":   with(func(m *pluginv1.ToPlugin) *pluginv1.ToHost { return &pluginv1.ToHost{Request: m.Request + 1} }),
	"empty":     with(func(*pluginv1.ToPlugin) *pluginv1.ToHost { return &pluginv1.ToHost{} }),
	"checked": with(func(*pluginv1.ToPlugin) *pluginv1.ToHost {
		return &pluginv1.ToHost{Message: &pluginv1.ToHost_Checked{}}
	}),
	"failure": with(func(*pluginv1.ToPlugin) *pluginv1.ToHost {
		return &pluginv1.ToHost{Message: &pluginv1.ToHost_Failure{Failure: "no\x1b[31m luck"}}
	}),
	"built":      builtAs(&pluginv1.Built{}),
	"built more": builtAs(&pluginv1.Built{Datagrams: []byte{1, 2}, Lengths: []uint32{1, 1}}),
	"built past": builtAs(&pluginv1.Built{Datagrams: []byte{1, 2}, Lengths: []uint32{0xFFFFFFFF}}),
	"oversized":  builtAs(&pluginv1.Built{Datagrams: make([]byte, 3<<20), Lengths: []uint32{3 << 20}}),
	"matched":    matchedAs(&pluginv1.Matched{Indexes: []uint32{1}, Ids: []uint32{1}, Tags: []uint64{1}, TagBits: []byte{1}}),
	"matched ID": matchedAs(&pluginv1.Matched{Indexes: []uint32{0}, Ids: []uint32{0}, Tags: []uint64{1}, TagBits: []byte{1}}),
	"bits":       matchedAs(&pluginv1.Matched{Indexes: []uint32{0}, Ids: []uint32{1}, Tags: []uint64{1}, TagBits: []byte{65}}),
	"twice": described(func(s pluginv1.Plugin_SessionServer, m *pluginv1.ToPlugin) error {
		a := &pluginv1.ToHost{Request: m.Request, Message: &pluginv1.ToHost_Built{Built: &pluginv1.Built{Lengths: []uint32{0}, Refusals: []*pluginv1.Refusal{{}}}}}
		return errors.Join(s.Send(a), s.Send(a))
	}),
	"garbage": described(func(s pluginv1.Plugin_SessionServer, _ *pluginv1.ToPlugin) error {
		return s.(grpc.ServerStream).SendMsg(&pluginv1.Match{Datagrams: []byte("no description")})
	}),
	"flood": described(func(s pluginv1.Plugin_SessionServer, _ *pluginv1.ToPlugin) error {
		junk := &pluginv1.ToHost{Request: 1 << 40, Message: &pluginv1.ToHost_Failure{Failure: strings.Repeat("x", 1<<20)}}
		for {
			if err := s.Send(junk); err != nil {
				return err
			}
		}
	}),
}

// unruly prints junk before it is ready, and then serves.
func unruly() {
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		fmt.Fprintln(f, `{"@message":1}`)
		fmt.Fprintln(f, strings.Repeat("long ", 100_000))
		_, _ = f.Write([]byte("\xff\xfe|\x00|\n|||\n\n"))
	}
	plugins.Serve(udp.Prober{})
}

// unready are the ways not to get ready, by HOW.
var unready = map[string]func(){
	"silent": func() { select {} },
	"talking": func() {
		for {
			fmt.Println("not yet")
			time.Sleep(time.Millisecond)
		}
	},
	"netrpc":     func() { say("1|1|unix|%s/s|netrpc|"); select {} },
	"core":       func() { say("2|1|unix|%s/s|grpc|x"); select {} },
	"no TLS":     func() { say("1|1|unix|%s/s|grpc|"); select {} },
	"short":      func() { say("1|1|unix|%s/s"); select {} },
	"elsewhere":  func() { say("1|1|unix|/run/other.sock|grpc|" + testCertificate); select {} },
	"no socket":  func() { say("1|1|unix|%s/s|grpc|" + testCertificate); select {} },
	"tcp":        func() { say("1|1|tcp|127.0.0.1:22|grpc|" + testCertificate); select {} },
	"no accept":  func() { listen(); say("1|1|unix|%s/s|grpc|" + testCertificate); select {} },
	"no service": func() { serveRaw(nil) },
	"symlink": func() {
		must(os.Symlink(os.Getenv("OTHER"), os.Getenv("PLUGIN_UNIX_SOCKET_DIR")+"/s"))
		say("1|1|unix|%s/s|grpc|" + testCertificate)
		select {}
	},
	"no speech": func() {
		l := listen()
		say("1|1|unix|%s/s|grpc|" + testCertificate)
		for {
			_, err := l.Accept()
			must(err)
		}
	},
	"hangs up": func() {
		l := listen()
		say("1|1|unix|%s/s|grpc|" + testCertificate)
		for {
			c, err := l.Accept()
			must(err)
			must(c.Close())
		}
	},
	"nonsense": func() {
		l := listen()
		say("1|1|unix|%s/s|grpc|" + testCertificate)
		for {
			c, err := l.Accept()
			must(err)
			_, err = c.Write(binary.BigEndian.AppendUint64(nil, 0xDEADBEEF))
			must(err)
		}
	},
}

// testCertificate is a certificate of nobody.
var testCertificate = func() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	return base64.RawStdEncoding.EncodeToString(der)
}()

func listen() net.Listener {
	l, err := net.Listen("unix", os.Getenv("PLUGIN_UNIX_SOCKET_DIR")+"/s")
	must(err)
	return l
}

func say(line string) {
	fmt.Println(strings.Replace(line, "%s", os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), 1))
}

// host opens the plugins that are named, has one start a child, closes them if
// told to, and waits.
func host() {
	for _, mode := range strings.Split(os.Getenv("PLUGINS"), ",") {
		c := config(nil, mode)
		c.Env = append(c.Env, os.Getenv("PASS"), "SESSION="+os.Getenv("SESSION"))
		p, err := plugins.Open(context.Background(), c)
		must(err)
		if mode == "faulty" {
			_, err := p.Build(nil, probeTo(fork))
			must(err)
		}
		if os.Getenv("THEN") == "close" {
			must(p.Close())
		}
	}
	fmt.Println("ready")
	select {}
}
