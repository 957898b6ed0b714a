package rawsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

const (
	// chunkLen datagrams are sent at a time, so that their transmit stamps
	// fit the socket's error queue.
	chunkLen = 64
	// stampWait is the longest wait for the stamps of a chunk. Most arrive
	// before sendmmsg returns; a packet that waits in a queue takes longer.
	stampWait = 3 * time.Millisecond
	// After patience chunks without any stamp (an interface that makes none)
	// only each retryEvery-th chunk is waited for.
	patience, retryEvery = 4, 64
	// A full socket buffer or queue is waited for this long, this often.
	fullWait, fullTries = 2 * time.Millisecond, 10

	sendBuffer  = 4 << 20
	stampBuffer = 4 << 20

	stampFlags = unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE |
		unix.SOF_TIMESTAMPING_OPT_TSONLY
)

// sender is the raw socket of one family.
type sender struct {
	fd      int
	family  int
	stamped bool   // the kernel makes transmit stamps
	nextID  uint32 // of the next datagram's stamp
	silent  int    // chunks in a row that got no stamp

	msgs  [chunkLen]mmsghdr
	iovs  [chunkLen]unix.Iovec
	to4   [chunkLen]unix.RawSockaddrInet4
	to6   [chunkLen]unix.RawSockaddrInet6
	marks [chunkLen]mmsghdr // error-queue reads
	ctls  [chunkLen]control
	poll  [1]unix.PollFd
}

func openSender(f int) (*sender, error) {
	fd, err := rawSocket(f)
	if err != nil {
		return nil, err
	}
	s := &sender{fd: fd, family: f}
	enlarge(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, stampBuffer)
	for i := range chunkLen {
		h := &s.msgs[i].hdr
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
		if f == v4 {
			s.to4[i].Family = unix.AF_INET
			h.Name = (*byte)(unsafe.Pointer(&s.to4[i]))
			h.Namelen = unix.SizeofSockaddrInet4
		} else {
			s.to6[i].Family = unix.AF_INET6
			h.Name = (*byte)(unsafe.Pointer(&s.to6[i]))
			h.Namelen = unix.SizeofSockaddrInet6
		}
		s.marks[i].hdr.Control = (*byte)(unsafe.Pointer(&s.ctls[i]))
	}
	s.poll[0].Fd = int32(fd)
	s.stamped = s.resetStamps() == nil
	return s, nil
}

// resetStamps makes the kernel count stamp identifiers from 0 again.
func (s *sender) resetStamps() error {
	s.nextID = 0
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stampFlags); err != nil {
		return err
	}
	return unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stampFlags|unix.SOF_TIMESTAMPING_OPT_ID)
}

// Send implements [probe.Port]. A datagram's Time is the kernel's when it went
// to the interface, or the caller's around the system call if the kernel gave
// none within a few milliseconds. A refused datagram has the time of its
// refusal; its Err is what the kernel said, a [unix.Errno] such as EMSGSIZE,
// ENETUNREACH or EHOSTUNREACH, or EADDRINUSE for a source port that another
// program holds.
func (p *Port) Send(ds []probe.Outgoing) error {
	for i := range ds {
		ds[i].Time, ds[i].Err = time.Time{}, nil
	}
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	for len(ds) > 0 {
		if p.closed.Load() {
			return errClosed
		}
		n := p.sendRun(ds[:min(len(ds), chunkLen)])
		ds = ds[n:]
	}
	return nil
}

// sendRun sends the longest beginning of ds that goes through one socket, up
// to the first datagram that is refused, and returns its length.
func (p *Port) sendRun(ds []probe.Outgoing) int {
	var s *sender
	for i := range ds {
		f, err := p.admit(ds[i].Data)
		if i > 0 && (err != nil || p.senders[f] != s) {
			return s.send(ds[:i])
		}
		if err != nil {
			refuse(&ds[0], err)
			return 1
		}
		s = p.senders[f]
		s.prepare(i, ds[i].Data)
	}
	return s.send(ds)
}

var (
	errTruncated = errors.New("no whole IP header in an outgoing datagram")
	errNoIPv6    = fmt.Errorf("this host has no IPv6: %w", unix.EAFNOSUPPORT)
)

// admit tells the family of a datagram that can be sent and sees to it that
// its source port is held.
func (p *Port) admit(d []byte) (int, error) {
	switch {
	case len(d) >= 20 && d[0]>>4 == 4:
		return v4, p.held.hold(d[9], d[min(int(d[0]&0xF)*4, len(d)):])
	case len(d) >= 40 && d[0]>>4 == 6:
		if p.senders[v6] == nil {
			return v6, errNoIPv6
		}
		return v6, p.held.hold(d[6], d[40:])
	}
	return v4, errTruncated
}

func (s *sender) prepare(i int, d []byte) {
	s.iovs[i].Base = &d[0]
	s.iovs[i].SetLen(len(d))
	if s.family == v4 {
		s.to4[i].Addr = [4]byte(d[16:20])
	} else {
		s.to6[i].Addr = [16]byte(d[24:40])
	}
}

