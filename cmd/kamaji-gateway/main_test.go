// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
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
