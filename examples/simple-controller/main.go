// Command simple-controller serves agents and clients, or runs a whole
// measurement on this host.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/examples/internal/blockfile"
	"bitbucket.org/uwpatio/voltadomar/examples/internal/tlsfiles"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const synopsis = `Usage: simple-controller [--scenario NAME|FILE] [SITE DESTINATION [volta options]]
       simple-controller --serve [--scenario NAME|FILE] [--listen ADDRESS | --port PORT] [--range START-END] [--block N] [--blocklist FILE] [--insecure]
       simple-controller --local TARGET [volta options]

Alone, controller and agents run in this process over a simulated anycast
network and print traceroutes; that needs no privileges. With --serve, agents
(simple-agent) and clients (simple-client) meet here; with a scenario, its
sites have agents already. With --local, controller and one agent run in this
process on this host's network; that needs CAP_NET_RAW.

`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	wrong := func(err error) int {
		fmt.Fprintf(stderr, "simple-controller: %v\nTry 'simple-controller --help'.\n", err)
		return 2
	}
	// What follows --local is in the command language, not in ours.
	var local []string
	if i := slices.IndexFunc(args, func(s string) bool { return s == "--local" || strings.HasPrefix(s, "--local=") }); i >= 0 {
		local = args[i+1:]
		if _, target, ok := strings.Cut(args[i], "="); ok {
			local = append([]string{target}, local...)
		}
		args = append(slices.Clone(args[:i]), "--local")
	}
	fs := pflag.NewFlagSet("simple-controller", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SetInterspersed(false)
	serve := fs.Bool("serve", false, "serve agents and clients over gRPC")
	simulated := fs.String("scenario", "", "simulated network: a `FILE`, or one of "+strings.Join(scenario.Names(), ", ")+" (default "+defaultScenario+" without --serve)")
	isLocal := fs.Bool("local", false, "trace to a `TARGET` from this host; takes all words that follow")
	listen := fs.String("listen", "", "`ADDRESS` to listen on, HOST:PORT")
	port := fs.Int("port", 50051, "`PORT` to listen on: on loopback, with TLS or --insecure on all addresses")
	ids := fs.String("range", "10000-20000", "probe identifiers `START-END`, END not included; disjoint between controllers")
	block := fs.Int("block", 100, "identifiers that a measurement takes at least")
	insecure := fs.Bool("insecure", false, "serve plain text beyond loopback")
	rules := fs.String("blocklist", "", "`FILE` of addresses and prefixes, one a line, to measure none of; read again at SIGHUP")
	files := tlsfiles.Add(fs, "vouch for agents and clients")
	if err := fs.Parse(args); errors.Is(err, pflag.ErrHelp) || slices.Contains(local, "--help") {
		fmt.Fprint(stdout, synopsis+fs.FlagUsages()+"\n"+volta.Usage())
		return 0
	} else if err != nil {
		return wrong(err)
	}
	cfg := &volta.ControllerConfig{Block: *block}
	var err error
	if cfg.Start, cfg.End, err = parseRange(*ids); err != nil {
		return wrong(err)
	}
	if size := int(cfg.End - cfg.Start); *block < 1 || *block > size {
		return wrong(fmt.Errorf("--block %d: must be 1 to %d, the size of --range %s", *block, size, *ids))
	}
	if *port < 0 || *port > 65535 {
		return wrong(fmt.Errorf("--port %d: must be 0 to 65535, 0 for a free one", *port))
	}
	if cfg.Blocklist, err = blockfile.Open(*rules); err != nil {
		return wrong(err)
	}
	defer blockfile.Follow(*rules, cfg.Blocklist, slog.New(slog.NewTextHandler(stderr, nil)))()
	tlsConfig, err := files.Server()
	if err != nil {
		return wrong(err)
	}
	switch {
	case *serve && fs.NArg() > 0:
		return wrong(fmt.Errorf("%q: --serve takes no operands", fs.Arg(0)))
	case *serve && *isLocal:
		return wrong(errors.New("--serve and --local exclude each other"))
	case *isLocal && *simulated != "":
		return wrong(errors.New("--scenario and --local exclude each other"))
	case *isLocal && len(local) == 0:
		return wrong(errors.New("--local TARGET is missing"))
	case *isLocal:
		return traceLocal(ctx, cfg, local, stdout, stderr)
	case !*serve:
		for _, name := range []string{"listen", "port", "insecure", "cert", "key", "ca"} {
			if fs.Changed(name) {
				return wrong(fmt.Errorf("--%s without --serve", name))
			}
		}
		if *simulated == "" {
			*simulated = defaultScenario
		}
		return demonstrate(ctx, cfg, *simulated, fs.Args(), stdout, stderr)
	case fs.Changed("listen") && fs.Changed("port"):
		return wrong(errors.New("--listen and --port exclude each other"))
	}
	addr := *listen
	if addr == "" {
		host := "localhost"
		if *insecure || tlsConfig != nil {
			host = ""
		}
		addr = net.JoinHostPort(host, strconv.Itoa(*port))
	}
	cfg.Logger = slog.New(slog.NewTextHandler(stderr, nil))
	return serveFleet(ctx, cfg, *simulated, grpctransport.ServerConfig{
		Addr: addr, TLS: tlsConfig, Insecure: *insecure, Logger: cfg.Logger,
	}, wrong, stdout, stderr)
}

func parseRange(s string) (start, end uint32, err error) {
	from, to, ok := strings.Cut(s, "-")
	a, err1 := strconv.ParseUint(from, 10, 32)
	b, err2 := strconv.ParseUint(to, 10, 32)
	if !ok || err1 != nil || err2 != nil || a < 1 || b > 1<<16 || a >= b {
		return 0, 0, fmt.Errorf("--range %q: must be START-END with 1 <= START < END <= 65536", s)
	}
	return uint32(a), uint32(b), nil
}
