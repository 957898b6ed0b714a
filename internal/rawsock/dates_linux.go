package rawsock

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

const (
	// dateWait is the longest wait for the times of a chunk. Most are there
	// before sendmmsg returns; a packet that waits in a queue takes longer.
	dateWait = 3 * time.Millisecond
	// After patience chunks without one (unrecognised, on an interface that
	// makes none) only each retryEvery-th chunk is waited for.
	patience, retryEvery = 4, 64
	// After so many full chunks in a row that were all seen to leave, drivers'
	// stamps are not asked for: whoever sends at this pace gains a fifth.
	longRun = 16
)

// origin is where a transmit time comes from, the better the greater. See
// [Port.Send].
type origin uint8

const (
	fromUser   origin = iota
	fromUpper         // seen to leave an interface that is not a last one
	fromDriver        // stamped by a driver
	fromLast          // seen to leave a last interface
)

// stamp returns what results are told of the origin.
func (o origin) stamp() probe.Stamp {
	switch o {
	case fromUser:
		return probe.UserStamp
	case fromDriver:
		return probe.DriverStamp
	}
	return probe.KernelStamp
}

// dater finds out when the datagrams of one sender left.
type dater struct {
	departures *departures // nil if they cannot be watched
	driver     driverStamps

	best   [chunkLen]origin // of each datagram's time
	silent int              // chunks in a row without a time of those origins that end the wait
	run    int              // full chunks in a row that were all seen to leave a last interface
	poll   [2]unix.PollFd
}

func (d *dater) init(fd, f int, departures *departures) {
	d.driver.init(fd, f)
	d.departures = departures
	// Stamps in an error queue are reported without being asked for.
	d.poll[0].Fd, d.poll[1].Fd = int32(fd), -1
	if departures != nil {
		d.poll[1] = unix.PollFd{Fd: int32(departures.fd), Events: unix.POLLIN}
	}
}

// expect says that a chunk is about to be sent.
func (d *dater) expect(now time.Time) {
	if d.departures != nil {
		d.departures.forget(now)
	}
	switch driver := &d.driver; {
	case d.run < longRun && !driver.on:
		driver.start()
	case d.run >= longRun && driver.on:
		driver.stop()
	}
}

// refused says that the kernel refused a datagram. Whether that one took a
// number depends on where in the kernel it was refused, so they start anew.
func (d *dater) refused() {
	if d.driver.on {
		d.driver.start()
	}
}

// collect fills in the kernel's times of datagrams that were sent after start.
func (d *dater) collect(ds []probe.Outgoing, start time.Time) {
	if d.departures == nil && d.driver.unable {
		return
	}
	best := d.best[:len(ds)]
	clear(best)
	first := d.driver.sent(len(ds))
	deadline := time.Now().Add(dateWait)
	patient := d.silent < patience || d.silent%retryEvery == 0
	for d.watch(ds); slices.Min(best) < fromLast; {
		d.stamps(ds, first, start)
		// What a driver has stamped was seen before, or never will be.
		d.watch(ds)
		left := time.Until(deadline)
		if slices.Min(best) >= fromDriver || !patient || left <= 0 || !d.wait(left) {
			break
		}
	}
	d.silent++
	if slices.Max(best) >= fromDriver {
		d.silent = 0
	}
	d.run++
	if len(ds) < chunkLen || slices.Min(best) < fromLast {
		d.run = 0
	}
	if d.driver.unread >= maxUnread {
		for range d.driver.all() {
		}
	}
}

// watch takes the departures that were seen.
func (d *dater) watch(ds []probe.Outgoing) {
	if d.departures == nil {
		return
	}
	for seen := range d.departures.all() {
		from := fromUpper
		if seen.last {
			from = fromLast
		}
		d.match(ds, seen, from)
	}
}

// match dates the datagram that was seen, if it is one of ds. Those that are
// alike are seen in the order of sending.
func (d *dater) match(ds []probe.Outgoing, seen sighting, from origin) {
	for k := range ds {
		if d.best[k] < from && same(ds[k].Data, seen.data) {
			d.date(ds, k, seen.at, from)
			return
		}
	}
}

// stamps takes the drivers' stamps. Those of datagrams before ds, which came
// too late, are recognised by their numbers, and by their times where the
// count began anew since.
func (d *dater) stamps(ds []probe.Outgoing, first uint32, start time.Time) {
	for number, at := range d.driver.all() {
		if k := number - first; k < uint32(len(ds)) && !at.Before(start.Round(0)) {
			d.date(ds, int(k), at, fromDriver)
		}
	}
}

// date sets a datagram's time unless it has one from a better origin.
func (d *dater) date(ds []probe.Outgoing, k int, at time.Time, from origin) {
	if from > d.best[k] {
		d.best[k] = from
		ds[k].Time, ds[k].Stamp = at, from.stamp()
	}
}

// wait waits for departures or stamps, no longer than limit. It tells whether
// there are some.
func (d *dater) wait(limit time.Duration) bool {
	d.poll[0].Revents, d.poll[1].Revents = 0, 0
	ts := unix.NsecToTimespec(int64(limit))
	n, err := unix.Ppoll(d.poll[:], &ts, nil)
	return n > 0 || errors.Is(err, unix.EINTR)
}

// sameLen is how many bytes after the IP header are compared.
const sameLen = 32

// same tells whether a datagram was seen. What the way out may change does
// not matter: TTL, TOS, source address, options, an IPv4 identification of 0.
func same(d, seen []byte) bool {
	if len(seen) == 0 || d[0]>>4 != seen[0]>>4 {
		return false
	}
	if d[0]>>4 == 6 {
		return len(seen) >= 40 && d[6] == seen[6] && [16]byte(d[24:40]) == [16]byte(seen[24:40]) &&
			sameStart(d[40:], seen[40:])
	}
	if len(seen) < 20 || d[9] != seen[9] || [4]byte(d[16:20]) != [4]byte(seen[16:20]) {
		return false
	}
	if id := [2]byte(d[4:6]); id != [2]byte{} && id != [2]byte(seen[4:6]) {
		return false
	}
	return sameStart(headerless(d), headerless(seen))
}

// headerless returns what follows the header of an IPv4 datagram.
func headerless(d []byte) []byte { return d[min(int(d[0]&0xF)*4, len(d)):] }

func sameStart(a, b []byte) bool {
	return bytes.Equal(a[:min(len(a), sameLen)], b[:min(len(b), sameLen)])
}
