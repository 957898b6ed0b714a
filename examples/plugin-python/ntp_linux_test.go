package python_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// interpreter returns a Python that has what the plugin needs, for the user
// that it runs as. It skips the test if there is none.
func interpreter(t *testing.T) string {
	t.Helper()
	const needed = "import sys, grpc, grpc_tools.protoc, google.protobuf, cryptography; print(sys.executable)"
	var missing []string
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		cmd := exec.Command(name, "-c", needed)
		cmd.Dir = "/"
		if os.Geteuid() == 0 {
			// The version manager of another user cannot be run, its Python may.
			out, err := exec.Command(name, "-c", "import sys; print(sys.executable)").Output()
			if err != nil {
				missing = append(missing, fmt.Sprintf("%s: %v", name, err))
				continue
			}
			const nobody = 65534
			cmd = exec.Command(strings.TrimSpace(string(out)), "-c", needed)
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		cmd.Env = []string{}
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err == nil {
			return strings.TrimSpace(string(out))
		}
		missing = append(missing, fmt.Sprintf("%s: %v %s", name, err, stderr.String()))
	}
	t.Skip("no Python with grpcio, grpcio-tools and cryptography that the plugin's user may run: " + strings.Join(missing, "; "))
	return ""
}

// install does what the README says, and returns the path of the plugin.
func install(t *testing.T) string {
	t.Helper()
	python := interpreter(t)
	dir, err := os.MkdirTemp("", "plugin-python") // the one of t is its user's alone
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	out, err := exec.Command(python, "-m", "grpc_tools.protoc", "-I", "../../plugins/proto", "--python_out="+dir,
		"voltadomar/plugin/v1/plugin.proto").CombinedOutput()
	require.NoError(t, err, string(out))
	source, err := os.ReadFile("ntp.py")
	require.NoError(t, err)
	_, body, ok := strings.Cut(string(source), "\n")
	require.True(t, ok)
	path := filepath.Join(dir, "ntp.py")
	require.NoError(t, os.WriteFile(path, []byte("#!"+python+"\n"+body), 0o755))
	return path
}

