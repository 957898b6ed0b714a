package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// Blocklist is a set of rules: addresses that no probe may be sent to. The
// zero value and nil are empty lists. Its methods are safe for concurrent use.
//
// An IPv4-mapped IPv6 address is the IPv4 address, in rules and in look-ups:
// ::/0 holds for IPv6 alone. Zones are ignored.
type Blocklist struct {
	rules atomic.Pointer[[]netip.Prefix] // sorted, none within another
}

// Set replaces all rules at once. It neither keeps nor changes the slice, whose
// prefixes may overlap, be in any order and have host bits; those that are not
// valid are left out.
func (b *Blocklist) Set(rules []netip.Prefix) {
	sorted := make([]netip.Prefix, 0, len(rules))
	for _, r := range rules {
		if r.IsValid() {
			sorted = append(sorted, canonical(r))
		}
	}
	slices.SortFunc(sorted, func(x, y netip.Prefix) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
	})
	// Two prefixes are apart or one is within the other, and that comes later.
	n := 0
	for _, r := range sorted {
		if n == 0 || !sorted[n-1].Contains(r.Addr()) {
			sorted[n] = r
			n++
		}
	}
	sorted = sorted[:n:n]
	b.rules.Store(&sorted)
}

// canonical is a rule as its look-ups need it.
func canonical(r netip.Prefix) netip.Prefix {
	if a := r.Addr(); a.Is4In6() && r.Bits() >= 96 {
		r = netip.PrefixFrom(a.Unmap(), r.Bits()-96)
	}
	return r.Masked()
}

// Len is how many rules there are, without those within another.
func (b *Blocklist) Len() int {
	if b == nil {
		return 0
	}
	if rules := b.rules.Load(); rules != nil {
		return len(*rules)
	}
	return 0
}

// Lookup returns the rule that holds for an address, without host bits; of
// several the widest. It allocates nothing, and takes as long as a binary
// search.
func (b *Blocklist) Lookup(addr netip.Addr) (rule netip.Prefix, blocked bool) {
	if b == nil {
		return netip.Prefix{}, false
	}
	all := b.rules.Load()
	if all == nil {
		return netip.Prefix{}, false
	}
	rules := *all
	addr = addr.Unmap().WithZone("")
	low, high := 0, len(rules) // the rules before low begin at addr or lower
	for low < high {
		mid := int(uint(low+high) / 2)
		if rules[mid].Addr().Compare(addr) <= 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 || !rules[low-1].Contains(addr) {
		return netip.Prefix{}, false
	}
	return rules[low-1], true
}

// maxBlocklistLine is the longest line of a list in bytes.
const maxBlocklistLine = 4096

// ParseBlocklist reads rules for [Blocklist.Set]: an address or a prefix a
// line, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32, and comments from '#'
// to the end of the line, which has at most 4096 bytes. Space around is
// ignored, and so are empty lines, zones and host bits. The error names the
// line and what is wrong with it; then there are no rules.
func ParseBlocklist(r io.Reader) ([]netip.Prefix, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxBlocklistLine+len("\r\n"))
	var rules []netip.Prefix
	number := 1
	for ; lines.Scan(); number++ {
		if len(lines.Bytes()) > maxBlocklistLine {
			return nil, tooLong(number)
		}
		text, _, _ := bytes.Cut(lines.Bytes(), []byte("#"))
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		rule, err := parseRule(string(text))
		if err != nil {
			return nil, fmt.Errorf("blocklist line %d: %w", number, err)
		}
		rules = append(rules, rule)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, tooLong(number)
	case err != nil:
		return nil, fmt.Errorf("blocklist line %d: %w", number, err)
	}
	return rules, nil
}

func tooLong(number int) error {
	return fmt.Errorf("blocklist line %d: must be at most %d bytes long", number, maxBlocklistLine)
}

// parseRule reads an address or a prefix.
func parseRule(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return canonical(p), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || strings.Contains(s, "/") { // a zone may hold one
		const most = 64
		if len(s) > most {
			s = s[:most] + "..."
		}
		return netip.Prefix{}, fmt.Errorf("%q: must be an IP address or a prefix, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32", s)
	}
	return canonical(netip.PrefixFrom(a, a.BitLen())), nil
}
