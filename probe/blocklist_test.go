package probe_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

func prefixes(t testing.TB, list string) []netip.Prefix {
	t.Helper()
	rules, err := probe.ParseBlocklist(strings.NewReader(list))
	require.NoError(t, err)
	return rules
}

func TestBlocklistLookup(t *testing.T) {
	const list = "192.0.2.0/24\n192.0.2.128/25\n192.0.2.7\n198.51.100.9/24\n203.0.113.7\n2001:db8::/32\n2001:db8:1::/48\n::ffff:198.18.0.0/112\n"
	var b probe.Blocklist
	b.Set(prefixes(t, list))
	require.Equal(t, 5, b.Len())
	for addr, rule := range map[string]string{
		"192.0.2.0": "192.0.2.0/24", "192.0.2.255": "192.0.2.0/24", "192.0.2.7": "192.0.2.0/24",
		"192.0.1.255": "", "192.0.3.0": "", "0.0.0.0": "", "255.255.255.255": "",
		"198.51.100.0": "198.51.100.0/24", "203.0.113.7": "203.0.113.7/32", "203.0.113.6": "", "203.0.113.8": "",
		"2001:db8:1::9": "2001:db8::/32", "2001:db8::1%eth0": "2001:db8::/32", "2001:db9::": "", "::": "",
		"198.18.255.1": "198.18.0.0/16", "::ffff:192.0.2.1": "192.0.2.0/24", "::ffff:192.0.2.1%a": "192.0.2.0/24",
	} {
		got, blocked := b.Lookup(netip.MustParseAddr(addr))
		require.Equal(t, rule != "", blocked, addr)
		if blocked {
			require.Equal(t, rule, got.String(), addr)
		}
	}
	_, blocked := b.Lookup(netip.Addr{})
	require.False(t, blocked)
}

func TestBlocklistEmpty(t *testing.T) {
	var none *probe.Blocklist
	var zero, empty, unset probe.Blocklist
	empty.Set(nil)
	unset.Set([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")})
	unset.Set([]netip.Prefix{{}})
	for _, b := range []*probe.Blocklist{none, &zero, &empty, &unset} {
		for _, a := range []string{"0.0.0.0", "192.0.2.1", "::", "2001:db8::1"} {
			_, blocked := b.Lookup(netip.MustParseAddr(a))
			require.False(t, blocked)
		}
		require.Zero(t, b.Len())
	}
}

func TestBlocklistOfAll(t *testing.T) {
	var b probe.Blocklist
	b.Set([]netip.Prefix{netip.MustParsePrefix("::/0")})
	_, blocked := b.Lookup(netip.MustParseAddr("ffff::"))
	require.True(t, blocked)
	_, blocked = b.Lookup(netip.MustParseAddr("::ffff:192.0.2.1"))
	require.False(t, blocked, "it is an IPv4 address")
	rules := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/0")}
	b.Set(rules)
	require.Equal(t, "192.0.2.1/0", rules[0].String(), "the slice is not touched")
	_, blocked = b.Lookup(netip.MustParseAddr("255.255.255.255"))
	require.True(t, blocked)
	_, blocked = b.Lookup(netip.MustParseAddr("::"))
	require.False(t, blocked)
}

// TestBlocklistIsAScan compares look-ups with a scan of all rules.
func TestBlocklistIsAScan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	// Few different bytes, so that prefixes meet and nest.
	draw := func() netip.Addr {
		var b [16]byte
		few := []byte{0, 0, 1, 127, 128, 255}
		for i := range b {
			b[i] = few[r.IntN(len(few))]
		}
		switch r.IntN(3) {
		case 0:
			return netip.AddrFrom4([4]byte(b[:4]))
		case 1:
			copy(b[:12], netip.MustParseAddr("::ffff:0.0.0.0").AsSlice())
		}
		return netip.AddrFrom16(b)
	}
	for range 300 {
		var rules []netip.Prefix
		for range r.IntN(40) {
			a := draw()
			bits := r.IntN(a.BitLen() + 1)
			if a.Is4In6() {
				bits = 96 + r.IntN(33)
			}
			rules = append(rules, netip.PrefixFrom(a, bits))
		}
		var b probe.Blocklist
		b.Set(rules)
		for range 200 {
			a := draw()
			var widest netip.Prefix
			for _, rule := range rules {
				if rule.Addr().Is4In6() {
					rule = netip.PrefixFrom(rule.Addr().Unmap(), rule.Bits()-96)
				}
				if rule.Contains(a.Unmap()) && (!widest.IsValid() || rule.Bits() < widest.Bits()) {
					widest = rule.Masked()
				}
			}
			got, blocked := b.Lookup(a)
			require.Equal(t, widest.IsValid(), blocked, "%v in %v", a, rules)
			require.Equal(t, widest, got, "%v in %v", a, rules)
		}
	}
}

// TestBlocklistIsReplacedAtOnce: a look-up sees one list or the other.
func TestBlocklistIsReplacedAtOnce(t *testing.T) {
	var b probe.Blocklist
	lists := [][]netip.Prefix{prefixes(t, "192.0.2.0/24\n198.51.100.0/24"), prefixes(t, "192.0.2.0/25\n203.0.113.0/24")}
	b.Set(lists[0])
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				b.Set(lists[i%2])
			}
		}
	})
	blocked := true
	for range 10000 {
		_, ok := b.Lookup(netip.MustParseAddr("192.0.2.1"))
		blocked = blocked && ok
	}
	close(stop)
	wg.Wait()
	require.True(t, blocked, "both lists block it")
}

