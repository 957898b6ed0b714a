package volta_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// tamperedPort changes what its port captures.
type tamperedPort struct {
	probe.Port
	tamper func(d probe.Incoming) []probe.Incoming

	mu   sync.Mutex // guards held
	held []probe.Incoming
}

func (p *tamperedPort) Receive(ds []probe.Incoming) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.held) == 0 {
		n, err := p.Port.Receive(ds)
		if err != nil {
			return 0, err
		}
		for _, d := range ds[:n] {
			d.Data = append([]byte(nil), d.Data...)
			p.held = append(p.held, p.tamper(d)...)
		}
	}
	n := copy(ds, p.held)
	p.held = p.held[n:]
	return n, nil
}

// atB puts a tampered port in front of site b.
func atB(tamper func(probe.Incoming) []probe.Incoming) func(string, probe.Port) probe.Port {
	return func(site string, p probe.Port) probe.Port {
		if site != "b" {
			return p
		}
		return &tamperedPort{Port: p, tamper: tamper}
	}
}

// TestTamperedAnswers shows the verdict on every sort of bad answer.
func TestTamperedAnswers(t *testing.T) {
	forge := func(change func(b []byte)) func(probe.Incoming) []probe.Incoming {
		return func(d probe.Incoming) []probe.Incoming {
			bad := d
			bad.Data = append([]byte(nil), d.Data...)
			change(bad.Data)
			return []probe.Incoming{bad, d}
		}
	}
	const quote = 20 + 8 // where the quoted IP header of an answer begins
	for _, tt := range []struct {
		name   string
		tamper func(probe.Incoming) []probe.Incoming
		check  func(t *testing.T, c result.Counts)
	}{
		{"duplicated", forge(func([]byte) {}), func(t *testing.T, c result.Counts) { require.InDelta(t, 9, c.Duplicate, 1) }},
		{"corrupted", forge(func(b []byte) { b[quote+1] ^= 0x10 }), func(t *testing.T, c result.Counts) { require.InDelta(t, 9, c.Unverified, 1) }},
		{"forged", forge(func(b []byte) {
			// Another tag in the quoted UDP checksum and payload, and a right ICMP checksum.
			b[quote+20+6] ^= 0x55
			for i := quote + 28; i < len(b); i++ {
				b[i] ^= 0x55
			}
			sum(b)
		}), func(t *testing.T, c result.Counts) { require.InDelta(t, 9, c.Unverified, 1) }},
		{"another destination", forge(func(b []byte) {
			b[quote+19]++
			sum(b)
		}), func(t *testing.T, c result.Counts) { require.InDelta(t, 9, c.Foreign, 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulated(t, simulatedTwoSites(), nil, atB(tt.tamper), func(t *testing.T, f *fleet) {
				trace := f.measure(t, "volta a 203.0.113.10 -m 5 -w 5,0,0")
				requireSimulated(t, trace, target4)
				require.Equal(t, 15, trace.Counts.Matched)
				tt.check(t, trace.Counts)
			})
		})
	}
	// The third hop's answers come with the last one of the fifth: or did come
	// before, and are told of then.
	for _, told := range []bool{false, true} {
		t.Run(map[bool]string{false: "delayed", true: "told late"}[told], func(t *testing.T) {
			hops := simulatedHops[target4]
			var late []probe.Incoming
			fifth := 0
			hold := func(d probe.Incoming) []probe.Incoming {
				switch string(d.Data[12:16]) {
				case string(hops[2].AsSlice()):
					late = append(late, d)
					return nil
				case string(hops[4].AsSlice()):
					if fifth++; fifth == 3 {
						for i := range late {
							if !told {
								late[i].Time = d.Time
							}
						}
						return append(late, d)
					}
				}
				return []probe.Incoming{d}
			}
			simulated(t, simulatedTwoSites(), nil, atB(hold), func(t *testing.T, f *fleet) {
				// One probe at a time: hop 3 has been given up when hop 5 is asked.
				trace := f.measure(t, "volta a 203.0.113.10 -N 1 -w 0.2 -m 5")
				if told {
					requireSimulated(t, trace, target4)
					require.Equal(t, 15, trace.Counts.Matched)
					require.Zero(t, trace.Counts.Late)
					return
				}
				require.Equal(t, 3, trace.Counts.Late)
				for _, p := range trace.Hops[2].Probes {
					require.Equal(t, result.Late, p.Verdict)
					require.False(t, p.Answered())
				}
				require.Contains(t, trace.Text(), "3  *  *  *")
			})
		})
	}
}

// sum mends the checksum of an ICMP message in IPv4.
func sum(b []byte) {
	b[22], b[23] = 0, 0
	s := ^onesSum(0, b[20:])
	b[22], b[23] = byte(s>>8), byte(s)
}
