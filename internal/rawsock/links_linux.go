package rawsock

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// linksFor is how long it is believed what an interface is.
	linksFor = 10 * time.Second
	// linkLen has room for all that the kernel says of an interface.
	linkLen = 16 << 10
)

// lastKinds are the kinds of interfaces that give a packet, as it is, to
// hardware, another namespace or a program. Others (VLAN, bond, bridge,
// tunnel) pass it on within this host, and it may wait there. Hardware and
// loopback have no kind.
var lastKinds = map[string]bool{"": true, "veth": true, "netkit": true, "tun": true, "dummy": true, "ifb": true}

// links knows which interfaces are last ones of this host.
type links struct {
	fd    int            // a route netlink socket
	known map[int32]bool // by index
	until time.Time      // then everything is asked anew
	reply [linkLen]byte
}

func (l *links) open() (err error) {
	l.known = map[int32]bool{}
	l.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		l.fd = -1
		return fmt.Errorf("open route netlink socket: %w", err)
	}
	return nil
}

// refresh forgets what may no longer be so.
func (l *links) refresh(now time.Time) {
	if now.After(l.until) {
		clear(l.known)
		l.until = now.Add(linksFor)
	}
}

// last tells whether an interface is a last one of this host. One of which the
// kernel does not say is none.
func (l *links) last(index int32) bool {
	last, ok := l.known[index]
	if !ok {
		kind, err := l.kind(index)
		last = err == nil && lastKinds[string(kind)]
		l.known[index] = last
	}
	return last
}

// kind asks the kernel for the kind of an interface.
func (l *links) kind(index int32) ([]byte, error) {
	request := struct {
		unix.NlMsghdr
		unix.IfInfomsg
	}{
		unix.NlMsghdr{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_REQUEST},
		unix.IfInfomsg{Family: unix.AF_UNSPEC, Index: index},
	}
	request.Len = uint32(unsafe.Sizeof(request))
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&request)), request.Len)
	if err := unix.Sendto(l.fd, raw, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask for interface %d: %w", index, err)
	}
	// The answer is there when the request is sent.
	n, _, err := unix.Recvfrom(l.fd, l.reply[:], 0)
	if err != nil {
		return nil, fmt.Errorf("hear of interface %d: %w", index, err)
	}
	return linkKind(l.reply[:n], index)
}

var errNoLink = fmt.Errorf("no interface: %w", unix.ENODEV)

// linkKind reads the kind of an interface, empty if it has none.
func linkKind(reply []byte, index int32) ([]byte, error) {
	const head = unix.SizeofNlMsghdr + unix.SizeofIfInfomsg
	if len(reply) < head || binary.NativeEndian.Uint16(reply[4:]) != unix.RTM_NEWLINK ||
		int32(binary.NativeEndian.Uint32(reply[unix.SizeofNlMsghdr+4:])) != index {
		return nil, errNoLink
	}
	info := attribute(reply[head:], unix.IFLA_LINKINFO)
	kind := attribute(info, unix.IFLA_INFO_KIND)
	return bytes.TrimRight(kind, "\x00"), nil
}

// attribute returns the value of a netlink attribute, nil if there is none.
func attribute(b []byte, kind uint16) []byte {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED == kind {
			return b[unix.SizeofRtAttr:n]
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

func (l *links) close() { closeFD(l.fd) }
