package plugins_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

func TestBasic(t *testing.T) {
	p := open(t, config(t, "udp"))
	require.Equal(t, "udp", p.Name())
	pb := probe.Probe{ID: 7, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("198.51.100.1"), DstPort: 33434, TTL: 5}
	want, err := udp.Prober{}.Build(nil, &pb)
	require.NoError(t, err)
	got, err := p.Build(nil, &pb)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
