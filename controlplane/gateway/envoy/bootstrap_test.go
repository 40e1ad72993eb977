// SPDX-License-Identifier: Apache-2.0

package envoy

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds/xdstest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

var config = Config{
	Gateway: "edge", Instance: "edge-1", XDSAddress: "192.0.2.10:18000", XDSServerName: "kamaji-xds.kamaji-system.svc",
	TLSDir: "/etc/kamaji-gateway/tls", Dir: "/etc/kamaji-gateway", AdminSocket: "/run/kamaji-gateway/admin.sock",
}

func TestFiles(t *testing.T) {
	files, err := config.Files()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all.WriteString("# " + name + "\n" + string(files[name]))
	}
	golden.Text(t, filepath.Join("testdata", "files.golden.yaml"), all.String())
	// What Envoy does with them first: read them strictly, and check the rules of every field.
	for name, into := range map[string]proto.Message{
		BootstrapFile: &bootstrapv3.Bootstrap{}, certificateFile: &discoveryv3.DiscoveryResponse{}, authorityFile: &discoveryv3.DiscoveryResponse{},
	} {
		data, err := yaml.YAMLToJSON(files[name])
		if err != nil {
			t.Fatal(err)
		}
		if err := protojson.Unmarshal(data, into); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := xdstest.Validate(name, into); err != nil {
			t.Error(err)
		}
	}
}

func TestKindsOfControlPlane(t *testing.T) {
	named := config
	named.XDSAddress, named.XDSServerName = "kamaji-xds.kamaji-system.svc:18000", ""
	sixth := config
	sixth.XDSAddress = "[2001:db8::10]:18000"
	for _, tc := range []struct {
		config                Config
		kind, address, server string
	}{
		{config, "STATIC", "192.0.2.10", "kamaji-xds.kamaji-system.svc"},
		{named, "STRICT_DNS", "kamaji-xds.kamaji-system.svc", "kamaji-xds.kamaji-system.svc"},
		{sixth, "STATIC", "2001:db8::10", "kamaji-xds.kamaji-system.svc"},
	} {
		b, err := tc.config.Bootstrap()
		if err != nil {
			t.Fatal(err)
		}
		cluster := b.GetStaticResources().GetClusters()[0]
		endpoint := cluster.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint()
		if cluster.GetType().String() != tc.kind || endpoint.GetAddress().GetSocketAddress().GetAddress() != tc.address {
			t.Errorf("%s: %s %s", tc.config.XDSAddress, cluster.GetType(), endpoint)
		}
		data, err := protojson.Marshal(b)
		if err != nil || !strings.Contains(string(data), `"`+tc.server+`"`) {
			t.Errorf("%s: no server name %s, %v", tc.config.XDSAddress, tc.server, err)
		}
	}
}

func TestMistakesAreNamed(t *testing.T) {
	_, err := Config{Gateway: "a/b", XDSAddress: "host", TLSDir: "tls", Dir: "/ok", AdminSocket: ""}.Files()
	for _, want := range []string{"gateway:", "xds-address:", "tls-dir:", "admin-socket:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %s", err, want)
		}
	}
}
