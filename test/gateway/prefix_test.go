// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// ownNetwork is set in the environment of a test that was started in a network namespace of its own.
const ownNetwork = "GATEWAY_TEST_OWN_NETWORK"

// Tenants' addresses are on no interface: the route that the documentation gives makes their network local, and one socket takes the
// connections to all of them. Without the route they lead nowhere.
func TestTenantAddressesAreLocalByARoute(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		inOwnNetwork(t)
		return
	}
	ip(t, "link set lo up")
	w := newWorld(t)
	w.gateway.PublicAddress, w.gateway.PrivateAddress = netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("10.0.0.5")
	w.gateway.PrivatePrefix, w.gateway.Port = netip.MustParsePrefix("10.255.0.0/16"), 6443
	must(t, w.state.SetGateway(w.gateway))
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	a.Address, b.Address = netip.MustParseAddr("10.255.0.1"), netip.MustParseAddr("10.255.77.2")
	for _, n := range []*tenant{a, b} {
		w.set(t, n.Tenant, n.backends)
	}
	startEmbedded(t, w)
	if _, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", w.address(a.Tenant).String()); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("without a route: %v, want an unreachable network", err)
	}
	ip(t, "route add local 10.255.0.0/16 dev lo")
	ip(t, "address add 10.0.0.5/32 dev lo")
	for _, n := range []*tenant{a, b} {
		open(t, visit{to: w.address(n.Tenant)}, n.Name+" apiserver")
		open(t, visit{to: w.address(n.Tenant), name: "kubernetes.default.svc"}, n.Name+" apiserver")
		open(t, visit{to: w.address(n.Tenant), protocols: agent}, n.Name+" konnectivity")
		open(t, visit{to: w.own(n.Tenant)}, n.Name+" apiserver")
	}
	for _, nobody := range []string{"10.255.0.2", "127.0.0.1"} { // in the network but no tenant's, and outside but on the wildcard
		if _, got := connect(t, visit{to: netip.AddrPortFrom(netip.MustParseAddr(nobody), w.gateway.Port)}); got != "" {
			t.Errorf("a connection to %s reaches %s", nobody, got)
		}
	}
}

// inOwnNetwork runs the test again, in a network namespace of its own.
func inOwnNetwork(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip isn't installed: apt-get install iproute2")
	}
	self := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	self.Env = append(os.Environ(), ownNetwork+"=1")
	self.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := self.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// ip changes the network namespace that the process is in.
func ip(t *testing.T, arguments string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", arguments, err, out)
	}
}
