// Command plugin-dns is the measurement type "dns": it asks a DNS server, over
// UDP, which of its sites answers. Beside that the result says which site of
// the fleet caught the answer.
//
//	go build -o dns . && simple-agent --plugin ./dns ...
//	simple-client node1 192.0.2.53 -P dns -o name=hostname.bind -o nsid=true
//
// As a ping it asks once, with more hops than there are: -f 64 -m 64.
package main

import (
	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

func main() { plugins.Serve(udp.Carry(newQuestion("id.server", false))) }
