package netlab

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Inject sends whole IP datagrams from the host, routed by it. The kernel
// fills in the IPv4 header checksum, total length, and an identification of 0.
func (h *Host) Inject(datagrams ...[]byte) error {
	return h.Do(func() error {
		for _, d := range datagrams {
			if err := inject(d); err != nil {
				return err
			}
		}
		return nil
	})
}

func inject(d []byte) error {
	var family int
	var to unix.Sockaddr
	switch {
	case len(d) >= 20 && d[0]>>4 == 4:
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte(d[16:20])}
	case len(d) >= 40 && d[0]>>4 == 6:
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(d[24:40])}
	default:
		return fmt.Errorf("netlab: inject %d bytes: no IP header", len(d))
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("netlab: inject: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, d, 0, to); err != nil {
		return fmt.Errorf("netlab: inject: %w", err)
	}
	return nil
}

// InjectTo puts frames with exactly these contents on the link to a
// neighbour, as IPv6 if the first nibble is 6 and as IPv4 otherwise: truncated
// packets and nonsense arrive as they are.
func (h *Host) InjectTo(neighbour *Host, payloads ...[]byte) error {
	w, err := h.openWire(neighbour)
	if err != nil {
		return err
	}
	defer w.close()
	return w.put(payloads)
}

// Wire returns what does as [Host.InjectTo], but quickly, until the test ends.
// It serves one call at a time.
func (h *Host) Wire(neighbour *Host) (inject func(payloads ...[]byte) error) {
	h.lab.t.Helper()
	w, err := h.openWire(neighbour)
	h.lab.check(err, "wire from %s to %s", h.Name, neighbour.Name)
	h.lab.t.Cleanup(w.close)
	return func(payloads ...[]byte) error { return w.put(payloads) }
}

// wire is a packet socket on the link to a neighbour.
type wire struct {
	fd int
	to unix.SockaddrLinklayer
}

func (h *Host) openWire(neighbour *Host) (*wire, error) {
	there, err := neighbour.nl.LinkByName(h.Name)
	if err != nil {
		return nil, fmt.Errorf("netlab: %s is no neighbour of %s: %w", neighbour.Name, h.Name, err)
	}
	here, err := h.nl.LinkByName(neighbour.Name)
	if err != nil {
		return nil, fmt.Errorf("netlab: %s is no neighbour of %s: %w", neighbour.Name, h.Name, err)
	}
	w := &wire{to: unix.SockaddrLinklayer{Ifindex: here.Attrs().Index, Halen: 6}}
	copy(w.to.Addr[:], there.Attrs().HardwareAddr)
	err = h.Do(func() (err error) {
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netlab: inject: %w", err)
	}
	return w, nil
}

func (w *wire) put(payloads [][]byte) error {
	for _, p := range payloads {
		w.to.Protocol = bigEndian(unix.ETH_P_IP)
		if len(p) > 0 && p[0]>>4 == 6 {
			w.to.Protocol = bigEndian(unix.ETH_P_IPV6)
		}
		if err := unix.Sendto(w.fd, p, 0, &w.to); err != nil {
			return fmt.Errorf("netlab: inject: %w", err)
		}
	}
	return nil
}

func (w *wire) close() { _ = unix.Close(w.fd) }

// Interface returns the index of the interface that leads to a neighbour.
func (h *Host) Interface(neighbour *Host) int {
	h.lab.t.Helper()
	link, err := h.nl.LinkByName(neighbour.Name)
	h.lab.check(err, "interface %s of %s", neighbour.Name, h.Name)
	return link.Attrs().Index
}
