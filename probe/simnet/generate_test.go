package simnet_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

func generate(t testing.TB, size simnet.Size) *simnet.Scenario {
	t.Helper()
	s, err := simnet.Generate(size)
	require.NoError(t, err)
	require.NoError(t, s.Check())
	require.Len(t, s.Sites, size.Sites)
	require.Len(t, s.Routers, size.Routers)
	require.Len(t, s.Hosts, size.Targets)
	return s
}

func TestGenerate(t *testing.T) {
	for _, size := range []simnet.Size{
		{Sites: 1, Routers: 1},
		{Sites: 3, Routers: 1, Targets: 3, Seed: 1},
		{Sites: 2, Routers: 2, Targets: 2},
		{Sites: 1, Routers: 3, Targets: 1, Seed: 1<<64 - 1},
		{Sites: 5, Routers: 33, Targets: 10, Seed: 5},
		{Sites: 20, Routers: 200, Targets: 500, Seed: 6},
	} {
		s := generate(t, size)
		require.Equal(t, s, generate(t, size), "the same seed, the same scenario")
		size.Seed++
		require.NotEqual(t, s.Links, generate(t, size).Links)
	}
}

func TestGenerateErrors(t *testing.T) {
	for want, size := range map[string]simnet.Size{
		"size.sites: 0, want 1 to 1000":            {Routers: 1},
		"size.sites: 1001, want 1 to 1000":         {Sites: 1001, Routers: 1},
		"size.routers: 0, want 1 to 10000":         {Sites: 1},
		"size.routers: 10001, want 1 to 10000":     {Sites: 1, Routers: 10001},
		"size.targets: -1, want 0 to 1000000":      {Sites: 1, Routers: 1, Targets: -1},
		"size.targets: 1000001, want 0 to 1000000": {Sites: 1, Routers: 1, Targets: 1000001},
	} {
		_, err := simnet.Generate(size)
		require.EqualError(t, err, "scenario: "+want)
		var e *simnet.Error
		require.ErrorAs(t, err, &e)
	}
}

