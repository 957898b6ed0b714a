package simnet_test

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// FuzzInject puts any bytes on a network of everything: a number of datagrams,
// each after a byte that chooses the node, one that says how long to wait and
// what to repair, and two of length. Whatever they are, the network neither
// crashes nor goes on for ever, and accounts for all of them.
func FuzzInject(f *testing.F) {
	for _, d := range []datagram{udp4, udp6, udp4.echo(), udp6.echo(), udp4.syn(80, 1), udp6.syn(80, 1), echo4.hops(1)} {
		for _, node := range []byte{0, 2, 4} {
			f.Add(script(node, d))
		}
	}
	f.Add(script(0, cut(udp4.size(200), 80)...))
	f.Add(script(0, cut(udp6.size(200), 80)...))
	f.Add(script(2, cut(udp4.size(200).from(addr("198.51.100.2")), 80)...))
	f.Add(script(4, udp4.from(addr("198.51.100.2")).hops(2), udp4.from(h4).to(addr("198.51.100.1"))))
	nine := udp4
	nine.sport, nine.dport, nine.src = 9, 9, h4
	f.Add(script(3, nine))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			s := everything()
			n := start(t, s)
			for _, site := range n.Sites() {
				drain(t, n, site)
			}
			nodes := []string{"a", "b", "inside", "h", "r1", "r2", "r3", "own", "nat4", "nat6", "wall", "mute", "silent", "p1", "p2"}
			for len(b) >= 4 {
				node, how, size := b[0], b[1], int(binary.BigEndian.Uint16(b[2:]))
				b = b[4:]
				d := append([]byte(nil), b[:min(size, len(b))]...)
				b = b[len(d):]
				if how&1 == 0 {
					repair(d)
				}
				_ = n.Inject(nodes[int(node)%len(nodes)], d)
				time.Sleep(time.Duration(how>>1) * time.Millisecond)
			}
			time.Sleep(5 * time.Minute)
			requireSettled(t, n.Stats())
		})
	})
}

// drain reads all that arrives at a site, as an agent would.
func drain(t *testing.T, n *simnet.Network, site string) {
	p, err := n.Port(site)
	require.NoError(t, err)
	go func() {
		in := make([]probe.Incoming, 8)
		for {
			if _, err := p.Receive(in); err != nil {
				return
			}
		}
	}()
}

func script(node byte, ds ...datagram) (b []byte) {
	for _, d := range ds {
		b = append(b, node, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(d.bytes())))
		b = append(b, d.bytes()...)
	}
	return b
}

// repair makes bytes a datagram with a right header, so that there is more to
// be seen than refusals.
func repair(d []byte) {
	switch {
	case len(d) >= 40 && d[0]>>4 == 6:
		binary.BigEndian.PutUint16(d[4:], uint16(len(d)-40))
	case len(d) >= 20:
		length := max(5, min(int(d[0]&15), len(d)/4))
		d[0] = 4<<4 | byte(length)
		binary.BigEndian.PutUint16(d[2:], uint16(len(d)))
		d[10], d[11] = 0, 0
		binary.BigEndian.PutUint16(d[10:], packet.Checksum(d[:length*4]))
	}
}

