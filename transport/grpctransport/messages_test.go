package grpctransport

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// Agents that only name their types are understood, and controllers that know
// no more than names get them.
func TestHelloOfAnotherVersion(t *testing.T) {
	m, err := decodeAgent(&voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Hello{Hello: &voltadomarv1.Hello{
		Agent: "old", Probers: []string{"udp", "icmp"},
	}}})
	require.NoError(t, err)
	require.Equal(t, &transport.Hello{Agent: "old", Types: []probe.Type{{Name: "udp"}, {Name: "icmp"}}}, m)
	require.Equal(t, []string{"udp", "dns"}, encodeHello(&transport.Hello{Types: []probe.Type{{Name: "udp"}, {Name: "dns", Help: "x"}}}).GetProbers())
}

// What is passed on has a length that both sides keep to.
func TestForwardedDatagramsAreBounded(t *testing.T) {
	for n, ok := range map[int]bool{0: true, 1500: true, 1501: false} {
		captured := &voltadomarv1.Unread{Datagrams: []*voltadomarv1.Captured{{Data: make([]byte, n)}}}
		_, err := decodeAgent(&voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Unread{Unread: captured}})
		require.Equal(t, ok, err == nil)
		read := &voltadomarv1.Read{Datagrams: []*voltadomarv1.Reference{{Data: make([]byte, n)}}}
		_, err = decodeController(&voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Read{Read: read}})
		require.Equal(t, ok, err == nil)
		if !ok {
			require.ErrorContains(t, err, "a datagram of 1501 bytes: must be at most 1500")
		}
	}
}
