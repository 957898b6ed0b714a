package rawsock

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

const (
	// batchLen datagrams are received at a time.
	batchLen = 64
	// datagramLen is how much of a datagram is captured, in bytes: any ICMP
	// error and any answer to a probe over an ordinary link fits.
	datagramLen = 2048

	captureBuffer = 8 << 20
)

// tap is the packet socket of one family, with buffers for one batch.
type tap struct {
	fd   int
	msgs [batchLen]mmsghdr
	iovs [batchLen]unix.Iovec
	ctls [batchLen]control
	data [batchLen][datagramLen]byte

	queued  uint64        // by the kernel, as far as counted; guarded by dropMu
	taken   uint64        // by Receive
	handled atomic.Uint64 // of these, what the caller is done with
}

func openTap(f int) (_ *tap, err error) {
	// Protocol 0 captures nothing until the filter is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, openError("open packet socket", err)
	}
	defer func() {
		if err != nil {
			closeFD(fd)
		}
	}()
	protocol, filter := uint16(unix.ETH_P_IP), filter4
	if f == v6 {
		protocol, filter = unix.ETH_P_IPV6, filter6
	}
	program, _, err := filter()
	if err != nil {
		return nil, fmt.Errorf("%s capture filter: %w", names[f], err)
	}
	if err := attach(fd, program); err != nil {
		return nil, fmt.Errorf("attach %s capture filter: %w", names[f], err)
	}
	enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, captureBuffer)
	if err := receiveStamps(fd); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(protocol)}); err != nil {
		return nil, fmt.Errorf("bind packet socket: %w", err)
	}
	t := &tap{fd: fd}
	for i := range batchLen {
		t.iovs[i].Base = &t.data[i][0]
		t.iovs[i].SetLen(datagramLen)
		h := &t.msgs[i].hdr
		h.Iov = &t.iovs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&t.ctls[i]))
	}
	return t, nil
}

// receiveStamps makes the kernel stamp what a packet socket gets.
func receiveStamps(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING,
		unix.SOF_TIMESTAMPING_RX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE)
	if err != nil {
		return fmt.Errorf("receive stamps of packet socket: %w", err)
	}
	return nil
}

// attach sets the filter of a socket.
func attach(fd int, program []bpf.RawInstruction) error {
	filter := make([]unix.SockFilter, len(program))
	for i, ins := range program {
		filter[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// networkOrder returns v so that its bytes lie in network order.
func networkOrder(v uint16) uint16 {
	b := [2]byte{byte(v >> 8), byte(v)}
	return *(*uint16)(unsafe.Pointer(&b))
}

// Receive implements [probe.Port]. Of a datagram longer than 2 KiB it fills in
// the beginning. Time is the kernel's, of when the interface's driver handed
// the datagram over, as any capture on that interface shows it. Of TCP that
// comes from this very kernel, such as another container's, it is some
// microseconds later, for there each capture has a time of its own.
func (p *Port) Receive(ds []probe.Incoming) (int, error) {
	p.receiveMu.Lock()
	defer p.receiveMu.Unlock()
	for {
		if p.closed.Load() {
			return 0, errClosed
		}
		p.settle()
		if len(ds) == 0 {
			return 0, nil
		}
		for range p.taps {
			t := p.taps[p.turn]
			p.turn = (p.turn + 1) % len(p.taps)
			n, err := t.receive(ds, &p.local)
			if n > 0 || err != nil {
				return n, err
			}
		}
		for i := range p.poll {
			p.poll[i].Revents = 0
		}
		p.settle() // what was taken was not for this host
		if _, err := unix.Ppoll(p.poll, nil, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("wait for answers: %w", err)
		}
	}
}

// settle notes that the caller is done with all that was taken.
func (p *Port) settle() {
	for _, t := range p.taps {
		t.handled.Store(t.taken)
	}
}

// receive fills ds with what waits and is addressed to this host.
func (t *tap) receive(ds []probe.Incoming, local *localCache) (int, error) {
	ms := t.msgs[:min(len(ds), batchLen)]
	for i := range ms {
		ms[i].hdr.SetControllen(controlLen)
	}
	got, err := recvmmsg(t.fd, ms, 0)
	if err != nil {
		// The others are states that pass: nothing there, or an interface
		// that went down.
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENOBUFS) {
			return 0, nil
		}
		return 0, fmt.Errorf("receive answers: %w", err)
	}
	t.taken += uint64(got)
	now := time.Now()
	n := 0
	for i := range got {
		data := t.data[i][:min(ms[i].n, datagramLen)]
		if !local.has(outerDestination(data), now) {
			continue
		}
		ds[n] = probe.Incoming{Data: data, Time: now.Round(0), Stamp: probe.UserStamp}
		for kind, c := range t.ctls[i].all(int(ms[i].hdr.Controllen)) {
			if kind != (cmsgKind{unix.SOL_SOCKET, unix.SCM_TIMESTAMPING}) {
				continue
			}
			if at, ok := kernelTime(c); ok {
				ds[n].Time, ds[n].Stamp = at, probe.KernelStamp
			}
		}
		n++
	}
	return n, nil
}

func outerDestination(d []byte) netip.Addr {
	switch {
	case len(d) >= 20 && d[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(d[16:20]))
	case len(d) >= 40 && d[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(d[24:40]))
	}
	return netip.Addr{}
}