func open(t testing.TB, path string) *plugins.Plugin {
	t.Helper()
	p, err := plugins.Open(context.Background(), plugins.Config{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// timeServer answers as a server does that has its time from elsewhere, or as
// one with a clock, or with the word that clients ask too often.
func timeServer(stratum byte, reference string) func([]byte) []byte {
	return func(request []byte) []byte {
		if len(request) < 48 || request[0] != 4<<3|3 {
			return nil
		}
		b := make([]byte, 48)
		b[0], b[1] = 4<<3|4, stratum
		binary.BigEndian.PutUint32(b[4:], 1<<16|1<<15) // root delay: 1.5 s
		binary.BigEndian.PutUint32(b[8:], 1<<14)       // root dispersion: 250 ms
		copy(b[12:16], reference)
		copy(b[24:32], request[40:48])
		return b
	}
}

// reply is the datagram with which a server answers another.
func reply(t testing.TB, datagram []byte, respond func([]byte) []byte) []byte {
	t.Helper()
	at := packet.IPv4HeaderLen
	if datagram[0]>>4 == 6 {
		at = packet.IPv6HeaderLen
	}
	data := respond(datagram[at+packet.UDPHeaderLen:])
	require.NotNil(t, data)
	u := slices.Concat(datagram[at+2:at+4], datagram[at:at+2], make([]byte, 4), data)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	var src, dst netip.Addr
	var b []byte
	var err error
	if at == packet.IPv6HeaderLen {
		src, dst = netip.AddrFrom16([16]byte(datagram[24:40])), netip.AddrFrom16([16]byte(datagram[8:24]))
		h := packet.IPv6{HopLimit: 60, Protocol: probe.UDP, Src: src, Dst: dst}
		b, err = h.Append(nil, len(u))
	} else {
		src, dst = netip.AddrFrom4([4]byte(datagram[16:20])), netip.AddrFrom4([4]byte(datagram[12:16]))
		h := packet.IPv4{TTL: 60, Protocol: probe.UDP, Src: src, Dst: dst}
		b, err = h.Append(nil, len(u))
	}
	require.NoError(t, err)
	binary.BigEndian.PutUint16(u[6:], packet.PseudoHeader(src, dst, probe.UDP, len(u)).Add(u).UDPChecksum())
	return append(b, u...)
}

// A type in another language does all that one in Go does.
func TestConformance(t *testing.T) {
	if err := plugins.Supported(); err != nil {
		t.Skip(err)
	}
	path := install(t)
	sender, receiver := open(t, path), open(t, path)
	mine := true
	probetest.Run(t, func(testing.TB) probe.Prober {
		mine = !mine
		if mine {
			return receiver
		}
		return sender
	}, probetest.Options{
		DstPort: 123, MayAllocate: true, Samples: 30,
		Reply: func(t testing.TB, d []byte) [][]byte { return [][]byte{reply(t, d, timeServer(1, "GPS\x00"))} },
	})
	require.Zero(t, sender.State().Restarts+receiver.State().Restarts)
}

func TestAnswers(t *testing.T) {
	if err := plugins.Supported(); err != nil {
		t.Skip(err)
	}
	p := open(t, install(t))
	require.Equal(t, []any{"ntp", uint16(123)}, []any{p.Name(), p.DefaultPort()})
	detailed, err := p.With(map[string]string{"detail": "true"})
	require.NoError(t, err)
	key := probe.Key{1, 2, 3}
	ask := probe.Probe{
		ID: 4711, Key: key, TTL: 64, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("203.0.113.10"),
	}
	for name, tt := range map[string]struct {
		prober  probe.Prober
		respond func([]byte) []byte
		values  []probe.Value
	}{
		"a clock":  {p, timeServer(1, "GPS\x00"), []probe.Value{{Name: "stratum", Text: "1"}, {Name: "reference", Text: "GPS"}}},
		"a server": {p, timeServer(3, "\xc6\x33\x64\x07"), []probe.Value{{Name: "stratum", Text: "3"}, {Name: "reference", Text: "198.51.100.7"}}},
		"too often": {detailed, timeServer(0, "RATE"), []probe.Value{
			{Name: "stratum", Text: "0"}, {Name: "kiss", Text: "RATE"},
			{Name: "root-delay", Text: "1500.000 ms"}, {Name: "root-dispersion", Text: "250.000 ms"},
		}},
	} {
		b, err := tt.prober.Build(nil, &ask)
		require.NoError(t, err)
		var a probe.Answer
		require.True(t, tt.prober.Match(reply(t, b, tt.respond), &a), name)
		require.Equal(t, tt.values, a.Values, name)
		require.True(t, a.Verified(&key, ask.ID))
		require.False(t, a.Verified(&probe.Key{9}, ask.ID))
	}
	ask.DstPort = 5353
	b, err := p.Build(nil, &ask)
	require.NoError(t, err)
	require.EqualValues(t, 5353, binary.BigEndian.Uint16(b[22:]))
	var a probe.Answer
	for name, data := range map[string]func([]byte) []byte{
		"the request":      slices.Clone[[]byte],
		"half an answer":   func(request []byte) []byte { return timeServer(1, "GPS\x00")(request)[:47] },
		"another identity": func(request []byte) []byte { return timeServer(1, "GPS\x00")(append(request[:40:40], "UUUUUUUU"...)) },
	} {
		require.False(t, p.Match(reply(t, b, data), &a), name)
	}
	ask.Src, ask.Dst = netip.MustParseAddr("2001:db8:ff::1"), netip.MustParseAddr("2001:db8:fe::10")
	b, err = p.Build(nil, &ask)
	require.NoError(t, err)
	options := append([]byte{probe.UDP, 1, 1, 12}, make([]byte, 12)...) // PadN
	d := slices.Insert(reply(t, b, timeServer(1, "GPS\x00")), packet.IPv6HeaderLen, options...)
	d[6] = 0 // hop-by-hop options
	binary.BigEndian.PutUint16(d[4:], uint16(len(d)-packet.IPv6HeaderLen))
	require.True(t, p.Match(d, &a))
	require.True(t, a.Verified(&key, ask.ID))
	ask.Src, ask.Dst = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.10")
	ask.Size = 105
	_, err = p.Build(nil, &ask)
	require.ErrorIs(t, err, probe.ErrProbe)
	require.ErrorContains(t, err, "size 105, want 104 to 65000 bytes in steps of 4")
	require.Zero(t, p.State().Restarts)
}

// TestTwoSites asks a time server with the plugin at a alone. What it answers
// lands at b.
func TestTwoSites(t *testing.T) {
	if err := plugins.Supported(); err != nil {
		t.Skip(err)
	}
	plugin := open(t, install(t))
	s, err := scenario.Load("two-site")
	require.NoError(t, err)
	s.Hosts[0].Services = map[uint16]func([]byte) []byte{123: timeServer(2, "\xc6\x33\x64\x07")}
	n, err := s.Start()
	require.NoError(t, err)
	defer n.Close()
	ctrl, err := volta.NewController(&volta.ControllerConfig{Resolver: n})
	require.NoError(t, err)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	meet := inproc.New()
	done := make(chan error, 3)
	go func() { done <- ctrl.Run(ctx, meet) }()
	for site, types := range map[string][]probe.Prober{"a": append(volta.DefaultProbers(), plugin), "b": nil} {
		port, err := n.Port(site)
		require.NoError(t, err)
		agent, err := volta.NewAgent(volta.AgentConfig{ID: site, Port: port, Probers: types})
		require.NoError(t, err)
		go func() { done <- agent.Run(ctx, meet) }()
	}
	defer func() {
		stop()
		for range cap(done) {
			require.NoError(t, <-done)
		}
	}()
	require.NoError(t, ctrl.WaitAgents(ctx, "a", "b"))
	for _, target := range s.Hosts[0].Addresses {
		m, err := volta.ParseCommand(fmt.Sprintf("volta a %s -n -P ntp", target))
		require.NoError(t, err)
		trace, err := ctrl.Measure(ctx, m)
		require.NoError(t, err)
		require.Len(t, trace.Hops, 5, trace.Text())
		for i, receiver := range []string{"a", "a", "b", "b", "b"} {
			require.Contains(t, trace.Text(), fmt.Sprintf("\n%d  %s %s", i+1, trace.Hops[i].Probes[0].Addr, receiver))
		}
		require.Contains(t, trace.Text(), fmt.Sprintf("\n5  %s b [stratum=2,reference=198.51.100.7]  ", target))
	}
}
