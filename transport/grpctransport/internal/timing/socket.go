package timing

import (
	"net"
	"net/netip"
	"time"
)

// socket is a UDP socket whose datagrams the kernel stamps if it can.
type socket struct {
	*net.UDPConn
	kernel *kernel
	oob    []byte
}

func newSocket(c *net.UDPConn) *socket {
	return &socket{UDPConn: c, kernel: newKernel(c), oob: make([]byte, oobLen)}
}

// arrival is a datagram that came in.
type arrival struct {
	from  netip.AddrPort
	at    time.Time // in user space
	stamp time.Time // by the kernel, zero without one
	local []byte    // tells the kernel from which address to answer
}

// receive waits for a datagram. It returns how long that is, or a length
// beyond b's for one that is longer. One goroutine may call it at a time.
func (s *socket) receive(b []byte) (n int, a arrival, err error) {
	n, oobn, _, from, err := s.ReadMsgUDPAddrPort(b, s.oob)
	if err != nil {
		return 0, a, err
	}
	a.at, a.from = time.Now(), from
	a.stamp, a.local = s.kernel.received(s.oob[:oobn])
	return n, a, nil
}

// send sends a datagram and returns when the kernel says that it left, or a
// zero time. A connected socket has no to.
func (s *socket) send(b []byte, to netip.AddrPort, local []byte) (stamp time.Time, err error) {
	s.kernel.forget()
	if _, _, err := s.WriteMsgUDPAddrPort(b, local, to); err != nil {
		return time.Time{}, err
	}
	return s.kernel.sent(b), nil
}
