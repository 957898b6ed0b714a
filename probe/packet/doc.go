// Package packet builds and reads the headers that a traceroute meets: IPv4
// with options, IPv6 with extension headers, UDP, TCP, ICMP and ICMPv6, and
// the extensions of ICMP errors (RFC 4884) with MPLS label stacks (RFC 4950)
// and interface information (RFC 5837).
//
// Headers are plain structs, passed by value. Parse functions return a header
// and what follows it; the slices they return point into the bytes they were
// given. Append functions and methods append to a buffer and return it
// extended, as the built-in append does. Neither allocates, given a buffer
// with room. All functions are safe for concurrent use, accept any bytes, and
// report what they cannot read as [ErrTruncated] or [ErrMalformed].
//
// Parsing is lenient where real networks are: a datagram may be cut short, as
// in the quote of an ICMP error, and only its header must be whole.
package packet

import (
	"errors"
	"fmt"
)

var (
	// ErrTruncated says that the bytes end before the header does.
	ErrTruncated = errors.New("packet truncated")
	// ErrMalformed says that a field has a value that no such header has.
	ErrMalformed = errors.New("packet malformed")
	// ErrField says that a header cannot be built from the values given.
	ErrField = errors.New("packet field out of range")
)

// Errors of the parsers are made once: they must not allocate.
var (
	errIPv4Short    = fmt.Errorf("IPv4 header: %w", ErrTruncated)
	errIPv4Version  = fmt.Errorf("IPv4 header: %w: version is not 4", ErrMalformed)
	errIPv4Length   = fmt.Errorf("IPv4 header: %w: header length under 20 bytes", ErrMalformed)
	errIPv6Short    = fmt.Errorf("IPv6 header: %w", ErrTruncated)
	errIPv6Version  = fmt.Errorf("IPv6 header: %w: version is not 6", ErrMalformed)
	errIPv6Chain    = fmt.Errorf("IPv6 extension headers: %w", ErrTruncated)
	errUDPShort     = fmt.Errorf("UDP header: %w", ErrTruncated)
	errTCPShort     = fmt.Errorf("TCP header: %w", ErrTruncated)
	errTCPLength    = fmt.Errorf("TCP header: %w: header length under 20 bytes", ErrMalformed)
	errICMPShort    = fmt.Errorf("ICMP header: %w", ErrTruncated)
	errICMPNotError = fmt.Errorf("ICMP message: %w: its type is not one of the errors that quote a datagram", ErrMalformed)
	errInfoShort    = fmt.Errorf("interface information object: %w", ErrTruncated)
	errInfoAddr     = fmt.Errorf("interface information object: %w: address family is neither 1 (IPv4) nor 2 (IPv6)", ErrMalformed)
	errInfoName     = fmt.Errorf("interface information object: %w: name length is not 4 to 64 in steps of 4", ErrMalformed)
)
