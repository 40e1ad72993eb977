// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/envoy"
)

func TestBootstrapWritesWhatRunReads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	var out bytes.Buffer
	err := command([]string{"bootstrap", "--gateway", "edge", "--xds-address", "192.0.2.1:18000", "--xds-server-name", "xds.example",
		"--output", file, "--systemd", "--user", "gw"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	config, err := bootstrap.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if config.Node.Gateway != "edge" || config.XDS.ServerName != "xds.example" || config.XDS.KeyFile != "/etc/kamaji-gateway/tls/tls.key" {
		t.Errorf("config %+v", config)
	}
	for _, want := range []string{"User=gw\n", " run --bootstrap " + file + "\n", "TimeoutStopSec=30\n", " -o gw -m 0700 /var/lib/kamaji-gateway\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the unit lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "%!") {
		t.Errorf("the unit is badly formatted:\n%s", out.String())
	}
}

func TestEnvoysFilesAndUnit(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	err := command([]string{"envoy", "--gateway", "edge", "--instance", "edge-1", "--xds-address", "192.0.2.1:18000", "--private-address", "10.0.0.5",
		"--port", "6443", "--dir", dir, "--user", "gw", "--envoy", "/opt/envoy"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, envoy.BootstrapFile))
	if err != nil || !strings.Contains(string(data), "id: edge/edge-1\n") {
		t.Errorf("bootstrap: %v\n%s", err, data)
	}
	_, line, _ := strings.Cut(out.String(), "ExecStart=")
	line, _, _ = strings.Cut(line, "\n")
	own, envoys, found := strings.Cut(line, " -- ")
	if want := "/opt/envoy --config-path " + filepath.Join(dir, envoy.BootstrapFile) + " --disable-hot-restart"; !found || envoys != want {
		t.Errorf("the unit runs %q, want %q", envoys, want)
	}
	// The flags are ones that companion takes.
	flags := flag.NewFlagSet("companion", flag.ContinueOnError)
	rule, ports, _ := redirectFlags(flags)
	flags.Int("drain-seconds", 0, "")
	if err := flags.Parse(strings.Fields(own)[2:]); err != nil {
		t.Fatal(err)
	}
	if err := complete(rule, *ports); err != nil || rule.Name != "kamaji-gateway-edge-1" || rule.Address.String() != "10.0.0.5" || len(rule.Ports) != 2 {
		t.Errorf("%+v, %v", rule, err)
	}
}

func TestCommands(t *testing.T) {
	for _, tc := range []struct {
		args, out, err string
	}{
		{"", "kamaji-gateway [run] --bootstrap FILE", ""},
		{"help", "kamaji-gateway [run] --bootstrap FILE", ""},
		{"version", "dev (commit unknown)", ""},
		{"--version", "dev (commit unknown)", ""},
		{"run", "", "--bootstrap"},
		{"run --bootstrap /nonexistent/file", "", "/nonexistent/file"},
		{"--bootstrap=/nonexistent/file", "", "/nonexistent/file"},
		{"bootstrap --gateway a/b", "", "node.gateway"},
		{"envoy --gateway edge --xds-address 192.0.2.1:18000", "", "--private-address"},
		{"envoy --gateway a/b --xds-address 192.0.2.1 --private-address 10.0.0.5 --port 6443", "", "xds-address"},
		{"companion", "", "--instance"},
		{"companion --instance a --private-address 10.0.0.5 --port 6443 --tenant-ports 6000-7000", "", "holds --port 6443"},
		{"companion --instance a --private-address 10.0.0.5 --port 6443 --tenant-ports 7000-6000", "", "not first-last"},
		{"companion --instance a --private-address edge --port 6443", "", "private-address"},
		{"serve", "", `unknown command "serve"`},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var out bytes.Buffer
			err := command(strings.Fields(tc.args), &out)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) || !strings.Contains(out.String(), tc.out) {
				t.Errorf("printed %q, error %v", out.String(), err)
			}
		})
	}
}