// send sends the prepared datagrams and returns how many it is done with: all
// of them, or those up to the first refused one.
func (s *sender) send(ds []probe.Outgoing) int {
	before := time.Now()
	sent, err := s.hand(len(ds))
	after := time.Now()

	// Handed over one by one, they left about evenly spread.
	step := after.Sub(before) / time.Duration(max(sent, 1))
	for i := range ds[:sent] {
		ds[i].Time, ds[i].Stamp = before.Add(time.Duration(i)*step).Round(0), probe.UserStamp
	}
	if s.stamped && sent > 0 {
		s.collect(ds[:sent], before)
	}
	for i := range ds {
		s.iovs[i].Base = nil
	}
	if err == nil {
		return sent
	}
	refuse(&ds[sent], fmt.Errorf("send to %v: %w", destination(ds[sent].Data), err))
	if s.stamped {
		// Whether a refused datagram took an identifier depends on where in
		// the kernel it was refused.
		s.stamped = s.resetStamps() == nil
	}
	return sent + 1
}

// hand gives the first n prepared datagrams to the kernel, and returns how
// many it took and why it refused the next one.
func (s *sender) hand(n int) (sent int, err error) {
	tries := 0
	for sent < n {
		k, err := sendmmsg(s.fd, s.msgs[sent:n])
		switch {
		case err == nil:
			sent += k
			tries = 0
		case errors.Is(err, unix.EAGAIN) && tries < fullTries:
			tries++
			s.wait(unix.POLLOUT, fullWait)
		case errors.Is(err, unix.ENOBUFS) && tries < fullTries:
			tries++
			s.wait(0, fullWait)
		default:
			return sent, err
		}
	}
	return sent, nil
}

// collect fills in the kernel's transmit stamps of datagrams that were sent
// after start. Stamps of earlier ones, which came too late, are recognised by
// their identifiers, and by their times where the count began anew since.
func (s *sender) collect(ds []probe.Outgoing, start time.Time) {
	first := s.nextID
	s.nextID += uint32(len(ds))
	missing, got := len(ds), 0
	deadline := time.Now().Add(stampWait)
	patient := s.silent < patience || s.silent%retryEvery == 0
	for missing > 0 {
		n := s.read(ds, first, start)
		if n > 0 {
			got += n
			missing -= n
			continue
		}
		left := time.Until(deadline)
		if n < 0 && (!patient || left <= 0 || !s.wait(0, left)) {
			break
		}
	}
	if got == 0 {
		s.silent++
	} else {
		s.silent = 0
	}
}

// read takes stamps off the error queue and returns how many were wanted, or
// -1 if there were none at all.
func (s *sender) read(ds []probe.Outgoing, first uint32, start time.Time) int {
	for i := range s.marks {
		s.marks[i].hdr.SetControllen(controlLen)
	}
	n, err := recvmmsg(s.fd, s.marks[:], unix.MSG_ERRQUEUE)
	if err != nil || n == 0 {
		return -1
	}
	got := 0
	for i := range n {
		id, at, ok := s.mark(i)
		k := id - first
		if !ok || k >= uint32(len(ds)) || ds[k].Stamp == probe.KernelStamp || at.Before(start.Round(0)) {
			continue
		}
		ds[k].Time, ds[k].Stamp = at, probe.KernelStamp
		got++
	}
	return got
}

// mark reads one message of the error queue.
func (s *sender) mark(i int) (id uint32, at time.Time, ok bool) {
	var stamped, identified bool
	for kind, data := range s.ctls[i].all(int(s.marks[i].hdr.Controllen)) {
		switch {
		case kind == (cmsgKind{unix.SOL_SOCKET, unix.SCM_TIMESTAMPING}):
			at, stamped = kernelTime(data)
		case kind == extendedError[s.family] && len(data) >= int(unsafe.Sizeof(unix.SockExtendedErr{})):
			e := (*unix.SockExtendedErr)(unsafe.Pointer(&data[0]))
			id, identified = e.Data, e.Origin == unix.SO_EE_ORIGIN_TIMESTAMPING
		}
	}
	return id, at, stamped && identified
}

var extendedError = [2]cmsgKind{
	v4: {unix.SOL_IP, unix.IP_RECVERR},
	v6: {unix.SOL_IPV6, unix.IPV6_RECVERR},
}

// wait waits for events, or with 0 for an entry of the error queue, or for
// limit. It tells whether they came.
func (s *sender) wait(events int16, limit time.Duration) bool {
	s.poll[0].Events, s.poll[0].Revents = events, 0
	ts := unix.NsecToTimespec(int64(limit))
	n, err := unix.Ppoll(s.poll[:], &ts, nil)
	return n > 0 || errors.Is(err, unix.EINTR)
}

func refuse(d *probe.Outgoing, err error) {
	d.Time, d.Stamp, d.Err = time.Now().Round(0), probe.UserStamp, err
}

func destination(d []byte) netip.Addr {
	if d[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(d[16:20]))
	}
	return netip.AddrFrom16([16]byte(d[24:40]))
}

// sourcePort returns the port that a UDP or TCP header starts with.
func sourcePort(transport []byte) uint16 { return binary.BigEndian.Uint16(transport) }
