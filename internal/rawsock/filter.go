package rawsock

import (
	"fmt"

	"golang.org/x/net/bpf"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// program collects BPF instructions whose jumps name labels. A label stands
// before its definition: classic BPF jumps only forward.
type program struct {
	ins    []bpf.Instruction
	jumps  []jump
	labels map[string]int
}

// jump is an instruction at index at that goes to a label if its condition
// holds (or does not), and on to the next instruction otherwise.
type jump struct {
	at  int
	to  string
	not bool
}

func (p *program) add(ins ...bpf.Instruction) { p.ins = append(p.ins, ins...) }

func (p *program) label(name string) { p.labels[name] = len(p.ins) }

// jumpIf goes to the label if the accumulator compares to val.
func (p *program) jumpIf(cond bpf.JumpTest, val uint32, to string) {
	p.jumps = append(p.jumps, jump{at: len(p.ins), to: to})
	p.add(bpf.JumpIf{Cond: cond, Val: val})
}

// unless rejects the packet if the accumulator does not compare to val.
func (p *program) unless(cond bpf.JumpTest, val uint32) {
	p.jumps = append(p.jumps, jump{at: len(p.ins), to: reject, not: true})
	p.add(bpf.JumpIf{Cond: cond, Val: val})
}

// jumpIfX goes to the label if the accumulator equals X.
func (p *program) jumpIfX(to string) {
	p.jumps = append(p.jumps, jump{at: len(p.ins), to: to})
	p.add(bpf.JumpIfX{Cond: bpf.JumpEqual})
}

func (p *program) jump(to string) {
	p.jumps = append(p.jumps, jump{at: len(p.ins), to: to})
	p.add(bpf.Jump{})
}

// instructions resolves the labels.
func (p *program) instructions() ([]bpf.Instruction, error) {
	for _, j := range p.jumps {
		to, ok := p.labels[j.to]
		skip := to - j.at - 1
		if !ok || skip < 0 {
			return nil, fmt.Errorf("filter label %q is not ahead of instruction %d", j.to, j.at)
		}
		ins, far := p.ins[j.at], skip > 255
		switch i := ins.(type) {
		case bpf.Jump:
			i.Skip, far = uint32(skip), false
			ins = i
		case bpf.JumpIf:
			if j.not {
				i.SkipFalse = uint8(skip)
			} else {
				i.SkipTrue = uint8(skip)
			}
			ins = i
		case bpf.JumpIfX:
			i.SkipTrue = uint8(skip)
			ins = i
		}
		if far {
			return nil, fmt.Errorf("filter label %q is %d instructions ahead, at most 255", j.to, skip)
		}
		p.ins[j.at] = ins
	}
	return p.ins, nil
}

const (
	accept, reject = "accept", "reject"

	// Types of packets: to this host, and from it or forwarded by it.
	packetHost, packetOutgoing = 0, 4

	wholePacket = 0x40000
	// sightingLen is how much of a datagram tells it from others, in bytes:
	// the largest header of IPv4 and what follows the addresses of IPv6.
	sightingLen = 128

	// The flows' ports and identifiers differ in their low bits alone.
	flowMask = 0xFFFF &^ (probe.MaxFlows - 1)

	// Scratch slots.
	slotProto = 0 // quoted protocol
	slotID    = 1 // quoted IPv4 identification, or low half of the flow label
)

// flowPort accepts if the 16 bits at X+off are a flow's port or identifier.
func (p *program) flowPort(off uint32, otherwise string) {
	p.add(bpf.LoadIndirect{Off: off, Size: 2},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flowMask})
	p.jumpIf(bpf.JumpEqual, probe.SourcePort, accept)
	if otherwise != "" {
		p.jump(otherwise)
	}
}

// direct handles TCP and UDP at X.
func (p *program) direct() {
	const syn, rst, ack = 0x02, 0x04, 0x10
	p.label("tcp")
	p.add(bpf.LoadIndirect{Off: 13, Size: 1})
	p.unless(bpf.JumpBitsSet, ack)
	p.unless(bpf.JumpBitsSet, syn|rst)
	p.label("udp")
	p.flowPort(2, reject)
}

// quoted handles a quoted transport header at X+8, in the protocol of the
// given number and its echo request type.
func (p *program) quoted(icmp uint8, echoRequest uint32) {
	p.add(bpf.LoadScratch{Dst: bpf.RegA, N: slotProto})
	p.jumpIf(bpf.JumpEqual, uint32(probe.UDP), "quoted udp")
	p.jumpIf(bpf.JumpEqual, uint32(probe.TCP), "quoted tcp")
	p.unless(bpf.JumpEqual, uint32(icmp))
	p.add(bpf.LoadIndirect{Off: 8, Size: 1})
	p.unless(bpf.JumpEqual, echoRequest)
	p.flowPort(12, reject)
	p.label("quoted tcp")
	p.flowPort(8, reject)
	p.label("quoted udp")
	p.flowPort(8, "")
	// Classic probes have their source port in the IP header too.
	p.add(bpf.LoadIndirect{Off: 8, Size: 2},
		bpf.LoadScratch{Dst: bpf.RegX, N: slotID})
	p.jumpIfX(accept)
}