func TestParseBlocklist(t *testing.T) {
	got := prefixes(t, "# who opted out\n\n 192.0.2.7 \r\n\t198.51.100.77/24# all of it\n2001:db8::1\n2001:db8::1/32\nfe80::1%eth0\n::ffff:203.0.113.0/120")
	var text []string
	for _, p := range got {
		text = append(text, p.String())
	}
	require.Equal(t, []string{"192.0.2.7/32", "198.51.100.0/24", "2001:db8::1/128", "2001:db8::/32", "fe80::1/128", "203.0.113.0/24"}, text)
	require.Empty(t, prefixes(t, ""))
	require.Len(t, prefixes(t, "192.0.2.1"+strings.Repeat(" ", 4096-9)+"\r\n192.0.2.2\n"), 2)

	for list, says := range map[string]string{
		"192.0.2.1\n\n192.0.2.0/33":                `blocklist line 3: "192.0.2.0/33": must be an IP address or a prefix, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32`,
		"example.com":                              `line 1: "example.com"`,
		"192.0.2.1 192.0.2.2":                      `line 1: "192.0.2.1 192.0.2.2"`,
		"192.0.2.01":                               `line 1: "192.0.2.01"`,
		"192.0.2.0/":                               `line 1: "192.0.2.0/"`,
		"fe80::%a/64":                              `line 1: "fe80::%a/64"`,
		"#\n" + strings.Repeat("x", 99):            `line 2: "` + strings.Repeat("x", 64) + `..."`,
		"#\n#" + strings.Repeat("x", 4096) + "\n":  `line 2: must be at most 4096 bytes long`,
		"#\n#" + strings.Repeat("x", 9000) + "\n1": `line 2: must be at most 4096 bytes long`,
	} {
		rules, err := probe.ParseBlocklist(strings.NewReader(list))
		require.ErrorContains(t, err, says)
		require.Nil(t, rules)
	}
	broken := errors.New("broken disk")
	_, err := probe.ParseBlocklist(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}

func FuzzParseBlocklist(f *testing.F) {
	for _, list := range []string{"192.0.2.7\n2001:db8::/32 # all\n", "::ffff:192.0.2.1/97", "::ffff:192.0.2.1/3", "fe80::1%a", "0.0.0.0/0\n::/0"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		rules, err := probe.ParseBlocklist(strings.NewReader(list))
		if err != nil {
			require.Nil(t, rules)
			return
		}
		var b probe.Blocklist
		b.Set(rules)
		require.LessOrEqual(t, b.Len(), len(rules))
		var again strings.Builder
		for _, r := range rules {
			fmt.Fprintln(&again, r)
			rule, blocked := b.Lookup(r.Addr())
			require.True(t, blocked, "%v", r)
			require.True(t, rule.Bits() <= r.Bits() && rule.Contains(r.Addr()), "%v by %v", r, rule)
		}
		require.Equal(t, rules, prefixes(t, again.String()))
	})
}

// million is a list of a million rules, apart from each other.
func million() (*probe.Blocklist, []netip.Addr) {
	r := rand.New(rand.NewPCG(3, 4))
	rules := make([]netip.Prefix, 1<<20)
	for i := range rules {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i)<<12)
		rules[i] = netip.PrefixFrom(netip.AddrFrom4(b), 21+r.IntN(12))
	}
	asked := make([]netip.Addr, 1<<12)
	for i := range asked {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], r.Uint32())
		asked[i] = netip.AddrFrom4(b)
	}
	list := &probe.Blocklist{}
	list.Set(rules)
	return list, asked
}

func BenchmarkBlocklistLookup(b *testing.B) {
	list, asked := million()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		list.Lookup(asked[i%len(asked)])
		i++
	}
}

func TestBlocklistLookupAllocatesNothing(t *testing.T) {
	list, asked := million()
	asked = append(asked, netip.MustParseAddr("2001:db8::1%eth0"), netip.MustParseAddr("::ffff:192.0.2.1"))
	i := 0
	require.Zero(t, testing.AllocsPerRun(len(asked), func() {
		list.Lookup(asked[i%len(asked)])
		i++
	}))
}
