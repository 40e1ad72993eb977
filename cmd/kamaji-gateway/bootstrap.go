// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
)

// writeBootstrap makes the file for a gateway outside the management cluster.
func writeBootstrap(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("bootstrap", flag.ContinueOnError)
	var c bootstrap.Config
	flags.StringVar(&c.Node.Gateway, "gateway", "", "`name` of the KamajiGateway (required)")
	flags.StringVar(&c.Node.Instance, "instance", "", "`name` of this instance, default the host name")
	flags.StringVar(&c.XDS.Address, "xds-address", "", "`host:port` of the control plane's xDS server (required)")
	flags.StringVar(&c.XDS.ServerName, "xds-server-name", "", "DNS `name` in its certificate, default the host of --xds-address")
	tls := flags.String("tls-dir", "/etc/kamaji-gateway/tls", "`directory` with ca.crt, tls.crt and tls.key, from the Secret kamaji-gateway-<name>-xds")
	flags.StringVar(&c.StateDir, "state-dir", "/var/lib/kamaji-gateway", "`directory` for the last good configuration")
	flags.StringVar(&c.HealthAddress, "health-address", "127.0.0.1:9902", "`host:port` for /healthz, /readyz and /metrics")
	output := flags.String("output", "/etc/kamaji-gateway/bootstrap.yaml", "`file` to write")
	systemd := flags.Bool("systemd", false, "print a systemd unit that runs the gateway with that file")
	user := flags.String("user", "kamaji-gateway", "`user` of the systemd unit; must be able to read --tls-dir")
	if err := flags.Parse(args); err != nil {
		return err
	}
	c.XDS.CAFile, c.XDS.CertFile, c.XDS.KeyFile = filepath.Join(*tls, "ca.crt"), filepath.Join(*tls, "tls.crt"), filepath.Join(*tls, "tls.key")
	c.HandoverSocket = bootstrap.HandoverSocket(c.Node.Gateway)
	if err := c.Validate(); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	data, err := c.Marshal()
	if err != nil {
		return fmt.Errorf("encoding the bootstrap file: %w", err)
	}
	if err := os.WriteFile(*output, data, 0o644); err != nil {
		return fmt.Errorf("writing the bootstrap file: %w", err)
	}
	if !*systemd {
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	_, err = fmt.Fprintf(stdout, unit, *user, program, *output, c.StateDir, int(c.Drain().Seconds())+10)
	return err
}