// end completes a filter for packets of one type, of which it keeps as many
// bytes as told.
func (p *program) end(packetType, keep uint32) ([]bpf.RawInstruction, []bpf.Instruction, error) {
	p.label(reject)
	p.add(bpf.RetConstant{Val: 0})
	p.label(accept)
	p.add(bpf.RetConstant{Val: keep})
	ins, err := p.instructions()
	if err != nil {
		return nil, nil, err
	}
	// Only the kernel knows the type, so it is no part of what runs elsewhere.
	kernel := append([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packetType, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}, ins...)
	raw, err := bpf.Assemble(kernel)
	return raw, ins, err
}

// filter4 passes IPv4 datagrams, from the IP header on, that are not a later
// fragment and one of
//   - ICMP types 3, 11 and 12 that quote, not as a later fragment, UDP or TCP
//     from a flow's port, UDP whose source port is its IP identification
//     (classic probes), or an echo request with a flow's identifier,
//   - an echo reply with a flow's identifier,
//   - TCP SYN-ACK or RST-ACK to a flow's port, UDP to a flow's port.
func filter4() (kernel []bpf.RawInstruction, body []bpf.Instruction, err error) {
	p := &program{labels: map[string]int{}}
	p.add(bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xF0})
	p.unless(bpf.JumpEqual, 0x40)
	p.add(bpf.LoadAbsolute{Off: 6, Size: 2})
	p.jumpIf(bpf.JumpBitsSet, 0x1FFF, reject)
	p.add(bpf.LoadMemShift{Off: 0},
		bpf.LoadAbsolute{Off: 9, Size: 1})
	p.jumpIf(bpf.JumpEqual, uint32(probe.ICMP), "icmp")
	p.jumpIf(bpf.JumpEqual, uint32(probe.TCP), "tcp")
	p.jumpIf(bpf.JumpEqual, uint32(probe.UDP), "udp")
	p.jump(reject)

	p.direct()

	p.label("icmp")
	p.add(bpf.LoadIndirect{Off: 0, Size: 1})
	p.jumpIf(bpf.JumpEqual, 3, "error")
	p.jumpIf(bpf.JumpEqual, 11, "error")
	p.jumpIf(bpf.JumpEqual, 12, "error")
	p.unless(bpf.JumpEqual, 0)
	p.flowPort(4, reject)

	p.label("error")
	p.add(bpf.LoadIndirect{Off: 8, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xF0})
	p.unless(bpf.JumpEqual, 0x40)
	p.add(bpf.LoadIndirect{Off: 8 + 6, Size: 2})
	p.jumpIf(bpf.JumpBitsSet, 0x1FFF, reject)
	p.add(bpf.LoadIndirect{Off: 8 + 9, Size: 1},
		bpf.StoreScratch{Src: bpf.RegA, N: slotProto},
		bpf.LoadIndirect{Off: 8 + 4, Size: 2},
		bpf.StoreScratch{Src: bpf.RegA, N: slotID},
		bpf.LoadIndirect{Off: 8, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0F},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2},
		bpf.ALUOpX{Op: bpf.ALUOpAdd},
		bpf.TAX{})
	p.quoted(probe.ICMP, 8)
	return p.end(packetHost, wholePacket)
}

// filter6 is filter4 for IPv6, with ICMPv6 types 1 to 4 and 129. Classic
// probes have their source port in the low half of the flow label. Before the
// transport header, outside and in the quote, there may be one hop-by-hop,
// destination options or fragment header.
func filter6() (kernel []bpf.RawInstruction, body []bpf.Instruction, err error) {
	p := &program{labels: map[string]int{}}
	p.add(bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xF0})
	p.unless(bpf.JumpEqual, 0x60)
	p.add(bpf.LoadConstant{Dst: bpf.RegX, Val: 0})
	p.extension(0, "outer")
	p.add(bpf.LoadScratch{Dst: bpf.RegA, N: slotProto})
	p.jumpIf(bpf.JumpEqual, uint32(probe.ICMPv6), "icmp")
	p.jumpIf(bpf.JumpEqual, uint32(probe.TCP), "tcp")
	p.jumpIf(bpf.JumpEqual, uint32(probe.UDP), "udp")
	p.jump(reject)

	p.direct()

	p.label("icmp")
	p.add(bpf.LoadIndirect{Off: 0, Size: 1})
	p.jumpIf(bpf.JumpEqual, 129, "reply")
	p.jumpIf(bpf.JumpGreaterThan, 4, reject)
	p.jumpIf(bpf.JumpEqual, 0, reject)
	p.jump("error")
	p.label("reply")
	p.flowPort(4, reject)

	p.label("error")
	p.add(bpf.LoadIndirect{Off: 8, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xF0})
	p.unless(bpf.JumpEqual, 0x60)
	p.add(bpf.LoadIndirect{Off: 8 + 2, Size: 2},
		bpf.StoreScratch{Src: bpf.RegA, N: slotID})
	p.extension(8, "inner")
	p.quoted(probe.ICMPv6, 128)
	return p.end(packetHost, wholePacket)
}

