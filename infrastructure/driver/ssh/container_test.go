// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/drivertest"
	rackssh "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/ssh"
)

// TestContractInContainer needs RACK_TEST_IMAGE: an image of a lab host with systemd, sshd, containerd and kubeadm.
func TestContractInContainer(t *testing.T) {
	image := os.Getenv("RACK_TEST_IMAGE")
	if image == "" {
		t.Skip("RACK_TEST_IMAGE names no image of a lab host")
	}
	drivertest.Run(t, func(t *testing.T) drivertest.Host { return newContainer(t, image) })
}

// container is a whole operating system; only kubeadm join is a stand-in. Payloads are those of the sandbox.
type container struct {
	sandbox
	id            string
	client, other keyPair
}

func newContainer(t *testing.T, image string) *container {
	t.Helper()
	c := &container{client: newKeyPair(t), other: newKeyPair(t)}
	c.id = strings.TrimSpace(c.docker(t, "run", "-d", "--privileged", "--cgroupns=private", "--security-opt", "seccomp=unconfined",
		"--security-opt", "apparmor=unconfined", "--tmpfs", "/tmp", "--tmpfs", "/run", "--volume", "/var", image))
	t.Cleanup(func() { c.docker(t, "rm", "-f", "-v", c.id) })
	c.ready(t)
	c.docker(t, "cp", "testdata/container/kubeadm", c.id+":/usr/local/sbin/kubeadm")
	c.sh(t, "chmod 0755 /usr/local/sbin/kubeadm; rm -f /etc/cni/net.d/*; mkdir -p -m 0700 /root/.ssh; cat >/root/.ssh/authorized_keys <<E\n"+c.client.authorized+"E\n")
	return c
}

func (c *container) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).Output()
	if err != nil {
		t.Fatalf("docker %s: %v", args[0], err)
	}
	return string(out)
}

func (c *container) sh(t *testing.T, text string) string {
	t.Helper()
	return c.docker(t, "exec", c.id, "sh", "-c", text)
}

// ready waits in the container for the end of the boot, whatever that is, and for sshd.
func (c *container) ready(t *testing.T) {
	t.Helper()
	c.sh(t, "until [ -S /run/dbus/system_bus_socket ]; do sleep 0.1; done; systemctl is-system-running --wait >/dev/null; ssh-keygen -A >/dev/null; systemctl start ssh")
}

func (c *container) Dial(ctx context.Context, target driver.Target) (driver.Driver, error) {
	return rackssh.Dial(ctx, target)
}

func (c *container) Target() driver.Target {
	address, err := exec.Command("docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", c.id).Output()
	if err != nil {
		return driver.Target{}
	}
	key, err := exec.Command("docker", "exec", c.id, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").Output()
	if err != nil {
		return driver.Target{}
	}
	return driver.Target{Address: strings.TrimSpace(string(address)), User: "root", PrivateKey: c.client.private, HostKeys: []string{string(key)}}
}

func (c *container) WrongHostKey() string { return c.client.authorized }

func (c *container) WrongPrivateKey() []byte { return c.other.private }

func (c *container) Reboot(t *testing.T) {
	t.Helper()
	c.docker(t, "restart", "-t", "0", c.id)
	c.ready(t)
}

func (c *container) Joins(t *testing.T) int {
	t.Helper()
	return strings.Count(c.sh(t, "cat /var/joins 2>/dev/null || :"), "join\n")
}
