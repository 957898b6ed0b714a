package scenario_test

import (
	"fmt"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
)

func ExampleParse() {
	s, err := scenario.Parse("detour.yaml", []byte(`
sites:
  - name: a
links:
  - a --1ms-- r1 --10ms-- r2
  - draw: r1 --40ms-- r3 --40ms-- r2
    loss: 5%
`))
	fmt.Println(s, err)
	// Output: <nil> detour.yaml:7: links[1].loss: "5%", want a number
}

func ExampleFormat() {
	s, err := scenario.Named("diamond")
	if err != nil {
		fmt.Println(err)
		return
	}
	s.About, s.Expect = "", nil
	text, err := scenario.Format(s)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%s", text)
	// Output:
	// name: diamond
	//
	// sites:
	//   - name: a
	//     addresses: [192.0.2.1, '2001:db8:ff::1']
	//
	// hosts:
	//   - name: target
	//     addresses: [203.0.113.10, '2001:db8:fe::10']
	//
	// routers:
	//   - name: r1
	//     ecmp:
	//       hash: [addresses, ports, protocol, flow-label]
	//
	// links:
	//   - a --1ms-- r1
	//   - r1 --2ms-- t1 --4ms-- t2 --2ms-- r3
	//   - r1 --3ms-- u1 --6ms-- u2 --3ms-- r3
	//   - r3 --1ms-- target
}
