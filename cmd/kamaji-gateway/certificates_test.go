// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCertificateUnits(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	args := []string{"certificates", "--gateway", "edge", "--kubeconfig", "/etc/kamaji-gateway/kubeconfig", "--user", "gw", "--systemd", dir}
	if err := command(args, &out); err != nil {
		t.Fatal(err)
	}
	for file, lines := range map[string][]string{
		"kamaji-gateway-certificates.service": {
			"User=gw\n", " certificates --gateway edge --namespace kamaji-system --kubeconfig /etc/kamaji-gateway/kubeconfig --tls-dir /etc/kamaji-gateway/tls\n",
			"install -d -o gw -m 0750 /etc/kamaji-gateway/tls\n", "ReadWritePaths=-/etc/kamaji-gateway/tls\n",
		},
		"kamaji-gateway-certificates.timer": {"OnUnitInactiveSec=1h\n", "WantedBy=timers.target\n"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range lines {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q:\n%s", file, want, text)
			}
		}
		if strings.Contains(string(text), "%!") {
			t.Errorf("%s is badly formatted:\n%s", file, text)
		}
	}
	for args, want := range map[string]string{
		"certificates": "want --gateway",
		"certificates --gateway a%b --systemd " + dir:               "systemd unit",
		"certificates --gateway edge --kubeconfig " + dir + "/none": "reading the kubeconfig",
	} {
		if err := command(strings.Fields(args), &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}
