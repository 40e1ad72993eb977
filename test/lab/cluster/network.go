// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
)

const (
	podSubnet = "10.244.0.0/16"
	// readiness is how long nodes may take until Ready; 15 seconds are usual.
	readiness = 3 * time.Minute
)

// Distances of the gateway's addresses from the last address of the network.
// Container engines assign from the low end, so the high end is free.
const (
	publicDistance  = 5
	privateDistance = 4
	// Between these MetalLB has its addresses, where a test asks for it.
	firstBalanced = 29
	lastBalanced  = 10
)

// conflist is the network configuration of one node: pods are links of the
// node, which routes to the other node's pods.
const conflist = `{"cniVersion": "1.0.0", "name": "lab", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state",
   "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
`

// peer is a node as its routes need it.
type peer struct {
	name, podCIDR, address string
}

// PublicAddress is where clients outside reach tenants' API servers.
func PublicAddress(ctx context.Context) (netip.Addr, error) {
	return high(ctx, publicDistance)
}

// PrivateAddress is where tenants' workers reach their API servers.
func PrivateAddress(ctx context.Context) (netip.Addr, error) {
	return high(ctx, privateDistance)
}

// BalancedAddresses is the range of addresses for Services of type LoadBalancer.
func BalancedAddresses(ctx context.Context) (first, last netip.Addr, err error) {
	if first, err = high(ctx, firstBalanced); err != nil {
		return first, last, err
	}
	last, err = high(ctx, lastBalanced)
	return first, last, err
}

// high is the address at a distance from the last one of the lab's network.
func high(ctx context.Context, distance uint32) (netip.Addr, error) {
	output, err := command.Output(ctx, "docker", "network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", Network)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, field := range strings.Fields(output) {
		subnet, err := netip.ParsePrefix(field)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("reading the subnet of network %s: %w", Network, err)
		}
		if subnet.Addr().Is4() && subnet.Bits() <= 26 {
			return fromEnd(subnet, distance), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("network %s has no IPv4 subnet of at least 64 addresses: %q", Network, output)
}

// fromEnd counts back from the last address of an IPv4 subnet.
func fromEnd(subnet netip.Prefix, distance uint32) netip.Addr {
	first := subnet.Masked().Addr().As4()
	last := binary.BigEndian.Uint32(first[:]) | (1<<(32-subnet.Bits()) - 1)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, last-distance)))
}

// connect gives the nodes their network and waits until they are Ready.
// Everything in it may be done again, as after a restart of the engine.
func connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readiness)
	defer cancel()
	nodes, err := peers(ctx)
	if err != nil {
		return err
	}
	for _, here := range nodes {
		if err := plumb(ctx, here, nodes); err != nil {
			return err
		}
	}
	if err := carry(ctx); err != nil {
		return err
	}
	_, err = kubectl(ctx, "wait", "nodes", "--all", "--for=condition=Ready", "--timeout="+readiness.String())
	return err
}

// peers lists the nodes as soon as the controller manager gave all of them a range for pods.
func peers(ctx context.Context) ([]peer, error) {
	for {
		nodes, err := allocated(ctx)
		if err == nil {
			return nodes, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for pod ranges: %w", err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func allocated(ctx context.Context) ([]peer, error) {
	output, err := kubectl(ctx, "get", "nodes", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list corev1.NodeList
	if err := json.Unmarshal([]byte(output), &list); err != nil {
		return nil, fmt.Errorf("reading nodes: %w", err)
	}
	var nodes []peer
	for _, node := range list.Items {
		found := peer{name: node.Name, podCIDR: node.Spec.PodCIDR}
		for _, address := range node.Status.Addresses {
			if address.Type == corev1.NodeInternalIP && !strings.Contains(address.Address, ":") {
				found.address = address.Address
			}
		}
		if found.podCIDR == "" || found.address == "" {
			return nil, fmt.Errorf("node %s has no pod range or address yet", node.Name)
		}
		nodes = append(nodes, found)
	}
	if len(nodes) < 2 {
		return nil, errors.New("not all nodes have joined yet")
	}
	return nodes, nil
}

// plumb writes a node's network configuration, its routes to other nodes' pods
// and one rule that hides pod addresses from everybody but pods.
func plumb(ctx context.Context, here peer, nodes []peer) error {
	var script strings.Builder
	script.WriteString("set -e\ncat > /etc/cni/net.d/10-lab.conflist\n")
	for _, other := range nodes {
		if other.name != here.name {
			fmt.Fprintf(&script, "ip route replace %s via %s\n", other.podCIDR, other.address)
		}
	}
	rule := "POSTROUTING -s " + podSubnet + " ! -d " + podSubnet + " -j MASQUERADE"
	fmt.Fprintf(&script, "iptables -w -t nat -C %s 2>/dev/null || iptables -w -t nat -A %s\n", rule, rule)
	_, err := command.Command{
		Args:  []string{"docker", "exec", "-i", here.name, "sh", "-c", script.String()},
		Stdin: strings.NewReader(fmt.Sprintf(conflist, here.podCIDR)),
	}.Output(ctx)
	return err
}

// carry puts the gateway's addresses on the worker, unless another machine
// of the network answers for them.
func carry(ctx context.Context) error {
	for _, address := range []func(context.Context) (netip.Addr, error){PublicAddress, PrivateAddress} {
		ip, err := address(ctx)
		if err != nil {
			return err
		}
		held, err := command.Output(ctx, "docker", "exec", worker, "ip", "-o", "addr", "show", "to", ip.String()+"/32")
		if err != nil {
			return err
		}
		if held != "" {
			continue
		}
		if err := command.Run(ctx, "docker", "exec", worker, "arping", "-q", "-D", "-c", "2", "-w", "1", "-I", "eth0", ip.String()); err != nil {
			return fmt.Errorf("address %s is in use on network %s: %w", ip, Network, err)
		}
		if err := command.Run(ctx, "docker", "exec", worker, "ip", "addr", "add", ip.String()+"/32", "dev", "eth0"); err != nil {
			return err
		}
	}
	return nil
}
