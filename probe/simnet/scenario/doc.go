// Package scenario reads and writes the scenarios of package simnet as text,
// draws them, and holds a set of ready ones.
//
// The text is YAML, and short where the network is:
//
//	name: detour
//	about: The way back is longer than the way there.
//	sites:
//	  - name: a
//	    addresses: [192.0.2.1]
//	hosts:
//	  - name: target
//	    addresses: [203.0.113.10]
//	links:
//	  - a --1ms-- r1 --10ms-- r2 --1ms-- target
//	  - r1 --40ms-- r3 --40ms-- r2
//	routes:
//	  - {at: r2, to: 192.0.2.1/32, via: [r3]}
//
// Names in drawings that are not listed are routers with all the defaults. The
// file [reference.yaml], also returned by [Reference], has every key with its
// meaning, unit and default; the keys are those of [simnet.Scenario].
//
// [Load] takes the name of a built-in scenario or the path of a file:
//
//	s, err := scenario.Load("two-site")
//	if err != nil {
//		return err
//	}
//	network, err := s.Start()
//
// What is wrong with a text is said with file, line, place, value and what is
// wanted, as an [*Error]:
//
//	detour.yaml:11: links[1].dealy: unknown key, want one of draw, prefixes, delay, ...
//
// [SVG] draws a scenario: two-site looks like [two-site.svg], which go generate
// makes.
//
// # Built-in scenarios
//
//   - two-site: answers land at the site nearest to who answers
//   - diamond: flows spread over two ways
//   - ecn-split: a router that hashes the ECN bits
//   - flapping-site: a site that comes and goes
//   - lossy: loss, jitter, duplicates, packets out of order
//   - mpls-tunnel: one tunnel that shows its labels, one that hides its routers
//   - rate-limited: routers that answer only so often
//   - silent: nobody answers
//
// Each begins with a drawing, and ends with what measurements over it print.
// A test at the root of the module compares; to write its results into the
// files run
//
//	go test . -run TestScenarios -update
//
// [two-site.svg]: https://bitbucket.org/uwpatio/voltadomar/src/main/probe/simnet/two-site.svg
// [reference.yaml]: https://bitbucket.org/uwpatio/voltadomar/src/main/probe/simnet/scenario/reference.yaml
package scenario
