package simnet

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
)

const (
	defaultMTU = 1500
	minMTU     = 68 // RFC 791
	maxMTU     = 65535
	maxCost    = 65535
	minQuote   = 8
	maxQuote   = 1 << 16
	minRate    = 1e-6 // a second
	maxRate    = 1e6
)

func checkAddr(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("no address, want one such as 192.0.2.1")
	case a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == broadcast:
		return fmt.Errorf("%v, want a unicast address without zone", a)
	}
	return nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return fmt.Errorf("no prefix, want one such as 192.0.2.0/24")
	case p.Addr().Is4In6() || p.Addr().IsMulticast():
		return fmt.Errorf("%v, want a unicast prefix", p)
	}
	return nil
}

// checkLinkPrefix checks one of the prefixes of a link.
func checkLinkPrefix(p netip.Prefix, others []netip.Prefix) error {
	if err := checkPrefix(p); err != nil {
		return err
	}
	if p.Bits() == p.Addr().BitLen() {
		return fmt.Errorf("%v, want room for two addresses", p)
	}
	for _, o := range others {
		if o.Addr().Is4() == p.Addr().Is4() {
			return fmt.Errorf("%v beside %v, want one of each family", p, o)
		}
	}
	first, second := pair(p)
	return cmp.Or(checkAddr(first), checkAddr(second))
}

func checkTime(d time.Duration, where string) error {
	if d < 0 || d > maxDelay {
		return wrong(where, "%v, want 0 to 1h", d)
	}
	return nil
}

func checkChance(p float64, where string) error {
	if math.IsNaN(p) || p < 0 || p > 1 {
		return wrong(where, "%v, want a probability from 0 to 1", p)
	}
	return nil
}

// checkProperties returns the properties with their defaults.
func checkProperties(p Properties, where string) (Properties, error) {
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"delay", p.Delay}, {"jitter", p.Jitter}, {"reorder-by", p.ReorderBy}} {
		if err := checkTime(t.d, where+"."+t.name); err != nil {
			return p, err
		}
	}
	for _, t := range []struct {
		name string
		p    float64
	}{{"loss", p.Loss}, {"duplicate", p.Duplicate}, {"reorder", p.Reorder}} {
		if err := checkChance(t.p, where+"."+t.name); err != nil {
			return p, err
		}
	}
	switch {
	case p.MTU != 0 && (p.MTU < minMTU || p.MTU > maxMTU):
		return p, wrong(where+".mtu", "%d, want %d to %d bytes", p.MTU, minMTU, maxMTU)
	case p.Cost < 0 || p.Cost > maxCost:
		return p, wrong(where+".cost", "%d, want 1 to %d", p.Cost, maxCost)
	}
	return p, nil
}

// normalize fills in the defaults.
func (p *Properties) normalize() {
	p.Delay = max(p.Delay, 1)
	if p.ReorderBy == 0 {
		p.ReorderBy = p.Delay
	}
	if p.MTU == 0 {
		p.MTU = defaultMTU
	}
	p.Cost = max(p.Cost, 1)
}

func checkStack(s *Stack, where string) error {
	if err := checkTime(s.Delay, where+".answer-delay"); err != nil {
		return err
	}
	r := s.Errors
	switch {
	case math.IsNaN(r.Rate) || r.Rate != 0 && (r.Rate < minRate || r.Rate > maxRate):
		return wrong(where+".errors.rate", "%v, want %v to %.0f a second, or 0 for no limit", r.Rate, minRate, maxRate)
	case r.Burst < 0:
		return wrong(where+".errors.burst", "%d, want 1 or more", r.Burst)
	case s.Quote != 0 && (s.Quote < minQuote || s.Quote > maxQuote):
		return wrong(where+".quote", "%d, want at least %d bytes, or 0 for as much as fits", s.Quote, minQuote)
	}
	for i, q := range s.Quirks {
		if int(q) >= len(quirks) {
			return wrong(fmt.Sprintf("%s.quirks[%d]", where, i), "%d, want 0 to %d", q, len(quirks)-1)
		}
	}
	return nil
}

func checkRange(r PortRange, where string) error {
	if r.First > r.Last {
		return wrong(where, "%d-%d, want the lower port first", r.First, r.Last)
	}
	return nil
}

func checkPorts(p *Ports, where string) error {
	for _, l := range []struct {
		name   string
		ranges []PortRange
	}{{"open", p.Open}, {"closed", p.Closed}, {"filtered", p.Filtered}} {
		for i, r := range l.ranges {
			if err := checkRange(r, fmt.Sprintf("%s.%s[%d]", where, l.name, i)); err != nil {
				return err
			}
		}
	}
	if int(p.Rest) >= len(portStates) {
		return wrong(where+".rest", "%d, want 0 to %d", p.Rest, len(portStates)-1)
	}
	return nil
}

func checkDNS(name, where string) error {
	if name == "" {
		return nil
	}
	ok := len(name) <= 253
	for label := range strings.SplitSeq(name, ".") {
		ok = ok && checkName(label) == nil
	}
	if !ok {
		return wrong(where+".dns", "%.80q, want a domain name such as r1.example, without a dot at its end", name)
	}
	return nil
}

func checkRules(rules []Rule, where string) error {
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", where, i)
		for _, p := range []struct {
			name   string
			prefix netip.Prefix
		}{{"from", r.From}, {"to", r.To}} {
			if p.prefix == (netip.Prefix{}) {
				continue
			}
			if err := checkPrefix(p.prefix); err != nil {
				return wrong(at+"."+p.name, "%v", err)
			}
		}
		if err := checkRange(r.Ports, at+".ports"); err != nil {
			return err
		}
		switch {
		case r.From.IsValid() && r.To.IsValid() && r.From.Addr().Is4() != r.To.Addr().Is4():
			return wrong(at, "from %v to %v, want prefixes of one family", r.From, r.To)
		case int(r.Protocol) >= len(protocols):
			return wrong(at+".protocol", "%d, want 0 to %d", r.Protocol, len(protocols)-1)
		case int(r.Action) >= len(actions):
			return wrong(at+".action", "%d, want 0 to %d", r.Action, len(actions)-1)
		case !r.Ports.All() && r.Protocol != ProtocolUDP && r.Protocol != ProtocolTCP:
			return wrong(at+".ports", "given without protocol udp or tcp")
		case r.Code != nil && r.Action != ActionReject && r.Action != ActionReset:
			return wrong(at+".code", "given without action reject or reset")
		}
	}
	return nil
}

func (c *compiler) checkRouter(r *Router, where string) error {
	if err := checkStack(&r.Stack, where); err != nil {
		return err
	}
	if err := checkRules(r.Filters, where+".filters"); err != nil {
		return err
	}
	if err := checkDNS(r.DNS, where); err != nil {
		return err
	}
	for i, a := range r.Addresses {
		if err := checkAddr(a); err != nil {
			return wrong(fmt.Sprintf("%s.addresses[%d]", where, i), "%v", err)
		}
	}
	for i, f := range r.ECMP.Hash {
		if int(f) >= len(fields) {
			return wrong(fmt.Sprintf("%s.ecmp.hash[%d]", where, i), "%d, want 0 to %d", f, len(fields)-1)
		}
	}
	switch {
	case int(r.From) >= len(errorSources):
		return wrong(where+".from", "%d, want 0 to %d", r.From, len(errorSources)-1)
	case r.Rewrite.DSCP != nil && *r.Rewrite.DSCP > 63:
		return wrong(where+".rewrite.dscp", "%d, want 0 to 63", *r.Rewrite.DSCP)
	}
	return nil
}
