// Package contract turns probes, answers and options into the messages of the
// public contract and back, and says what either side may not believe of the
// other: a message from outside is read in full or is an error.
package contract

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Limits of the contract.
const (
	Version       = 1
	MaxBatch      = 1024    // probes or datagrams in a request
	MaxMessage    = 2 << 20 // bytes of a message
	MaxUnanswered = 16      // requests
	// MaxDefaultSize is how long, in bytes, a datagram may be whose probe has
	// no size.
	MaxDefaultSize = 1500
	maxLine        = 255 // bytes of a text of one line
)

// ErrMalformed says that a message is not as the contract wants it.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

// Protocol returns the protocol that probes with an IP protocol number are
// described with.
func Protocol(number uint8) (pluginv1.Protocol, bool) {
	switch number {
	case probe.UDP:
		return pluginv1.Protocol_PROTOCOL_UDP, true
	case probe.TCP:
		return pluginv1.Protocol_PROTOCOL_TCP, true
	case probe.ICMP, probe.ICMPv6:
		return pluginv1.Protocol_PROTOCOL_ICMP, true
	}
	return 0, false
}

// number returns the IP protocol number of a protocol's probes.
func number(p pluginv1.Protocol, v6 bool) uint8 {
	switch {
	case p == pluginv1.Protocol_PROTOCOL_UDP:
		return probe.UDP
	case p == pluginv1.Protocol_PROTOCOL_TCP:
		return probe.TCP
	case v6:
		return probe.ICMPv6
	}
	return probe.ICMP
}

// Line makes a text one line of at most n bytes, in which nothing moves a
// terminal's cursor or changes its colours.
func Line(text string, n int) string {
	if len(text) > n {
		end := n
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, text)
}

// split cuts bytes into pieces of the given lengths, which have to be those of
// all of it.
func split(b []byte, lengths []uint32, each func(i int, piece []byte) error) error {
	for i, n := range lengths {
		if uint64(n) > uint64(len(b)) {
			return malformed("the lengths are of more bytes than there are")
		}
		if err := each(i, b[:n:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	if len(b) > 0 {
		return malformed("%d bytes are left over behind %d datagrams", len(b), len(lengths))
	}
	return nil
}
