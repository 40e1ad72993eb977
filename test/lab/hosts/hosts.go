// SPDX-License-Identifier: Apache-2.0

// Package hosts runs the machines of the lab's rack: containers with systemd,
// sshd, containerd and kubelet, on a network without a way out.
package hosts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cluster"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
)

// Prefix begins the names of hosts; a number follows.
const Prefix = cluster.Name + "-host-"

// boot is how long a host may take until sshd runs; 3 seconds are usual.
const boot = time.Minute

// Name is the name of a host by its number, from 0.
func Name(number int) string {
	return fmt.Sprintf("%s%d", Prefix, number)
}

// Create starts a host from the node image and waits until sshd runs, with the
// lab's key authorized for root. A host that runs from that image is kept.
func Create(ctx context.Context, name, image string) error {
	state, err := command.Output(ctx, "docker", "inspect", "--format", "{{.State.Running}} {{.Config.Image}}", name)
	if err == nil && state == "true "+image {
		return nil
	}
	if err := Delete(ctx, name); err != nil {
		return err
	}
	public, err := authorized()
	if err != nil {
		return err
	}
	// What kind gives its nodes; without a control group namespace of its own a kubelet doesn't start.
	err = command.Run(ctx, "docker", "run", "-d", "--name", name, "--hostname", name, "--label", cluster.Name+".host=true",
		"--network", cluster.Network, "--restart", "on-failure:1", "--privileged", "--cgroupns", "private", "--init=false",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
		"--tmpfs", "/tmp", "--tmpfs", "/run", "--volume", "/var", "--volume", "/lib/modules:/lib/modules:ro", image)
	if err != nil {
		return err
	}
	if err := running(ctx, name); err != nil {
		return err
	}
	_, err = command.Command{
		Args: []string{"docker", "exec", "-i", name, "sh", "-ec", `
umask 077
mkdir -p /root/.ssh
cat > /root/.ssh/authorized_keys
ssh-keygen -q -A
systemctl enable --now -q isolate ssh
`},
		Stdin: strings.NewReader(public),
	}.Output(ctx)
	return err
}

// running waits for the init system of a host.
func running(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, boot)
	defer cancel()
	for {
		// "degraded" is as good: a unit that can't run in a container has failed.
		state, err := Exec(ctx, name, "systemctl", "is-system-running")
		if state == "running" || state == "degraded" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s doesn't boot, it is %q: %w", name, state, errors.Join(err, ctx.Err()))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// HostKey is the host's public key as in "ssh-ed25519 AAAA…", for pinning.
func HostKey(ctx context.Context, name string) (string, error) {
	line, err := Exec(ctx, name, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
	if err != nil {
		return "", err
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return "", fmt.Errorf("%s has no ed25519 host key: %q", name, line)
	}
	return fields[0] + " " + fields[1], nil
}

// Address is the host's address on the lab's network.
func Address(ctx context.Context, name string) (netip.Addr, error) {
	output, err := command.Output(ctx, "docker", "inspect", "--format",
		fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", cluster.Network), name)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(output)
}

// Exec runs a program on a host, past sshd, and returns its output.
func Exec(ctx context.Context, name string, args ...string) (string, error) {
	return command.Output(ctx, append([]string{"docker", "exec", name}, args...)...)
}

// Delete removes a host with its disk. An absent one is fine.
func Delete(ctx context.Context, name string) error {
	return command.Run(ctx, "docker", "rm", "-f", "-v", name)
}

// Block drops packets between an address and a host or its pods, until Unblock.
func Block(ctx context.Context, name string, address netip.Addr) error {
	return filter(ctx, name, "-I", address)
}

// Unblock takes back one Block.
func Unblock(ctx context.Context, name string, address netip.Addr) error {
	return filter(ctx, name, "-D", address)
}

// filter inserts or deletes the rules of one blocked address.
func filter(ctx context.Context, name, verb string, address netip.Addr) error {
	program := "iptables"
	if address.Is6() {
		program = "ip6tables"
	}
	for _, rule := range [][]string{{"OUTPUT", "-d"}, {"FORWARD", "-d"}, {"INPUT", "-s"}} {
		if _, err := Exec(ctx, name, program, "-w", verb, rule[0], rule[1], address.String(), "-j", "DROP"); err != nil {
			return err
		}
	}
	return nil
}

// List names the hosts that exist, running or not.
func List(ctx context.Context) ([]string, error) {
	output, err := command.Output(ctx, "docker", "ps", "-a", "--filter", "label="+cluster.Name+".host=true", "--format", "{{.Names}}")
	return strings.Fields(output), err
}
