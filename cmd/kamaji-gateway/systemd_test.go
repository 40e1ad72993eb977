// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemd itself reads the units that this program writes, and finds nothing to complain about.
func TestSystemdTakesTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze isn't installed: apt-get install systemd")
	}
	dir := t.TempDir()
	units := map[string][]string{
		"kamaji-gateway.service": {"bootstrap", "--gateway", "edge", "--xds-address", "192.0.2.1:18000", "--output", filepath.Join(dir, "bootstrap.yaml"), "--systemd", "--user", "daemon"},
		"kamaji-gateway-envoy.service": {
			"envoy", "--gateway", "edge", "--xds-address", "192.0.2.1:18000", "--private-address", "10.0.0.5", "--port", "6443", "--dir", dir, "--user", "daemon", "--envoy", "/usr/bin/true",
		},
	}
	for name, args := range units {
		var out bytes.Buffer
		if err := command(args, &out); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := command([]string{"certificates", "--gateway", "edge", "--user", "daemon", "--systemd", dir}, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	verify := func(file string) string {
		out, err := exec.Command(analyze, "verify", "--man=no", "--generators=no", file).CombinedOutput()
		if err != nil && len(out) == 0 {
			return err.Error()
		}
		// It also reads what the system's own units say.
		var about []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "kamaji-gateway") {
				about = append(about, line)
			}
		}
		return strings.Join(about, "")
	}
	for _, name := range []string{"kamaji-gateway.service", "kamaji-gateway-envoy.service", certificatesName + ".service", certificatesName + ".timer"} {
		if said := verify(filepath.Join(dir, name)); said != "" {
			t.Errorf("%s:\n%s", name, said)
		}
	}
	// The check is worth something: a unit with a mistake is found.
	text, err := os.ReadFile(filepath.Join(dir, "kamaji-gateway.service"))
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "kamaji-gateway-broken.service")
	if err := os.WriteFile(broken, bytes.Replace(text, []byte("ProtectSystem=strict"), []byte("ProtectSystme=strict"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if verify(broken) == "" {
		t.Error("a unit with an unknown setting passes")
	}
}