func TestGenerateAddresses(t *testing.T) {
	s, err := simnet.Generate(simnet.Size{Sites: 2, Routers: 300, Targets: 1<<17 + 1})
	require.NoError(t, err)
	for _, site := range s.Sites {
		require.Equal(t, addrs("192.0.2.1", "2001:db8:ff::1"), site.Addresses)
	}
	require.Equal(t, addrs("198.18.0.1", "2001:db8:fe::1"), s.Hosts[0].Addresses)
	require.Equal(t, addrs("198.19.255.255", "2001:db8:fe::1:ffff"), s.Hosts[1<<17-2].Addresses)
	require.Equal(t, addrs("100.96.0.1", "2001:db8:fe::2:0"), s.Hosts[1<<17-1].Addresses)
	var all []netip.Addr
	for i, r := range s.Routers {
		require.Equal(t, []netip.Addr{nth("100.64.0.0", i+1), nth("2001:db8:fd::", i+1)}, r.Addresses)
		require.Equal(t, r.Name+".example", r.DNS)
		all = append(all, r.Addresses...)
	}
	for i := range s.Hosts {
		if i%1000 == 0 {
			require.Equal(t, fmt.Sprintf("t%d", i+1), s.Hosts[i].Name)
		}
		all = append(all, s.Hosts[i].Addresses...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	require.Len(t, slices.Compact(all), 2*(300+1<<17+1), "no address twice")
}

// nth returns the address that is n after another one.
func nth(a string, n int) netip.Addr {
	b := netip.MustParseAddr(a).AsSlice()
	binary.BigEndian.PutUint32(b[len(b)-4:], binary.BigEndian.Uint32(b[len(b)-4:])+uint32(n))
	sum, _ := netip.AddrFromSlice(b)
	return sum
}

// TestGenerateShape: the routers stay connected without any one of those that
// others hang on, delays are those of a continent or two, and some routers are
// odd.
func TestGenerateShape(t *testing.T) {
	s := generate(t, simnet.Size{Sites: 10, Routers: 200, Targets: 50, Seed: 3})
	links := map[string]map[string]bool{}
	dash := regexp.MustCompile(`^(\S+) --(\S+)-- (\S+)$`)
	for _, l := range s.Links {
		for line := range strings.Lines(l.Draw) {
			m := dash.FindStringSubmatch(strings.TrimSpace(line))
			require.NotNil(t, m, line)
			d, err := time.ParseDuration(m[2])
			require.NoError(t, err)
			require.GreaterOrEqual(t, d, 10*time.Microsecond)
			require.Less(t, d, 95*time.Millisecond)
			for _, p := range [][2]string{{m[1], m[3]}, {m[3], m[1]}} {
				if links[p[0]] == nil {
					links[p[0]] = map[string]bool{}
				}
				require.False(t, links[p[0]][p[1]], "%v twice", p)
				links[p[0]][p[1]] = true
			}
		}
	}
	require.Len(t, links, 260)
	at := map[string]bool{}
	for _, site := range s.Sites {
		require.Len(t, links[site.Name], 1)
		for router := range links[site.Name] {
			require.True(t, strings.HasPrefix(router, "edge"))
			at[router] = true
		}
	}
	require.Len(t, at, 10, "sites are apart")
	for _, r := range s.Routers {
		if strings.HasPrefix(r.Name, "edge") {
			continue
		}
		reached := map[string]bool{}
		todo := []string{"site1"}
		for len(todo) > 0 {
			at := todo[0]
			todo = todo[1:]
			if !reached[at] {
				reached[at] = true
				for n := range maps.Keys(links[at]) {
					if n != r.Name {
						todo = append(todo, n)
					}
				}
			}
		}
		require.Len(t, reached, 259, "without %s", r.Name)
	}
	silent, limited := 0, 0
	for _, r := range s.Routers {
		require.Equal(t, simnet.FlowFields(), r.ECMP.Hash)
		if r.Silent {
			silent++
		}
		if r.Errors.Rate > 0 {
			limited++
		}
	}
	require.Greater(t, silent, 1)
	require.Less(t, silent, 20)
	require.Greater(t, limited, 5)
	require.Less(t, limited, 40)
}

// TestGenerateMemory makes the largest networks that everything else has to
// cope with.
func TestGenerateMemory(t *testing.T) {
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	s, err := simnet.Generate(simnet.Size{Sites: 100, Routers: 1000, Targets: 100_000, Seed: 1})
	require.NoError(t, err)
	require.Less(t, live()-before, uint64(64<<20))
	require.NoError(t, s.Check())

	s, err = simnet.Generate(simnet.Size{Sites: 1000, Routers: 10_000})
	require.NoError(t, err)
	require.NoError(t, s.Check()) // some of which are almost at the same place
}

// TestGenerateMeasured traces over a generated network: targets are reached,
// answers land at several sites, and flows see several ways.
func TestGenerateMeasured(t *testing.T) {
	s := generate(t, simnet.Size{Sites: 8, Routers: 120, Targets: 20, Seed: 4})
	edges := map[string]string{}
	for _, r := range s.Routers {
		if strings.HasPrefix(r.Name, "edge") {
			edges[r.Addresses[0].String()], edges[r.Addresses[1].String()] = r.Name, r.Name
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var commands []string
		for i, h := range s.Hosts {
			commands = append(commands, fmt.Sprintf("site%d %v -n -q 8 --flows 8", i%8+1, h.Addresses[i%2]))
		}
		receivers, split := map[string]bool{}, 0
		answer := regexp.MustCompile(`(\S+) (site\d+)`)
		for i, text := range measure(t, s, commands...) {
			lines := strings.Split(text, "\n")[1:]
			reached, passed := false, map[string]bool{}
			for _, l := range lines {
				addresses := map[string]bool{}
				for _, m := range answer.FindAllStringSubmatch(l, -1) {
					addresses[m[1]] = true
					receivers[m[2]] = true
					if e := edges[m[1]]; e != "" {
						passed[e] = true
					}
				}
				if len(addresses) > 1 {
					split++
				}
				reached = reached || addresses[s.Hosts[i].Addresses[i%2].String()]
			}
			require.True(t, reached, text)
			require.Greater(t, len(lines), 1)
			require.LessOrEqual(t, len(passed), 2, "no edge is passed between those of source and target: %s", text)
		}
		require.Greater(t, len(receivers), 4)
		require.Positive(t, split)
	})
}
