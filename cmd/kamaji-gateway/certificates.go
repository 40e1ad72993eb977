// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/certificates"
)

const certificatesName = "kamaji-gateway-certificates"

// fetchCertificates brings the client certificate from the management cluster once, or writes the units that do so again and again.
func fetchCertificates(args []string) error {
	flags := flag.NewFlagSet("certificates", flag.ContinueOnError)
	gateway := flags.String("gateway", "", "`name` of the KamajiGateway (required)")
	namespace := flags.String("namespace", "kamaji-system", "`namespace` of the Secret, that of the manager")
	kubeconfig := flags.String("kubeconfig", "/etc/kamaji-gateway/kubeconfig", "`file` with the server, its authority and a token")
	dir := flags.String("tls-dir", "/etc/kamaji-gateway/tls", "`directory` for ca.crt, tls.crt and tls.key")
	units := flags.String("systemd", "", "write "+certificatesName+".service and .timer, which do this every hour, to a `directory`, and do nothing else")
	user := flags.String("user", "kamaji-gateway", "`user` of the systemd unit; must be able to read --kubeconfig and gets --tls-dir")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *gateway == "" || flags.NArg() > 0 {
		return errors.New("certificates: want --gateway NAME and flags only")
	}
	for name, value := range map[string]string{"gateway": *gateway, "namespace": *namespace, "kubeconfig": *kubeconfig, "tls-dir": *dir, "user": *user} {
		if strings.ContainsAny(value, " \t\n%$\"'\\") {
			return fmt.Errorf("certificates: --%s %q has a character that a systemd unit doesn't take as it is", name, value)
		}
	}
	if *units != "" {
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding this program: %w", err)
		}
		command := fmt.Sprintf("%s certificates --gateway %s --namespace %s --kubeconfig %s --tls-dir %s", program, *gateway, *namespace, *kubeconfig, *dir)
		return writeUnits(*units, map[string]string{
			certificatesName + ".service": fmt.Sprintf(certificatesService, *user, command, *dir),
			certificatesName + ".timer":   certificatesTimer,
		})
	}
	ctx := context.Background()
	bundle, err := certificates.Fetch(ctx, *kubeconfig, *namespace, *gateway)
	if err != nil {
		return err
	}
	until, err := bundle.Check(*gateway, time.Now())
	if err != nil {
		return fmt.Errorf("keeping the files in %s: Secret %s/%s is of no use now: %w", *dir, *namespace, certificates.SecretName(*gateway), err)
	}
	changed, err := bundle.Write(*dir)
	if err != nil {
		return err
	}
	slog.New(slog.NewJSONHandler(os.Stderr, nil)).Info("Certificate is up to date", "replaced", changed, "validUntil", until.UTC().Format(time.RFC3339))
	return nil
}

func writeUnits(dir string, units map[string]string) error {
	for name, text := range units {
		// Units are read by everybody, and hold nothing secret.
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing the systemd unit: %w", err)
		}
	}
	return nil
}

// certificatesService is a systemd unit: 1 user, 2 command, 3 directory of the certificate.
const certificatesService = `[Unit]
Description=Client certificate of the gateway of tenant control planes
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User=%[1]s
ExecStartPre=+/usr/bin/install -d -o %[1]s -m 0750 %[3]s
ExecStart=%[2]s
ReadWritePaths=-%[3]s
CapabilityBoundingSet=
` + hardening + `RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
`

const certificatesTimer = `[Unit]
Description=Client certificate of the gateway of tenant control planes, every hour

[Timer]
OnBootSec=0
OnUnitInactiveSec=1h
RandomizedDelaySec=5min

[Install]
WantedBy=timers.target
`
