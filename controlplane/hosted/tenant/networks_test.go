// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
)

func TestNetworksFollowNodes(t *testing.T) {
	node := func(name, address string, pods ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
		n.Spec.PodCIDRs = pods
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}, {Type: corev1.NodeHostName, Address: name}}
		slim, err := SlimNode(n)
		if err != nil {
			t.Fatal(err)
		}
		return slim.(*corev1.Node)
	}
	n := networks{nodes: map[types.UID][]netip.Prefix{}, servers: []netip.Prefix{netip.MustParsePrefix("203.0.113.9/32")}}
	check := func(what string, want ...string) {
		t.Helper()
		var have []string
		for _, p := range n.all() {
			have = append(have, p.String())
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s (-want +have):\n%s", what, diff)
		}
	}
	check("no node", "203.0.113.9/32")
	n.see(node("b", "172.18.0.3", "10.244.1.0/24", "fd00:1::/64"), false)
	n.see(node("a", "172.18.0.2", "10.244.0.0/24"), false)
	all := []string{"10.244.0.0/24", "10.244.1.0/24", "172.18.0.2/32", "172.18.0.3/32", "203.0.113.9/32", "fd00:1::/64"}
	check("two nodes", all...)
	before := &n.all()[0]
	n.see(node("a", "172.18.0.2", "10.244.0.0/24"), false)
	if before != &n.all()[0] {
		t.Error("a heartbeat makes the list anew")
	}
	n.see(node("a", "172.18.0.7", "10.244.0.0/24"), false)
	check("another address", "10.244.0.0/24", "10.244.1.0/24", "172.18.0.3/32", "172.18.0.7/32", "203.0.113.9/32", "fd00:1::/64")
	n.see(toolscache.DeletedFinalStateUnknown{Obj: node("b", "172.18.0.3")}, true)
	check("one is gone", "10.244.0.0/24", "172.18.0.7/32", "203.0.113.9/32")
}
