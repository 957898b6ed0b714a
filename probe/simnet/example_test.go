package simnet_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"sync"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// A traceroute over two anycast sites, each with an agent. The answers of the
// first two hops come back to site a, which sent the probes; those from farther
// away land at b.
func Example() {
	anycast := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	target := []netip.Addr{netip.MustParseAddr("203.0.113.10")}
	s := &simnet.Scenario{
		Sites: []simnet.Site{
			{Host: simnet.Host{Name: "a", Addresses: anycast}},
			{Host: simnet.Host{Name: "b", Addresses: anycast}},
		},
		Hosts: []simnet.Host{{Name: "target", Addresses: target, DNS: "www.example"}},
		Links: []simnet.Link{
			{Draw: "a --1ms-- r1 --2ms-- r2 --3ms-- r3 --4ms-- r4 --5ms-- target"},
			{Draw: "r3 --1ms-- b"},
		},
	}
	network, err := s.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer network.Close()
	controller, err := volta.NewController(&volta.ControllerConfig{Resolver: network})
	if err != nil {
		log.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	meet := inproc.New()
	defer meet.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = controller.Run(ctx, meet) })
	for _, site := range network.Sites() {
		port, err := network.Port(site)
		if err != nil {
			log.Fatal(err)
		}
		agent, err := volta.NewAgent(volta.AgentConfig{ID: site, Port: port})
		if err != nil {
			log.Fatal(err)
		}
		wg.Go(func() { _ = agent.Run(ctx, meet) })
	}
	if err := controller.WaitAgents(ctx, network.Sites()...); err != nil {
		log.Fatal(err)
	}
	trace, err := controller.Measure(ctx, volta.Measurement{Source: "a", Target: "www.example"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(trace.Text())
	// Output:
	// Traceroute to www.example (203.0.113.10) from a, 3 probes, 30 hops max
	// 1  198.18.0.2 (198.18.0.2) a  2.000 ms  2.000 ms  2.000 ms
	// 2  198.18.1.2 (198.18.1.2) a  6.000 ms  6.000 ms  6.000 ms
	// 3  198.18.2.2 (198.18.2.2) b  7.000 ms  7.000 ms  7.000 ms
	// 4  198.18.3.2 (198.18.3.2) b  15.000 ms  15.000 ms  15.000 ms
	// 5  www.example (203.0.113.10) b  25.000 ms  25.000 ms  25.000 ms
}
