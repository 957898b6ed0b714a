package netlab

import (
	"net"
	"net/netip"
	"sync"
)

// ListenTCP opens a TCP port that accepts connections and closes them, until
// the test ends. The unspecified address means all addresses of both families.
func (h *Host) ListenTCP(addr netip.AddrPort) {
	h.lab.t.Helper()
	var ln net.Listener
	err := h.Do(func() (err error) {
		ln, err = net.Listen("tcp", listenAddr(addr))
		return err
	})
	h.lab.check(err, "listen on %s in %s", addr, h.Name)
	h.serve(ln.Close, func() error {
		c, err := ln.Accept()
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// EchoUDP opens a UDP port that sends every datagram back to where it came
// from, until the test ends. The address must be a specific one, so that the
// answers carry it.
func (h *Host) EchoUDP(addr netip.AddrPort) {
	h.lab.t.Helper()
	h.ServeUDP(addr, func(data []byte) []byte { return data })
}

// ServeUDP is EchoUDP with another answer: what answer makes of a datagram's
// data, which it must not keep, or none if that is nil.
func (h *Host) ServeUDP(addr netip.AddrPort, answer func(data []byte) []byte) {
	h.lab.t.Helper()
	var pc net.PacketConn
	err := h.Do(func() (err error) {
		pc, err = net.ListenPacket("udp", addr.String())
		return err
	})
	h.lab.check(err, "UDP server on %s in %s", addr, h.Name)
	buf := make([]byte, 65536)
	h.serve(pc.Close, func() error {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return err
		}
		if data := answer(buf[:n]); data != nil {
			_, _ = pc.WriteTo(data, from)
		}
		return nil
	})
}

// serve calls step until it fails, which closing makes it do, and waits for
// that at the end of the test.
func (h *Host) serve(closing, step func() error) {
	var done sync.WaitGroup
	done.Go(func() {
		for step() == nil {
		}
	})
	h.lab.t.Cleanup(func() {
		_ = closing()
		done.Wait()
	})
}

func listenAddr(a netip.AddrPort) string {
	if a.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port()).String()
	}
	return a.String()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
