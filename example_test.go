package volta_test

import (
	"context"
	"fmt"
	"log"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// A controller and one agent in one program, on this host's network. It needs
// CAP_NET_RAW.
func Example() {
	ctx := context.Background()
	port, err := volta.OpenPort(volta.PortConfig{})
	if err != nil {
		log.Fatal(err)
	}
	agent, err := volta.NewAgent(volta.AgentConfig{ID: "here", Port: port})
	if err != nil {
		log.Fatal(err)
	}
	controller, err := volta.NewController(nil)
	if err != nil {
		log.Fatal(err)
	}
	meet := inproc.New()
	go func() { _ = controller.Run(ctx, meet) }()
	go func() { _ = agent.Run(ctx, meet) }()
	_ = controller.WaitAgents(ctx, "here")
	trace, err := controller.Measure(ctx, volta.Measurement{Source: "here", Target: "example.com"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(trace.Text())
}

// One command language serves every front.
func ExampleParseCommand() {
	m, err := volta.ParseCommand("volta node1 example.com -I -m 20 -q 5")
	fmt.Println(m.Source, m.Target, m.Prober, m.MaxTTL, m.Queries, err)

	_, err = volta.ParseCommand("volta node1 example.com -m 300")
	fmt.Println(err)
	// Output:
	// node1 example.com icmp 20 5 <nil>
	// -m 300: max hops must be 1 to 255
}
