// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/envoy"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/envoy/redirect"
)

// companion runs beside an Envoy until SIGTERM or SIGINT, or runs the one whose command follows its flags.
func companion(args []string) error {
	flags := flag.NewFlagSet("companion", flag.ContinueOnError)
	rule, ports, admin := redirectFlags(flags)
	health := flags.String("health-address", "127.0.0.1:9902", "`host:port` for /healthz, /readyz, /metrics and /drain")
	drain := flags.Int("drain-seconds", 20, "how long open connections may go on after /drain")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := complete(rule, *ports); err != nil {
		return fmt.Errorf("companion: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	c := &envoy.Companion{
		AdminSocket: *admin, Health: *health, Redirect: *rule, Drain: time.Duration(*drain) * time.Second,
		Command: flags.Args(), Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	}
	return c.Run(ctx)
}

// redirectFlags are the flags that say what to redirect, and where Envoy's administration interface is.
func redirectFlags(flags *flag.FlagSet) (rule *redirect.Rule, ports, admin *string) {
	rule = &redirect.Rule{}
	flags.Func("instance", "`name` that no other companion of this machine has (required)", func(s string) error {
		rule.Name = "kamaji-gateway-" + s
		return nil
	})
	flags.TextVar(&rule.Address, "private-address", netip.Addr{}, "`address` of the gateway's private listener (required)")
	flags.Func("port", "`port` that the gateway's tenants share (required)", func(s string) error {
		port, err := strconv.ParseUint(s, 10, 16)
		rule.Port = uint16(port)
		return err
	})
	ports = flags.String("tenant-ports", "10000-10247,10261-29999", "`ranges` of ports to bring there")
	admin = flags.String("admin-socket", "/run/kamaji-gateway/admin.sock", "`path` of Envoy's administration interface")
	return rule, ports, admin
}

// complete reads the ranges and checks that nothing is missing.
func complete(rule *redirect.Rule, ports string) error {
	if rule.Name == "" || !rule.Address.IsValid() || rule.Port == 0 {
		return errors.New("want --instance, --private-address and --port")
	}
	rule.Ports = nil
	for part := range strings.SplitSeq(ports, ",") {
		first, last, _ := strings.Cut(part, "-")
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return fmt.Errorf("--tenant-ports: %q is not first-last: %w", part, err)
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if err != nil || to < from {
			return fmt.Errorf("--tenant-ports: %q is not first-last", part)
		}
		if from <= uint64(rule.Port) && uint64(rule.Port) <= to {
			return fmt.Errorf("--tenant-ports: %q holds --port %d", part, rule.Port)
		}
		rule.Ports = append(rule.Ports, redirect.Range{First: uint16(from), Last: uint16(to)})
	}
	return nil
}

// writeEnvoy makes the files for an Envoy outside the management cluster.
func writeEnvoy(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("envoy", flag.ContinueOnError)
	rule, ports, admin := redirectFlags(flags)
	var c envoy.Config
	flags.StringVar(&c.Gateway, "gateway", "", "`name` of the KamajiGateway (required)")
	flags.StringVar(&c.XDSAddress, "xds-address", "", "`host:port` of the control plane's xDS server (required)")
	flags.StringVar(&c.XDSServerName, "xds-server-name", "", "DNS `name` in its certificate, default the host of --xds-address")
	flags.StringVar(&c.TLSDir, "tls-dir", "/etc/kamaji-gateway/tls", "`directory` with ca.crt, tls.crt and tls.key, from the Secret kamaji-gateway-<name>-xds")
	flags.StringVar(&c.Dir, "dir", "/etc/kamaji-gateway", "`directory` to write to")
	flags.Uint64Var(&c.MaxConnections, "max-connections", envoy.DefaultMaxConnections, "how many connections to hold")
	flags.Uint64Var(&c.MaxHeap, "max-heap", envoy.DefaultMaxHeap, "`bytes` of heap near which connections are refused")
	drain := flags.Int("drain-seconds", 20, "how long open connections may go on when the unit stops")
	user := flags.String("user", "kamaji-gateway", "`user` that Envoy runs as; must be able to read --tls-dir")
	program := flags.String("envoy", "/usr/bin/envoy", "`path` of Envoy, 1.34 or newer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("envoy: the host name is unknown: %w", err)
	}
	if rule.Name == "" {
		rule.Name = host
	}
	if err := complete(rule, *ports); err != nil {
		return fmt.Errorf("envoy: %w", err)
	}
	instance := strings.TrimPrefix(rule.Name, "kamaji-gateway-")
	c.Instance, c.AdminSocket = instance, *admin
	files, err := c.Files()
	if err != nil {
		return fmt.Errorf("envoy: %w", err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(c.Dir, name), data, 0o644); err != nil {
			return fmt.Errorf("envoy: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	command := []string{
		self, "companion", "--instance=" + instance, "--private-address=" + rule.Address.String(), "--port=" + strconv.Itoa(int(rule.Port)),
		"--tenant-ports=" + *ports, "--admin-socket=" + *admin, "--drain-seconds=" + strconv.Itoa(*drain), "--",
		*program, "--config-path", filepath.Join(c.Dir, envoy.BootstrapFile), "--disable-hot-restart",
	}
	_, err = fmt.Fprintf(stdout, envoyUnit, *user, filepath.Base(filepath.Dir(*admin)), strings.Join(command, " "), *drain+10)
	return err
}
