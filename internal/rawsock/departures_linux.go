package rawsock

import (
	"fmt"
	"iter"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// The kernel writes into a ring of so many frames, of so many bytes: room
	// for many chunks of probes and, besides its own data, for sightingLen
	// bytes of each.
	ringFrames = 1024
	frameLen   = 256

	blockLen = 64 << 10 // a multiple of every page size
	// Where a frame has the sockaddr_ll: struct tpacket2_hdr, aligned to 16.
	frameAddr = (int(unsafe.Sizeof(unix.Tpacket2Hdr{})) + 15) &^ 15
)

// departures is a packet socket that sees probes leave this host: the kernel
// shows packets to such sockets right before the interface's driver gets them,
// and one time is taken for all sockets. So it is what any other capture on
// the interface shows, too, to the nanosecond.
//
// The kernel writes probes into memory that it shares with us, so that reading
// takes no system call. The filter discards other packets before they are
// copied. Still the kernel duplicates the descriptor of, and stamps, every
// packet that leaves the host, whoever sends it, which takes it a fraction of a
// microsecond; so departures are watched only while there are probes.
type departures struct {
	fd    int
	on    bool // it watches
	ring  []byte
	next  int // the frame to be read next
	links links
}

// sighting is a datagram that was seen to leave an interface. Data is the
// beginning of it, valid until the next sighting is taken.
type sighting struct {
	data []byte
	at   time.Time
	last bool // the interface is a last one of this host
}

func openDepartures() (_ *departures, err error) {
	d := &departures{fd: -1, links: links{fd: -1}}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	// Protocol 0 captures nothing.
	d.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, openError("open packet socket", err)
	}
	program, _, err := filterOut()
	if err != nil {
		return nil, fmt.Errorf("filter of departures: %w", err)
	}
	if err := attach(d.fd, program); err != nil {
		return nil, fmt.Errorf("attach filter of departures: %w", err)
	}
	if err := unix.SetsockoptInt(d.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return nil, fmt.Errorf("version of packet ring: %w", err)
	}
	err = unix.SetsockoptTpacketReq(d.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq{
		Block_size: blockLen, Block_nr: ringFrames * frameLen / blockLen,
		Frame_size: frameLen, Frame_nr: ringFrames,
	})
	if err != nil {
		return nil, fmt.Errorf("make packet ring: %w", err)
	}
	d.ring, err = unix.Mmap(d.fd, 0, ringFrames*frameLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map packet ring: %w", err)
	}
	if err := receiveStamps(d.fd); err != nil {
		return nil, err
	}
	if err := d.links.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// start begins to watch, if that is not so already.
func (d *departures) start() error {
	if d.on {
		return nil
	}
	err := unix.Bind(d.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL)})
	if err != nil {
		return fmt.Errorf("bind packet socket: %w", err)
	}
	// Loopback may have gone down since stop, which would end every wait.
	_, _ = unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	d.on = true
	return nil
}

// stop ends the watch. A packet socket cannot be unbound, but watch what never
// comes: a protocol that no program speaks, on loopback.
func (d *departures) stop() {
	err := unix.Bind(d.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_802_EX1), Ifindex: loopback})
	d.on = err != nil
}

// all yields what was seen since the last time. A sighting's data is gone
// after the loop's body.
func (d *departures) all() iter.Seq[sighting] {
	return func(yield func(sighting) bool) {
		for h := d.frame(); h != nil; h = d.frame() {
			raw := unsafe.Slice((*byte)(unsafe.Pointer(h)), frameLen)
			from := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&raw[frameAddr]))
			begin := min(int(h.Net), frameLen)
			more := yield(sighting{
				data: raw[begin:min(begin+int(h.Snaplen), frameLen)],
				at:   time.Unix(int64(h.Sec), int64(h.Nsec)),
				last: d.links.last(from.Ifindex),
			})
			d.release(h)
			if !more {
				return
			}
		}
	}
}

// forget discards what was seen until now.
func (d *departures) forget(now time.Time) {
	d.links.refresh(now)
	for h := d.frame(); h != nil; h = d.frame() {
		d.release(h)
	}
}

// frame returns the next frame if the kernel has filled it.
func (d *departures) frame() *unix.Tpacket2Hdr {
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&d.ring[d.next*frameLen]))
	if atomic.LoadUint32(&h.Status)&unix.TP_STATUS_USER == 0 {
		return nil
	}
	return h
}

// release gives the frame back to the kernel.
func (d *departures) release(h *unix.Tpacket2Hdr) {
	atomic.StoreUint32(&h.Status, unix.TP_STATUS_KERNEL)
	d.next = (d.next + 1) % ringFrames
}

func (d *departures) close() {
	if d.ring != nil {
		_ = unix.Munmap(d.ring)
	}
	closeFD(d.fd)
	d.links.close()
}
