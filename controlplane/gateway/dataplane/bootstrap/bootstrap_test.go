// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const minimal = `
node: {gateway: default}
xds:
  address: kamaji-xds.kamaji-system.svc:18000
  caFile: /tls/ca.crt
  certFile: /tls/tls.crt
  keyFile: /tls/tls.key
`

func TestLoadDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Node: Node{Gateway: "default", Instance: host},
		XDS: XDS{
			Address: "kamaji-xds.kamaji-system.svc:18000",
			CAFile:  "/tls/ca.crt", CertFile: "/tls/tls.crt", KeyFile: "/tls/tls.key",
		},
		HealthAddress: DefaultHealthAddress,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if want := "default/" + host; got.Node.ID() != want {
		t.Errorf("node id = %s, want %s", got.Node.ID(), want)
	}
	if got.Drain() != DefaultDrainSeconds*time.Second {
		t.Errorf("drain = %s", got.Drain())
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	zero := 0
	want := &Config{
		Node:          Node{Gateway: "edge", Instance: "a"},
		XDS:           XDS{Address: "192.0.2.1:18000", ServerName: "xds.example", CAFile: "/a", CertFile: "/b", KeyFile: "/c"},
		StateDir:      "/var/lib/kamaji-gateway",
		HealthAddress: "127.0.0.1:9902",
		DrainSeconds:  &zero,
	}
	data, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if got.Drain() != 0 {
		t.Errorf("drain = %s, want none", got.Drain())
	}
}

func TestParseErrorsNameTheField(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []string
	}{
		{"empty", "", []string{"node.gateway", "xds.address", "xds.caFile", "xds.certFile", "xds.keyFile"}},
		{"unknown field", minimal + "stateDirectory: /x\n", []string{"stateDirectory"}},
		{"node id as gateway", strings.Replace(minimal, "default", "default/a", 1), []string{"node.gateway"}},
		{"no port", strings.Replace(minimal, ":18000", "", 1), []string{"xds.address"}},
		{"relative path", strings.Replace(minimal, "/tls/ca.crt", "ca.crt", 1), []string{"xds.caFile", "absolute"}},
		{"relative state", minimal + "stateDir: state\n", []string{"stateDir"}},
		{"bad health address", minimal + "healthAddress: localhost\n", []string{"healthAddress"}},
		{"negative drain", minimal + "drainSeconds: -1\n", []string{"drainSeconds"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.in))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not name %q", err, want)
				}
			}
		})
	}
}
