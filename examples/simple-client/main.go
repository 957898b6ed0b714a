// Command simple-client asks a controller for a measurement and prints it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/pflag"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/examples/internal/tlsfiles"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := pflag.NewFlagSet("simple-client", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SetInterspersed(false)
	controller := fs.StringP("controller", "c", "localhost:50051", "`HOST:PORT` of the controller")
	asJSON := fs.Bool("json", false, "print the result as JSON")
	types := fs.Bool("types", false, "list what the agents can measure, with the options of each type")
	insecure := fs.Bool("insecure", false, "talk plain text to a controller on another host")
	files := tlsfiles.Add(fs, "vouch for the controller")
	usage := "Usage: simple-client -c CONTROLLER [--insecure] [--json] SOURCE DESTINATION [volta options]\n" +
		"       simple-client -c CONTROLLER [--insecure] [--json] --types\n\n" +
		"Runs a traceroute from the agent SOURCE. Exits 0 on success, 1 when the\n" +
		"measurement is refused or fails, 2 on wrong usage.\n\n" + fs.FlagUsages() + "\n" + volta.Usage()

	wrong := func(err error) int {
		fmt.Fprintf(stderr, "simple-client: %v\nTry 'simple-client --help'.\n", err)
		return 2
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp), slices.Contains(fs.Args(), "--help"):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		return wrong(err)
	}
	if *types {
		if fs.NArg() > 0 {
			return wrong(fmt.Errorf("%q: --types takes no operands", fs.Arg(0)))
		}
	} else if _, err := volta.ParseArgs(fs.Args()); err != nil {
		return wrong(err)
	}
	tlsConfig, err := files.Client()
	if err != nil {
		return wrong(err)
	}
	client, err := grpctransport.NewClient(grpctransport.ClientConfig{Addr: *controller, TLS: tlsConfig, Insecure: *insecure})
	if err != nil {
		return wrong(err)
	}
	defer client.Close()

	if *types {
		err = listTypes(ctx, client, stdout, *asJSON)
	} else {
		err = measure(ctx, client, fs.Args(), stdout, *asJSON)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		fmt.Fprintln(stderr, "simple-client:", err)
		return 1
	}
	return 0
}

// measure runs a measurement and prints what there is of it.
func measure(ctx context.Context, client *grpctransport.Client, args []string, stdout io.Writer, asJSON bool) error {
	trace, err := client.Measure(ctx, args, nil)
	if trace == nil {
		return err
	}
	if asJSON {
		return errors.Join(err, printJSON(stdout, trace))
	}
	_, failed := fmt.Fprintf(stdout, "%s\n", trace.Text())
	return errors.Join(err, failed)
}

// listTypes prints what the agents can measure.
func listTypes(ctx context.Context, client *grpctransport.Client, stdout io.Writer, asJSON bool) error {
	all, err := client.Types(ctx)
	switch {
	case err != nil:
		return err
	case asJSON:
		return printJSON(stdout, all)
	}
	_, err = io.WriteString(stdout, typesText(all))
	return err
}

func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n", text)
	}
	return err
}
