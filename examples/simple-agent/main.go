// Command simple-agent is an agent on one node of an anycast network.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/pflag"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/examples/internal/blockfile"
	"bitbucket.org/uwpatio/voltadomar/examples/internal/tlsfiles"
	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := pflag.NewFlagSet("simple-agent", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	id := fs.StringP("id", "i", "", "`ID` of this agent, as measurements name it")
	controllers := fs.StringArrayP("controller", "c", nil, "`HOST:PORT` of a controller; several share the agent if their ranges differ")
	sources := fs.StringArray("source", nil, "`ADDRESS` to send probes from, one per family at most (default: the kernel's choice)")
	insecure := fs.Bool("insecure", false, "talk plain text to a controller on another host")
	paths := fs.StringArray("plugin", nil, "`PATH[,sha256=HEX]` of a program that adds a measurement type, with the checksum that its file must have")
	rules := fs.StringP("blocklist", "b", "", "`FILE` of addresses and prefixes, one a line, to send nothing to; read again at SIGHUP")
	files := tlsfiles.Add(fs, "vouch for the controller")
	usage := "Usage: simple-agent -i ID -c CONTROLLER [--source ADDRESS]... [--insecure]\n" +
		"                    [--plugin PATH[,sha256=HEX]]... [-b FILE]\n\n" +
		"Sends probes and captures answers for a controller. Needs CAP_NET_RAW.\n\n" + fs.FlagUsages()

	wrong := func(format string, args ...any) int {
		fmt.Fprintf(stderr, "simple-agent: "+format+"\nTry 'simple-agent --help'.\n", args...)
		return 2
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		return wrong("%v", err)
	case fs.NArg() > 0:
		return wrong("%q: takes no operands", fs.Arg(0))
	case *id == "":
		return wrong("-i ID is missing")
	case len(*controllers) == 0:
		return wrong("-c CONTROLLER is missing")
	}
	var from []netip.Addr
	for _, s := range *sources {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return wrong("--source %q: must be an IP address", s)
		}
		from = append(from, ip)
	}
	var added []plugins.Config
	for _, path := range *paths {
		c, err := plugin(path)
		if err != nil {
			return wrong("%v", err)
		}
		added = append(added, c)
	}
	blocklist, err := blockfile.Open(*rules)
	if err != nil {
		return wrong("%v", err)
	}
	tlsConfig, err := files.Client()
	if err != nil {
		return wrong("%v", err)
	}

	log := slog.New(slog.NewTextHandler(stderr, nil))
	defer blockfile.Follow(*rules, blocklist, log)()
	var dialers []*grpctransport.Dialer
	for _, c := range *controllers {
		d, err := grpctransport.NewDialer(grpctransport.ClientConfig{Addr: c, TLS: tlsConfig, Insecure: *insecure, Logger: log})
		if err != nil {
			return wrong("%v", err)
		}
		defer d.Close()
		dialers = append(dialers, d)
	}

	types, closing, err := load(ctx, added, log)
	switch {
	case errors.Is(err, context.Canceled):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "simple-agent:", err)
		return 1
	}
	defer closing()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i, c := range *controllers {
		wg.Go(func() {
			if err := serve(ctx, volta.AgentConfig{ID: *id, Probers: types, Logger: log, Blocklist: blocklist}, from, dialers[i]); err != nil {
				cancel(fmt.Errorf("controller %s: %w", c, err))
			}
		})
	}
	wg.Wait()
	switch err := context.Cause(ctx); {
	case err == nil || errors.Is(err, context.Canceled):
		return 0
	case errors.Is(err, volta.ErrUsage):
		return wrong("%v", err)
	default:
		fmt.Fprintln(stderr, "simple-agent:", err)
		return 1
	}
}

// serve works for one controller until ctx ends.
func serve(ctx context.Context, cfg volta.AgentConfig, from []netip.Addr, dialer *grpctransport.Dialer) error {
	port, err := volta.OpenPort(volta.PortConfig{Sources: from, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	cfg.Port = port
	agent, err := volta.NewAgent(cfg)
	if err != nil {
		return errors.Join(err, port.Close())
	}
	return agent.Run(ctx, dialer)
}
