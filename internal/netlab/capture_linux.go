package netlab

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Packet is one captured datagram.
type Packet struct {
	Data     []byte    // from the IP header on
	Time     time.Time // when the kernel had it; zero if it did not say
	Outgoing bool      // the host sent or forwarded it; else it arrived
	Index    int       // of the interface
}

// Capture records the IPv4 and IPv6 datagrams that pass a host's interfaces.
// Its methods may be called by any number of goroutines at a time.
type Capture struct {
	f    *os.File
	done sync.WaitGroup

	mu      sync.Mutex // guards what follows
	packets []Packet
	changed chan struct{} // closed at the next packet
}

// Capture starts to record. It ends with the test at the latest.
func (h *Host) Capture() *Capture {
	h.lab.t.Helper()
	h.awaitStamps()
	fd := -1
	err := h.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	h.lab.check(err, "capture in %s", h.Name)
	c := &Capture{f: os.NewFile(uintptr(fd), "capture in "+h.Name), changed: make(chan struct{})}
	h.lab.t.Cleanup(func() { c.Stop() })
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		// Unlike SO_TIMESTAMPNS this never gives the time of the reading.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING,
			unix.SOF_TIMESTAMPING_RX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL)}))
	h.lab.check(err, "capture in %s", h.Name)
	c.done.Go(c.run)
	return c
}

func (c *Capture) run() {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return
	}
	buf, oob := make([]byte, 65536), make([]byte, 256)
	read := func(fd uintptr) error {
		n, oobn, _, from, err := unix.Recvmsg(int(fd), buf, oob, 0)
		if err == nil {
			c.add(buf[:n], oob[:oobn], from)
		}
		return err
	}
	for {
		var got error
		err := raw.Read(func(fd uintptr) bool {
			got = read(fd)
			return !errors.Is(got, unix.EAGAIN)
		})
		if err != nil || (got != nil && !errors.Is(got, unix.EINTR) && !errors.Is(got, unix.ENETDOWN)) {
			break
		}
	}
	// What was queued when the capture was stopped belongs to it.
	_ = raw.Control(func(fd uintptr) {
		for read(fd) == nil {
		}
	})
}

func (c *Capture) add(data, oob []byte, from unix.Sockaddr) {
	ll, ok := from.(*unix.SockaddrLinklayer)
	if !ok || (ll.Protocol != bigEndian(unix.ETH_P_IP) && ll.Protocol != bigEndian(unix.ETH_P_IPV6)) {
		return
	}
	p := Packet{
		Data:     append([]byte(nil), data...),
		Outgoing: ll.Pkttype == unix.PACKET_OUTGOING,
		Index:    ll.Ifindex,
	}
	if msgs, err := unix.ParseSocketControlMessage(oob); err == nil {
		for _, m := range msgs {
			var ts unix.Timespec
			if m.Header.Type == unix.SCM_TIMESTAMPING && len(m.Data) >= int(unsafe.Sizeof(ts)) {
				ts = *(*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
				p.Time = time.Unix(ts.Unix())
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets = append(c.packets, p)
	close(c.changed)
	c.changed = make(chan struct{})
}

// Packets returns what was recorded so far.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Packet(nil), c.packets...)
}

// Wait returns what was recorded as soon as enough holds for it, and false if
// that does not happen within limit.
func (c *Capture) Wait(limit time.Duration, enough func([]Packet) bool) ([]Packet, bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		c.mu.Lock()
		packets, changed := append([]Packet(nil), c.packets...), c.changed
		c.mu.Unlock()
		if enough(packets) {
			return packets, true
		}
		select {
		case <-changed:
		case <-timer.C:
			return packets, false
		}
	}
}

// Stop ends the recording and returns all of it. It may be called again.
func (c *Capture) Stop() []Packet {
	_ = c.f.SetReadDeadline(time.Unix(1, 0))
	c.done.Wait()
	_ = c.f.Close()
	return c.Packets()
}

// bigEndian returns v so that its bytes lie in network order.
func bigEndian(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
