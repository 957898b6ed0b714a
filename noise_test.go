package volta_test

import (
	"math/rand/v2"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// noise returns datagrams of three kinds: random bytes, echo requests, and
// ICMP errors cut short anywhere that quote a probe of nobody.
func noise(lab *netlab.TwoSites, seed uint64) [][]byte {
	r := rand.New(rand.NewPCG(seed, 0))
	var out [][]byte
	for i := range 16 {
		b := make([]byte, 20+r.IntN(200))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		switch i % 4 {
		case 1:
			b = icmpTo(lab, 8, b)
		case 2, 3:
			quote, err := udp.Prober{}.Build(nil, &probe.Probe{
				ID: uint16(10000 + r.IntN(10000)), Src: lab.Anycast4, Dst: lab.Target4, DstPort: 33434, TTL: 1,
			})
			if err != nil {
				panic(err)
			}
			b = icmpTo(lab, 11, quote)
			b = b[:20+r.IntN(len(b)-20)]
		}
		out = append(out, b)
	}
	return out
}

// icmpTo wraps a body into an ICMP message to the anycast address.
func icmpTo(lab *netlab.TwoSites, kind byte, body []byte) []byte {
	m := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, body...)
	sum := ^onesSum(0, m)
	m[2], m[3] = byte(sum>>8), byte(sum)
	n := 20 + len(m)
	h := []byte{0x45, 0, byte(n >> 8), byte(n), 0, 1, 0, 0, 64, 1, 0, 0}
	h = append(h, lab.Hops4[0].AsSlice()...)
	h = append(h, lab.Anycast4.AsSlice()...)
	sum = ^onesSum(0, h)
	h[10], h[11] = byte(sum>>8), byte(sum)
	return append(h, m...)
}
