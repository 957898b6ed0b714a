package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// InterfaceRole is what an interface had to do with the quoted datagram.
type InterfaceRole uint8

// Roles of interfaces (RFC 5837 section 4.1).
const (
	IncomingInterface InterfaceRole = iota // the datagram came in here
	IncomingComponent                      // the sub-IP component of that interface
	OutgoingInterface                      // it would have gone out here
	NextHop                                // the next hop it would have gone to
)

// Bits of the C-Type, below the role.
const (
	infoIndex = 1 << 3
	infoAddr  = 1 << 2
	infoName  = 1 << 1
	infoMTU   = 1 << 0
)

// Address families of the address sub-object (IANA).
const (
	afiIPv4 = 1
	afiIPv6 = 2
)

const maxInterfaceName = 63

// InterfaceInfo is the content of an interface information object (RFC 5837).
// What it does not say is zero, or nil.
type InterfaceInfo struct {
	Role     InterfaceRole
	HasIndex bool
	Index    uint32 // ifIndex, if HasIndex
	Addr     netip.Addr
	Name     []byte // up to 63 bytes, UTF-8, without padding
	HasMTU   bool
	MTU      uint32 // in bytes, if HasMTU
}

// ParseInterfaceInfo reads an object of [ClassInterfaceInfo].
func ParseInterfaceInfo(o Object) (InterfaceInfo, error) {
	i := InterfaceInfo{Role: InterfaceRole(o.CType >> 6)}
	b := o.Payload
	if o.CType&infoIndex != 0 {
		if len(b) < 4 {
			return i, errInfoShort
		}
		i.HasIndex, i.Index = true, binary.BigEndian.Uint32(b)
		b = b[4:]
	}
	if o.CType&infoAddr != 0 {
		if len(b) < 4 {
			return i, errInfoShort
		}
		family := binary.BigEndian.Uint16(b)
		b = b[4:]
		switch {
		case family == afiIPv4 && len(b) >= 4:
			i.Addr = netip.AddrFrom4([4]byte(b))
			b = b[4:]
		case family == afiIPv6 && len(b) >= 16:
			i.Addr = netip.AddrFrom16([16]byte(b))
			b = b[16:]
		case family == afiIPv4 || family == afiIPv6:
			return i, errInfoShort
		default:
			return i, errInfoAddr
		}
	}
	if o.CType&infoName != 0 {
		if len(b) < 1 {
			return i, errInfoShort
		}
		n := int(b[0])
		if n < 4 || n > maxInterfaceName+1 || n%4 != 0 {
			return i, errInfoName
		}
		if len(b) < n {
			return i, errInfoShort
		}
		i.Name = b[1:n:n]
		for len(i.Name) > 0 && i.Name[len(i.Name)-1] == 0 {
			i.Name = i.Name[:len(i.Name)-1]
		}
		b = b[n:]
	}
	if o.CType&infoMTU != 0 {
		if len(b) < 4 {
			return i, errInfoShort
		}
		i.HasMTU, i.MTU = true, binary.BigEndian.Uint32(b)
	}
	return i, nil
}

// Append appends the object's payload to b and returns it with the object's
// C-Type. The error is [ErrField] for a role over 3 or a name of more than 63
// bytes; b is then returned as it was.
func (i *InterfaceInfo) Append(b []byte) (payload []byte, ctype uint8, err error) {
	if i.Role > NextHop {
		return b, 0, fmt.Errorf("%w: interface role %d, want 0 to 3", ErrField, i.Role)
	}
	if len(i.Name) > maxInterfaceName {
		return b, 0, fmt.Errorf("%w: interface name of %d bytes, want at most %d", ErrField, len(i.Name), maxInterfaceName)
	}
	ctype = uint8(i.Role) << 6
	if i.HasIndex {
		ctype |= infoIndex
		b = binary.BigEndian.AppendUint32(b, i.Index)
	}
	switch {
	case i.Addr.Is4():
		ctype |= infoAddr
		a := i.Addr.As4()
		b = append(b, 0, afiIPv4, 0, 0)
		b = append(b, a[:]...)
	case i.Addr.Is6():
		ctype |= infoAddr
		a := i.Addr.As16()
		b = append(b, 0, afiIPv6, 0, 0)
		b = append(b, a[:]...)
	}
	if len(i.Name) > 0 {
		ctype |= infoName
		n := (1 + len(i.Name) + 3) / 4 * 4
		b = append(b, uint8(n))
		b = append(b, i.Name...)
		for range n - 1 - len(i.Name) {
			b = append(b, 0)
		}
	}
	if i.HasMTU {
		ctype |= infoMTU
		b = binary.BigEndian.AppendUint32(b, i.MTU)
	}
	return b, ctype, nil
}
