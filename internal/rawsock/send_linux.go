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
	// chunkLen datagrams are sent at a time, so that there is room for their
	// transmit times in the kernel.
	chunkLen = 64
	// A full socket buffer or queue is waited for this long, this often.
	fullWait, fullTries = 2 * time.Millisecond, 10

	sendBuffer = 4 << 20

	// Departures are watched for this long after a chunk, or up to twice.
	restAfter = 5 * time.Second
)

// sender is the raw socket of one family.
type sender struct {
	fd     int
	family int
	dates  dater

	msgs [chunkLen]mmsghdr
	iovs [chunkLen]unix.Iovec
	to4  [chunkLen]unix.RawSockaddrInet4
	to6  [chunkLen]unix.RawSockaddrInet6
}

func openSender(f int, d *departures) (*sender, error) {
	fd, err := rawSocket(f)
	if err != nil {
		return nil, err
	}
	s := &sender{fd: fd, family: f}
	enlarge(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
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
	}
	s.dates.init(fd, f, d)
	return s, nil
}

// Send implements [probe.Port]. A datagram's Time is the kernel's, the first of
// these that there is within a few milliseconds:
//
//   - When it was handed to the driver of the interface by which it leaves
//     this host, as any capture on that interface shows it:
//     [probe.KernelStamp].
//   - When that driver gave it to the hardware, 0.5 to 20 µs later: of what
//     cannot be recognised there, because it went through a tunnel, was
//     encrypted, or rewritten by a firewall. [probe.DriverStamp].
//   - When it was handed to a tunnel or the like, where the driver makes no
//     stamps, as a capture on the tunnel shows it: it may have waited
//     afterwards. [probe.KernelStamp].
//
// Else it is the caller's around the system call: [probe.UserStamp]. A refused
// datagram has the time of its refusal; its Err is what the kernel said, a
// [unix.Errno] such as EMSGSIZE, ENETUNREACH or EHOSTUNREACH, or EADDRINUSE for
// a source port that another program holds.
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
		p.watch()
		n := p.sendRun(ds[:min(len(ds), chunkLen)])
		ds = ds[n:]
	}
	return nil
}

// watch sees to it that departures are watched, until nothing was sent for a
// while.
func (p *Port) watch() {
	p.chunks++
	if p.departures == nil || p.departures.on {
		return
	}
	if err := p.departures.start(); err != nil {
		p.log.Debug("departures cannot be watched", "error", err)
		return
	}
	chunks := p.chunks
	p.resting.Go(func() { p.rest(chunks) })
}

// rest ends the watch when no chunk was sent for restAfter.
func (p *Port) rest(chunks uint64) {
	tick := time.NewTicker(restAfter)
	defer tick.Stop()
	for watching := true; watching; {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		p.sendMu.Lock()
		if p.chunks == chunks && !p.closed.Load() {
			p.departures.stop()
			watching = false
		}
		chunks = p.chunks
		p.sendMu.Unlock()
	}
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
	s.dates.expect(before)
	sent, err := s.hand(len(ds))
	after := time.Now()

	// Handed over one by one, they left about evenly spread.
	step := after.Sub(before) / time.Duration(max(sent, 1))
	for i := range ds[:sent] {
		ds[i].Time, ds[i].Stamp = before.Add(time.Duration(i)*step).Round(0), probe.UserStamp
	}
	if sent > 0 {
		s.dates.collect(ds[:sent], before)
	}
	for i := range ds {
		s.iovs[i].Base = nil
	}
	if err == nil {
		return sent
	}
	refuse(&ds[sent], fmt.Errorf("send to %v: %w", destination(ds[sent].Data), err))
	s.dates.refused()
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
		case (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS)) && tries < fullTries:
			tries++
			// Not by polling, which stamps in the error queue would end.
			time.Sleep(fullWait)
		default:
			return sent, err
		}
	}
	return sent, nil
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
