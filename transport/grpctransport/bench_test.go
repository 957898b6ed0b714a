package grpctransport_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// BenchmarkAnswers is the way of captured answers from an agent to its
// controller, in messages of so many.
func BenchmarkAnswers(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := &transport.Answers{Answers: make([]probe.Answer, n)}
			for i := range m.Answers {
				m.Answers[i] = probe.Answer{
					ID: uint16(i), Tag: 1 << 50, TagBits: 16, Protocol: probe.UDP, Kind: probe.TimeExceeded,
					Dst: netip.MustParseAddr("192.0.2.1"), Src: netip.MustParseAddr("198.51.100.1"), From: netip.MustParseAddr("203.0.113.1"),
					ICMPType: 11, TTL: 60, QuotedTTL: 1, Time: time.Now(), Stamp: probe.KernelStamp,
				}
			}
			flow(b, m)
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "answers/s")
		})
	}
}

// BenchmarkSent is the way of small reports.
func BenchmarkSent(b *testing.B) {
	m := &transport.Sent{Session: 1, Source: netip.MustParseAddr("192.0.2.1"), Probes: make([]transport.SentProbe, 16)}
	for i := range m.Probes {
		m.Probes[i] = transport.SentProbe{ID: uint16(i), Time: time.Now(), Stamp: probe.KernelStamp}
	}
	flow(b, m)
}

// BenchmarkRoundTrip is a message each way, one after the other.
func BenchmarkRoundTrip(b *testing.B) {
	s := listen(b, grpctransport.ServerConfig{})
	agent, controller := connect(b, s, newDialer(b, grpctransport.ClientConfig{Addr: s.Addr().String()}))
	go func() {
		for {
			m, err := controller.Receive(b.Context())
			if err != nil || controller.Send(b.Context(), &transport.Cancel{Session: m.(*transport.Failed).Session}) != nil {
				return
			}
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, agent.Send(b.Context(), &transport.Failed{}))
		_, err := agent.Receive(b.Context())
		require.NoError(b, err)
	}
}

// flow sends m as often as the benchmark asks, and waits until the last one
// arrived.
func flow(b *testing.B, m transport.Message) {
	s := listen(b, grpctransport.ServerConfig{})
	agent, controller := connect(b, s, newDialer(b, grpctransport.ClientConfig{Addr: s.Addr().String()}))
	last := make(chan struct{})
	go func() {
		defer close(last)
		for {
			m, err := controller.Receive(b.Context())
			if _, ok := m.(*transport.Failed); ok || err != nil {
				return
			}
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		if err := agent.Send(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, agent.Send(b.Context(), &transport.Failed{}))
	<-last
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
