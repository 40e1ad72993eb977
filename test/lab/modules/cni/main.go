// SPDX-License-Identifier: Apache-2.0

// Command flannel is the CNI plugin that flannel's network configuration
// names: it turns the subnet that flanneld leased for this node into a bridge
// configuration and hands over to the bridge plugin.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// Places that upstream's plugin uses too: flanneld writes the first, and what
// was asked for at ADD is kept in the second for DEL, when the lease may be gone.
const (
	defaultSubnetFile = "/run/flannel/subnet.env"
	defaultDataDir    = "/var/lib/cni/flannel"
)

// config is the network configuration on standard input.
type config struct {
	types.NetConf
	SubnetFile    string         `json:"subnetFile"`
	DataDir       string         `json:"dataDir"`
	Delegate      map[string]any `json:"delegate"`
	RuntimeConfig map[string]any `json:"runtimeConfig"`
}

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: remove, Check: func(*skel.CmdArgs) error { return nil }},
		version.All, "flannel: bridge with the node's leased subnet")
}

func add(args *skel.CmdArgs) error {
	conf, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	lease, err := readLease(conf.SubnetFile)
	if err != nil {
		return err
	}
	delegate, err := json.Marshal(bridge(conf, lease))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(conf.DataDir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(conf.DataDir, args.ContainerID), delegate, 0o600); err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(context.Background(), "bridge", delegate, nil)
	if err != nil {
		return fmt.Errorf("adding to the bridge: %w", err)
	}
	return types.PrintResult(result, conf.CNIVersion)
}

func remove(args *skel.CmdArgs) error {
	conf, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	path := filepath.Join(conf.DataDir, args.ContainerID)
	delegate, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil // never added, or removed before: DEL must succeed again
	}
	if err != nil {
		return err
	}
	if err := invoke.DelegateDel(context.Background(), "bridge", delegate, nil); err != nil {
		return fmt.Errorf("removing from the bridge: %w", err)
	}
	return os.Remove(path)
}

func parse(data []byte) (config, error) {
	conf := config{SubnetFile: defaultSubnetFile, DataDir: defaultDataDir}
	if err := json.Unmarshal(data, &conf); err != nil {
		return conf, fmt.Errorf("reading the network configuration: %w", err)
	}
	return conf, nil
}

// readLease reads the NAME=value lines that flanneld wrote.
func readLease(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading flanneld's lease: %w", err)
	}
	defer file.Close()
	lease := map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, found := strings.Cut(strings.TrimSpace(lines.Text()), "="); found {
			lease[name] = value
		}
	}
	// The lease names the bridge's own address, as in 10.244.1.1/24; host-local wants the subnet.
	subnet, err := netip.ParsePrefix(lease["FLANNEL_SUBNET"])
	if err != nil || lease["FLANNEL_NETWORK"] == "" {
		return nil, fmt.Errorf("flanneld's lease in %s has no subnet: %w", path, err)
	}
	lease["FLANNEL_SUBNET"] = subnet.Masked().String()
	return lease, nil
}

// bridge completes the delegate configuration by what the lease says; settings
// of the delegate win.
func bridge(conf config, lease map[string]string) map[string]any {
	delegate := map[string]any{
		"cniVersion": conf.CNIVersion, "name": conf.Name, "type": "bridge", "isGateway": true,
		// flanneld masquerades by itself when told so, the bridge otherwise.
		"ipMasq": lease["FLANNEL_IPMASQ"] != "true",
		"ipam": map[string]any{
			"type":   "host-local",
			"ranges": [][]map[string]string{{{"subnet": lease["FLANNEL_SUBNET"]}}},
			"routes": []map[string]string{{"dst": lease["FLANNEL_NETWORK"]}},
		},
	}
	if mtu, err := strconv.Atoi(lease["FLANNEL_MTU"]); err == nil {
		delegate["mtu"] = mtu
	}
	if len(conf.RuntimeConfig) > 0 {
		delegate["runtimeConfig"] = conf.RuntimeConfig
	}
	for name, value := range conf.Delegate {
		delegate[name] = value
	}
	return delegate
}