// FuzzScenario changes a scenario of everything in arbitrary places. Check
// never panics; what it refuses it can say why; what it accepts starts, carries
// traffic and closes.
func FuzzScenario(f *testing.F) {
	f.Add([]byte{})
	for i := range byte(50) {
		f.Add([]byte{i * 5, i, i * 3, i * 7, i + 1, i * 11, 255 - i, i, 2 * i})
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 300 {
			return
		}
		s := everything()
		for len(b) >= 3 {
			var leaves []reflect.Value
			collect(reflect.ValueOf(s).Elem(), &leaves)
			alter(leaves[int(binary.BigEndian.Uint16(b))%len(leaves)], int(b[2]))
			b = b[3:]
		}
		if err := s.Check(); err != nil {
			var e *simnet.Error
			require.True(t, errors.As(err, &e) && e.Reason != "", "%v", err)
			return
		}
		for i := range s.Links { // or packets in a loop would double for long
			s.Links[i].Duplicate = min(s.Links[i].Duplicate, 0.1)
			if s.Links[i].Back != nil {
				s.Links[i].Back.Duplicate = min(s.Links[i].Back.Duplicate, 0.1)
			}
		}
		synctest.Test(t, func(t *testing.T) {
			n := start(t, s)
			for i, site := range n.Sites() {
				drain(t, n, site)
				for round := range 4 {
					for _, d := range append(traffic(i, round), cut(udp4.size(200), 80)...) {
						require.NoError(t, n.Inject(site, d.bytes()))
					}
					time.Sleep(time.Millisecond)
				}
			}
			time.Sleep(10 * time.Millisecond)
			stats := n.Stats()
			require.GreaterOrEqual(t, stats.Sent, stats.Delivered)
		})
	})
}

// collect appends all that a scenario is made of and that can be changed.
func collect(v reflect.Value, leaves *[]reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		switch v.Interface().(type) {
		case netip.Addr, netip.Prefix:
			*leaves = append(*leaves, v)
			return
		}
		for i := range v.NumField() {
			collect(v.Field(i), leaves)
		}
	case reflect.Slice:
		*leaves = append(*leaves, v)
		for i := range v.Len() {
			collect(v.Index(i), leaves)
		}
	case reflect.Pointer:
		*leaves = append(*leaves, v)
		if !v.IsNil() {
			collect(v.Elem(), leaves)
		}
	case reflect.Map:
	default:
		*leaves = append(*leaves, v)
	}
}

// alter changes a value in one of many ways.
func alter(v reflect.Value, how int) {
	words := []string{"", "a", "b", "inside", "h", "mute", "r1", "r2", "r3", "own", "nat4", "nat6", "wall", "silent", "p1", "p2", "new", "r1 -- r2", "r2 --1ms-- new\nnew -- h", "r3 -- r2 -- r1", "h -- b", "bad name", "x.example"}
	numbers := []int64{0, 1, -1, 2, 7, 8, 20, 63, 64, 68, 255, 600, 1500, 65535, 65536, 1e6, 1e9, 5e9, 3.6e12, math.MaxInt64, math.MinInt64}
	floats := []float64{0, 1, -1, 0.5, 1e-6, 1e6, 1e-300, 1e300, math.Inf(1), math.NaN()}
	ips := append(addrs("0.0.0.0", "::", "255.255.255.255", "198.18.0.1", "198.18.1.2", "198.51.100.1", "2001:db8:99::1", "fe80::1%x", "::ffff:192.0.2.1", "ff02::1"), a4, a6, h4, h6, netip.Addr{})
	switch v.Kind() {
	case reflect.Struct:
		ip := ips[how%len(ips)]
		if v.Type() == reflect.TypeFor[netip.Addr]() {
			v.Set(reflect.ValueOf(ip))
			return
		}
		bits := []int{0, 8, 24, 31, 32, 64, 127, 128, -1}[how/len(ips)%9]
		v.Set(reflect.ValueOf(netip.PrefixFrom(ip, bits)))
	case reflect.Slice:
		switch {
		case how%4 == 0:
			v.SetZero()
		case how%4 == 1 || v.Len() == 0:
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		case how%4 == 2:
			v.Set(reflect.Append(v, v.Index(how/4%v.Len())))
		default:
			i := how / 4 % v.Len()
			v.Set(reflect.AppendSlice(v.Slice3(0, i, i), v.Slice(i+1, v.Len())))
		}
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		} else {
			v.SetZero()
		}
	case reflect.String:
		v.SetString(words[how%len(words)])
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Float64:
		v.SetFloat(floats[how%len(floats)])
	case reflect.Int, reflect.Int64:
		v.SetInt(numbers[how%len(numbers)])
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(how) << (how % 8) & (1<<v.Type().Bits() - 1))
	default:
		panic(v.Kind().String())
	}
}
