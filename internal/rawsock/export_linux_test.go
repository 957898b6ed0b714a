package rawsock

import "golang.org/x/sys/unix"

// WithoutDrivers makes a port not ask for the stamps of drivers.
func WithoutDrivers(p *Port) {
	for _, s := range p.senders {
		if s != nil {
			s.dates.driver.stop()
			s.dates.driver.unable = true
		}
	}
}

// WithoutDepartures makes a port not watch departures, as on a kernel that
// cannot.
func WithoutDepartures(p *Port) {
	p.departures.close()
	p.departures = nil
	for _, s := range p.senders {
		if s != nil {
			s.dates.departures = nil
			s.dates.poll[1].Fd = -1
		}
	}
}

// Departures returns how many packets passed the filter of departures since
// the last call.
func Departures(p *Port) (int, error) {
	s, err := unix.GetsockoptTpacketStats(p.departures.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, err
	}
	return int(s.Packets), nil
}

// Queued returns how many packets the kernel has queued for Receive since Open.
func Queued(p *Port) (n uint64) {
	p.dropMu.Lock()
	defer p.dropMu.Unlock()
	p.count()
	for _, t := range p.taps {
		n += t.queued
	}
	return n
}

// LinkKind reads the kernel's answer to what an interface is.
func LinkKind(reply []byte, index int32) (string, error) {
	kind, err := linkKind(reply, index)
	return string(kind), err
}

// Same tells whether a datagram that was seen to leave is d.
func Same(d, seen []byte) bool { return same(d, seen) }

// Watch makes a port watch departures as if it had sent.
func Watch(p *Port) error { return p.departures.start() }
