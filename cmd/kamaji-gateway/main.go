// SPDX-License-Identifier: Apache-2.0

// Command kamaji-gateway is the data plane of a KamajiGateway: it passes the connections of customers and
// workers to the tenants' control planes. It runs on Linux, in a pod or as a service of a machine.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/version"
)

const usage = `kamaji-gateway passes TLS connections to tenant control planes, by server name or by port.

  kamaji-gateway [run] --bootstrap FILE   serve; see "bootstrap" for the file
  kamaji-gateway bootstrap [flags]        write a bootstrap file, and with --systemd a unit to standard output
  kamaji-gateway envoy [flags]            write the files of an Envoy that takes its place, and its unit to standard output
  kamaji-gateway companion [flags] [-- ENVOY ARGS]   do beside Envoy what it lacks: redirect tenant ports, drain
  kamaji-gateway certificates [flags]     fetch the client certificate; with --systemd DIR write the units that keep it fresh
  kamaji-gateway version                  print the version

"kamaji-gateway COMMAND --help" lists the flags.
`

func main() {
	err := command(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kamaji-gateway:", err)
		os.Exit(1)
	}
}

// command runs the sub command that args name; flags alone mean run.
func command(args []string, stdout io.Writer) error {
	name := "help"
	switch {
	case len(args) > 0 && !strings.HasPrefix(args[0], "-"):
		name, args = args[0], args[1:]
	case len(args) > 0 && args[0] == "--version":
		name = "version"
	case len(args) > 0 && strings.HasPrefix(strings.TrimLeft(args[0], "-"), "bootstrap"):
		name = "run"
	}
	switch name {
	case "run":
		return run(args, stdout)
	case "bootstrap":
		return writeBootstrap(args, stdout)
	case "envoy":
		return writeEnvoy(args, stdout)
	case "companion":
		return companion(args)
	case "certificates":
		return fetchCertificates(args)
	case "version":
		_, err := fmt.Fprintln(stdout, version.String())
		return err
	case "help":
		_, err := io.WriteString(stdout, usage)
		return err
	}
	return fmt.Errorf("unknown command %q; try help", name)
}

// run serves until SIGTERM or SIGINT. The access log goes to stdout, everything else to standard error.
func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	path := flags.String("bootstrap", "", "`file` to start from (required)")
	metrics := flags.String("metrics-address", "", "`host:port` for /metrics, in place of metricsAddress in the file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *path == "" || flags.NArg() > 0 {
		return errors.New("run: want --bootstrap FILE and nothing else")
	}
	config, err := bootstrap.Load(*path)
	if err != nil {
		return err
	}
	config.MetricsAddress = cmp.Or(*metrics, config.MetricsAddress)
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log.Info("Starting", "version", version.String(), "node", config.Node.ID(), "controlPlane", config.XDS.Address)
	// Each event loop keeps a processor of Go's scheduler to itself; everything else has one more.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	gateway, err := dataplane.New(config, dataplane.Options{Log: log, AccessLog: stdout})
	if err != nil {
		return err
	}
	notify("READY=1")
	go restart(ctx, gateway, log)
	return gateway.Run(ctx)
}
