package grpctransport_test

import (
	"bytes"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// requireTimes checks whether times can be exchanged over a connection, and
// that messages can.
func requireTimes(t *testing.T, agent, controller transport.Conn, want bool) {
	t.Helper()
	asker, asks := agent.(transport.TimeAsker)
	teller, tells := controller.(transport.TimeTeller)
	require.Equal(t, want, asks)
	require.Equal(t, want, tells)
	if want {
		m, err := asker.AskTime(within(t))
		require.NoError(t, err)
		_, ok := teller.ToldTime(m.Exchange)
		require.True(t, ok)
	}
	require.NoError(t, agent.Send(within(t), &transport.Hello{Agent: "a"}))
	m, err := controller.Receive(within(t))
	require.NoError(t, err)
	require.Equal(t, &transport.Hello{Agent: "a"}, m)
}

// TestWhereTimesAreExchanged listens in all ways.
func TestWhereTimesAreExchanged(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  grpctransport.ServerConfig
		host string // to dial, if it is not where it listens
		want bool
	}{
		"loopback":      {grpctransport.ServerConfig{}, "", true},
		"IPv6":          {grpctransport.ServerConfig{Addr: "[::1]:0"}, "", true},
		"all addresses": {grpctransport.ServerConfig{Addr: ":0", Insecure: true}, "127.0.0.1", true},
		"all of IPv4":   {grpctransport.ServerConfig{Addr: "0.0.0.0:0", Insecure: true}, "127.0.0.1", true},
		"not wanted":    {grpctransport.ServerConfig{NoTiming: true}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			if l, err := net.Listen("tcp", "[::1]:0"); name == "IPv6" && err != nil {
				t.Skipf("no IPv6 here: %v", err)
			} else if err == nil {
				require.NoError(t, l.Close())
			}
			s := listen(t, tt.cfg)
			addr := s.Addr().String()
			if tt.host != "" {
				_, port, err := net.SplitHostPort(addr)
				require.NoError(t, err)
				addr = net.JoinHostPort(tt.host, port)
			}
			agent, controller := connect(t, s, newDialer(t, grpctransport.ClientConfig{Addr: addr}))
			requireTimes(t, agent, controller, tt.want)
		})
	}
}

// TestTimesWherePortIsTaken has another program hold the UDP port.
func TestTimesWherePortIsTaken(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	var log bytes.Buffer
	s, err := grpctransport.Listen(grpctransport.ServerConfig{
		Addr: taken.LocalAddr().String(), Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Skipf("the TCP port of that number is taken too: %v", err)
	}
	defer s.Close()
	require.Contains(t, log.String(), "no exchanges of time over UDP")
	agent, controller := connect(t, s, newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String()}))
	requireTimes(t, agent, controller, false)
}

// TestTimesOfTheConnected has one of two agents leave: the other one is told
// the time as before, each of its own exchanges alone.
func TestTimesOfTheConnected(t *testing.T) {
	s := listen(t, grpctransport.ServerConfig{})
	d := newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String()})
	stays, controllerOfStays := connect(t, s, d)
	leaves, controllerOfLeaves := connect(t, s, d)
	m, err := leaves.(transport.TimeAsker).AskTime(within(t))
	require.NoError(t, err)
	_, ok := controllerOfStays.(transport.TimeTeller).ToldTime(m.Exchange)
	require.False(t, ok, "an exchange of another agent")
	_, ok = controllerOfLeaves.(transport.TimeTeller).ToldTime(m.Exchange)
	require.True(t, ok)
	require.NoError(t, leaves.Close())
	requireTimes(t, stays, controllerOfStays, true)
}