// extension moves X, which is off bytes before an IPv6 header, to off bytes
// before its payload, and stores the payload's protocol. It steps over one
// extension header.
func (p *program) extension(off uint32, name string) {
	const (
		hopByHop, fragment, destination = 0, 44, 60

		header = 40
	)
	p.add(bpf.LoadIndirect{Off: off + 6, Size: 1},
		bpf.StoreScratch{Src: bpf.RegA, N: slotProto})
	p.jumpIf(bpf.JumpEqual, hopByHop, name+" options")
	p.jumpIf(bpf.JumpEqual, destination, name+" options")
	p.jumpIf(bpf.JumpEqual, fragment, name+" fragment")
	p.add(bpf.LoadConstant{Dst: bpf.RegA, Val: header})
	p.jump(name + " payload")

	p.label(name + " fragment")
	p.add(bpf.LoadIndirect{Off: off + header + 2, Size: 2})
	p.jumpIf(bpf.JumpBitsSet, 0xFFF8, reject)
	p.add(bpf.LoadIndirect{Off: off + header, Size: 1},
		bpf.StoreScratch{Src: bpf.RegA, N: slotProto},
		bpf.LoadConstant{Dst: bpf.RegA, Val: header + 8})
	p.jump(name + " payload")

	p.label(name + " options")
	p.add(bpf.LoadIndirect{Off: off + header, Size: 1},
		bpf.StoreScratch{Src: bpf.RegA, N: slotProto},
		bpf.LoadIndirect{Off: off + header + 1, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: header})

	p.label(name + " payload")
	p.add(bpf.ALUOpX{Op: bpf.ALUOpAdd}, bpf.TAX{})
}

// filterOut passes IPv4 and IPv6 datagrams that leave, from the IP header on,
// if they are not a later fragment and one of
//   - UDP or TCP from a flow's port, classic probes,
//   - an echo request with a flow's identifier.
//
// Before the transport header of IPv6 there may be one extension header.
func filterOut() (kernel []bpf.RawInstruction, body []bpf.Instruction, err error) {
	p := &program{labels: map[string]int{}}
	p.add(bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xF0})
	p.jumpIf(bpf.JumpEqual, 0x60, "ipv6")
	p.unless(bpf.JumpEqual, 0x40)
	p.add(bpf.LoadAbsolute{Off: 6, Size: 2})
	p.jumpIf(bpf.JumpBitsSet, 0x1FFF, reject)
	p.add(bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.StoreScratch{Src: bpf.RegA, N: slotProto},
		bpf.LoadAbsolute{Off: 4, Size: 2},
		bpf.StoreScratch{Src: bpf.RegA, N: slotID},
		bpf.LoadMemShift{Off: 0})
	p.jump("transport")

	p.label("ipv6")
	p.add(bpf.LoadAbsolute{Off: 2, Size: 2},
		bpf.StoreScratch{Src: bpf.RegA, N: slotID},
		bpf.LoadConstant{Dst: bpf.RegX, Val: 0})
	p.extension(0, "outer")

	p.label("transport")
	p.add(bpf.LoadScratch{Dst: bpf.RegA, N: slotProto})
	p.jumpIf(bpf.JumpEqual, uint32(probe.UDP), "udp")
	p.jumpIf(bpf.JumpEqual, uint32(probe.TCP), "tcp")
	p.jumpIf(bpf.JumpEqual, uint32(probe.ICMP), "icmp")
	p.unless(bpf.JumpEqual, uint32(probe.ICMPv6))
	p.add(bpf.LoadIndirect{Off: 0, Size: 1})
	p.unless(bpf.JumpEqual, 128)
	p.jump("echo")
	p.label("icmp")
	p.add(bpf.LoadIndirect{Off: 0, Size: 1})
	p.unless(bpf.JumpEqual, 8)
	p.label("echo")
	p.flowPort(4, reject)
	p.label("tcp")
	p.flowPort(0, reject)
	p.label("udp")
	p.flowPort(0, "")
	p.add(bpf.LoadIndirect{Off: 0, Size: 2},
		bpf.LoadScratch{Dst: bpf.RegX, N: slotID})
	p.jumpIfX(accept)
	return p.end(packetOutgoing, sightingLen)
}
