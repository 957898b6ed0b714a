// Command simple-network makes this host a site of a simulated network, so that
// any program can be run over it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/tun"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const synopsis = `Usage: simple-network [--scenario NAME|FILE] [--site SITE] [--device NAME] [--route PREFIX]...

Makes a TUN device through which this host, or network namespace, is a site of
a simulated network, until it is interrupted. Needs CAP_NET_ADMIN.

`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := pflag.NewFlagSet("simple-network", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	name := fs.String("scenario", "two-site", "`NAME|FILE` of the network: one of "+strings.Join(scenario.Names(), ", ")+", or a file")
	site := fs.String("site", "", "`SITE` that this host becomes (default: the first of the scenario)")
	device := fs.String("device", "", "`NAME` of the device (default: sim0, or the next one that is free)")
	prefixes := fs.StringArray("route", nil, "`PREFIX` that goes into the network, such as 0.0.0.0/0 (default: all that there is in it)")

	wrong := func(err error) int {
		fmt.Fprintf(stderr, "simple-network: %v\nTry 'simple-network --help'.\n", err)
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "simple-network:", err)
		return 1
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(stdout, synopsis+fs.FlagUsages())
		return 0
	case err != nil:
		return wrong(err)
	case fs.NArg() > 0:
		return wrong(fmt.Errorf("%q: takes no operands", fs.Arg(0)))
	}
	var routes []netip.Prefix
	for _, s := range *prefixes {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return wrong(fmt.Errorf("--route %q: must be a prefix such as 192.0.2.0/24", s))
		}
		routes = append(routes, p)
	}
	s, err := scenario.Load(*name)
	if err != nil {
		return fail(err)
	}
	if *site == "" && len(s.Sites) > 0 {
		*site = s.Sites[0].Name
	}
	network, err := s.Start()
	if err != nil {
		return fail(err)
	}
	defer network.Close()
	d, err := tun.Open(network, tun.Config{Site: *site, Name: *device, Routes: routes})
	switch {
	case errors.Is(err, simnet.ErrUnknown):
		return wrong(fmt.Errorf("--site: %w", err))
	case err != nil:
		return fail(err)
	}
	defer d.Close()
	_, err = fmt.Fprintf(stdout, "SIMULATED network %q: device %s is its site %s, and nothing that goes there leaves this host.\n%s\n\n%s\nInterrupt to end.\n",
		*name, d.Name(), *site, strings.TrimSpace(s.About), advise(s, *site))
	if err != nil {
		return fail(err)
	}
	<-ctx.Done()
	if n := d.Dropped(); n > 0 {
		fmt.Fprintf(stderr, "simple-network: %d packets were lost between kernel and network\n", n)
	}
	return 0
}

// advise says what can be run over a scenario.
func advise(s *simnet.Scenario, site string) string {
	var b strings.Builder
	for i := range s.Hosts {
		for _, a := range s.Hosts[i].Addresses {
			fmt.Fprintf(&b, "  traceroute -n %v\n", a)
			if own, ok := addressOf(s, site, a); ok {
				fmt.Fprintf(&b, "  traceroute -n -s %v %v\n", own, a)
			}
		}
		if b.Len() > 0 {
			break
		}
	}
	if b.Len() == 0 {
		return ""
	}
	text := "For example:\n" + b.String()
	if shared(s, site) {
		text += fmt.Sprintf("\nSites share the address of -s: an answer that lands at another one than %s is not seen here.\n", site)
	}
	return text
}

// addressOf returns the site's own address of the family of another.
func addressOf(s *simnet.Scenario, site string, like netip.Addr) (netip.Addr, bool) {
	for i := range s.Sites {
		for _, a := range s.Sites[i].Addresses {
			if s.Sites[i].Name == site && a.Is4() == like.Is4() {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// shared tells whether another site has an address of this one.
func shared(s *simnet.Scenario, site string) bool {
	owners := map[netip.Addr][]string{}
	for i := range s.Sites {
		for _, a := range s.Sites[i].Addresses {
			owners[a] = append(owners[a], s.Sites[i].Name)
		}
	}
	for _, names := range owners {
		for _, name := range names {
			if name == site && len(names) > 1 {
				return true
			}
		}
	}
	return false
}
