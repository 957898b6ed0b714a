package grpctransport

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport/internal/timing"
)

const (
	// versionKey is the header by which an agent knows a controller.
	versionKey = "voltadomar-protocol"
	// timingKey is the header that offers exchanges of time over UDP.
	timingKey = "voltadomar-timing-bin"
)

// serveTiming opens the UDP port beside the listener's, or returns nil.
func serveTiming(cfg *ServerConfig, beside net.Addr) *timing.Server {
	tcp, ok := beside.(*net.TCPAddr)
	if cfg.NoTiming || !ok {
		return nil
	}
	network := "udp"
	if tcp.IP.To4() != nil {
		network = "udp4"
	}
	c, err := net.ListenUDP(network, &net.UDPAddr{IP: tcp.IP, Port: tcp.Port, Zone: tcp.Zone})
	if err != nil {
		cfg.Logger.Warn("no exchanges of time over UDP", "error", err)
		return nil
	}
	return timing.Serve(c)
}

// tellingConn is a [transport.TimeTeller].
type tellingConn struct {
	*controllerConn
	member *timing.Member
}

// ToldTime implements [transport.TimeTeller].
func (c *tellingConn) ToldTime(exchange uint64) (transport.Told, bool) {
	s, ok := c.member.Served(exchange)
	return transport.Told{Received: s.Received, Sent: s.Sent, Slewed: s.Slewed}, ok
}

// admit returns a connection as the controller gets it, what its agent has to
// know, and what is to be done at its end.
func (s *Server) admit(c *controllerConn) (transport.Conn, metadata.MD, func()) {
	header := metadata.Pairs(versionKey, "1")
	if s.timing == nil {
		return c, header, func() {}
	}
	m := s.timing.Admit()
	offer := m.Offer()
	header.Set(timingKey, string(offer.Encode()))
	return &tellingConn{c, m}, header, m.Leave
}

// dialTiming takes the controller's offer, or returns nil if there is none.
// The controller is asked where the stream leads.
func dialTiming(ctx context.Context, header metadata.MD) *timing.Client {
	values := header.Get(timingKey)
	controller, ok := peer.FromContext(ctx)
	if !ok || len(values) != 1 {
		return nil
	}
	addr, isTCP := controller.Addr.(*net.TCPAddr)
	offer, isOffer := timing.DecodeOffer([]byte(values[0]))
	if !isTCP || !isOffer {
		return nil
	}
	c, err := timing.Dial(addr.AddrPort().Addr(), offer)
	if err != nil {
		return nil
	}
	return c
}

// askingConn is a [transport.TimeAsker].
type askingConn struct {
	*agentConn
	times *timing.Client
}

// AskTime implements [transport.TimeAsker].
func (c *askingConn) AskTime(ctx context.Context) (*transport.Timing, error) {
	if err := c.ended(); err != nil {
		return nil, err
	}
	s, err := c.times.Exchange(ctx)
	if errors.Is(err, timing.ErrClosed) {
		err = transport.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	return &transport.Timing{Exchange: s.Exchange, Sent: s.Sent, Received: s.Received, Slewed: s.Slewed}, nil
}
