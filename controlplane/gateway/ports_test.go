// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

func TestCandidatesVisitEveryUsablePortOnce(t *testing.T) {
	tenant := types.NamespacedName{Namespace: "a", Name: "c1"}
	for _, r := range []v1alpha2.PortRange{{First: 10000, Last: 32767}, {First: 10247, Last: 10261}, {First: 20000, Last: 20000}, {First: 20000, Last: 20001}} {
		for _, preferred := range []int32{0, r.First, r.Last, 5} {
			got := slices.Collect(candidates(r, preferred, tenant))
			if preferred >= r.First && got[0] != preferred {
				t.Errorf("%v, preferring %d: the first candidate is %d", r, preferred, got[0])
			}
			slices.Sort(got)
			want := []int32{}
			for port := r.First; port <= r.Last; port++ {
				if port < 10248 || port > 10260 {
					want = append(want, port)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v, preferring %d: %d candidates, want each of %d ports once", r, preferred, len(got), len(want))
			}
		}
	}
}

func TestCandidatesAreStableAndDiffer(t *testing.T) {
	r := v1alpha2.PortRange{First: 10000, Last: 32767}
	head := func(name string) []int32 {
		var got []int32
		for port := range candidates(r, 0, types.NamespacedName{Namespace: "a", Name: name}) {
			if got = append(got, port); len(got) == 3 {
				break
			}
		}
		return got
	}
	if a, b := head("c1"), head("c1"); !slices.Equal(a, b) {
		t.Errorf("the same tenant gets %v, then %v", a, b)
	}
	if a, b := head("c1"), head("c2"); slices.Equal(a, b) {
		t.Errorf("two tenants get the same sequence %v", a)
	}
}

func TestCandidatesLeaveOutUnusablePreference(t *testing.T) {
	r := v1alpha2.PortRange{First: 10200, Last: 10300}
	for port := range candidates(r, 10250, types.NamespacedName{Namespace: "a", Name: "c1"}) {
		if port == 10250 {
			t.Error("kubelet's port is a candidate")
		}
	}
}

func lease(port int32, released *metav1.Time) v1alpha2.GatewayPortLease {
	return v1alpha2.GatewayPortLease{
		ObjectMeta: metav1.ObjectMeta{Name: leaseName("default", port)},
		Spec:       v1alpha2.GatewayPortLeaseSpec{Gateway: "default", Port: port, Tenant: v1alpha2.LeaseTenant{Namespace: "a", Name: "c1"}},
		Status:     v1alpha2.GatewayPortLeaseStatus{ReleasedAt: released},
	}
}

func TestBestLease(t *testing.T) {
	now := metav1.Now()
	leases := []v1alpha2.GatewayPortLease{lease(20003, &now), lease(20002, nil), lease(20001, nil)}
	for preferred, want := range map[int32]int32{0: 20001, 20002: 20002, 20003: 20003, 20009: 20001} {
		if got := best(leases, preferred).Spec.Port; got != want {
			t.Errorf("preferring %d: got %d, want %d", preferred, got, want)
		}
	}
}

func TestDue(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-ago)} }
	tenant := func(gateway, on string, port int32) *kamajiv1alpha1.TenantControlPlane {
		tcp := &kamajiv1alpha1.TenantControlPlane{}
		if gateway != "" {
			tcp.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: gateway}
		}
		if on != "" {
			tcp.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{Name: on, TenantPort: port}
		}
		return tcp
	}
	for _, tc := range []struct {
		name     string
		released *metav1.Time
		tenant   *kamajiv1alpha1.TenantControlPlane
		want     action
		after    time.Duration
	}{
		{"in use", nil, tenant("default", "default", 20001), keep, 0},
		{"status wiped", nil, tenant("default", "", 0), keep, 0},
		{"status still on the former gateway", nil, tenant("default", "other", 30000), keep, 0},
		{"tenant gone", nil, nil, release, 0},
		{"tenant without gateway", nil, tenant("", "", 0), release, 0},
		{"tenant on another gateway", nil, tenant("other", "default", 20001), release, 0},
		{"tenant has another port", nil, tenant("default", "default", 20002), release, 0},
		{"released an hour ago", at(time.Hour), nil, keep, 23 * time.Hour},
		{"released a day ago", at(24 * time.Hour), nil, free, 0},
		{"released, tenant has another port", at(25 * time.Hour), tenant("default", "default", 20002), free, 0},
		{"released, tenant is back", at(25 * time.Hour), tenant("default", "", 0), keep, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := lease(20001, tc.released)
			got, after := due(&l, tc.tenant, now)
			if got != tc.want || after != tc.after {
				t.Errorf("got %v after %s, want %v after %s", got, after, tc.want, tc.after)
			}
		})
	}
}
