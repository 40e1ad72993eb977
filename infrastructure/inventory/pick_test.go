// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// host is free, clean and of 4 CPUs unless changed.
func host(name string, change ...func(*infrav1.RackHost)) infrav1.RackHost {
	h := infrav1.RackHost{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: infrav1.RackHostStatus{
			Phase:      infrav1.HostAvailable,
			Conditions: []metav1.Condition{{Type: infrav1.HostCleanCondition, Status: metav1.ConditionTrue}},
			Facts:      &infrav1.HostFacts{CPUs: 4, Memory: resource.MustParse("8Gi"), KubeadmVersion: "v1.36.3"},
		},
	}
	for _, f := range change {
		f(&h)
	}
	return h
}

func label(key, value string) func(*infrav1.RackHost) {
	return func(h *infrav1.RackHost) { metav1.SetMetaDataLabel(&h.ObjectMeta, key, value) }
}

func taint(key string, effect corev1.TaintEffect) func(*infrav1.RackHost) {
	return func(h *infrav1.RackHost) {
		h.Spec.Taints = append(h.Spec.Taints, corev1.Taint{Key: key, Effect: effect})
	}
}

func in(phase infrav1.HostPhase, reason string) func(*infrav1.RackHost) {
	return func(h *infrav1.RackHost) {
		h.Status.Phase = phase
		h.Status.Conditions = append(h.Status.Conditions, metav1.Condition{Type: infrav1.HostReadyCondition, Status: metav1.ConditionFalse, Reason: reason})
	}
}

func TestPick(t *testing.T) {
	cpus := func(n int32) func(*infrav1.RackHost) { return func(h *infrav1.RackHost) { h.Status.Facts.CPUs = n } }
	prefer := func(weight int32, value string) infrav1.HostPreference {
		return infrav1.HostPreference{Weight: weight, MatchLabels: map[string]string{"disk": value}}
	}
	for name, c := range map[string]struct {
		request Request
		hosts   []infrav1.RackHost
		claimed map[string]bool
		want    []string
		explain string
	}{
		"no hosts at all": {explain: "there is no RackHost in this namespace"},
		"by name among equals": {
			hosts: []infrav1.RackHost{host("b"), host("a")},
			want:  []string{"a", "b"},
		},
		"the smaller first": {
			hosts: []infrav1.RackHost{host("a", cpus(64)), host("b"), host("c", cpus(8))},
			want:  []string{"b", "c", "a"},
		},
		"the same kubeadm before the smaller": {
			request: Request{Version: "v1.36.3"},
			hosts:   []infrav1.RackHost{host("a", cpus(2), func(h *infrav1.RackHost) { h.Status.Facts.KubeadmVersion = "v1.35.0" }), host("b")},
			want:    []string{"b", "a"},
		},
		"weights add up": {
			request: Request{Selector: infrav1.HostSelector{Preferred: []infrav1.HostPreference{prefer(30, "nvme"), prefer(50, "ssd"), prefer(30, "nvme")}}},
			hosts:   []infrav1.RackHost{host("hdd", label("disk", "hdd")), host("ssd", label("disk", "ssd")), host("nvme", label("disk", "nvme"))},
			want:    []string{"nvme", "ssd", "hdd"},
		},
		"labels, expressions, failure domain": {
			request: Request{FailureDomain: "r1", Selector: infrav1.HostSelector{
				MatchLabels:      map[string]string{"gpu": "yes"},
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "old", Operator: metav1.LabelSelectorOpDoesNotExist}},
			}},
			hosts: []infrav1.RackHost{
				host("a", label("gpu", "no")), host("b", label("gpu", "yes"), label("old", "")), host("c", label("gpu", "yes")),
			},
			explain: `none of 3 hosts can be taken: 2 don't match hostSelector, 1 not in failure domain "r1"`,
		},
		"taints": {
			request: Request{Tolerations: []corev1.Toleration{{Key: "mine", Operator: corev1.TolerationOpExists}}},
			hosts: []infrav1.RackHost{
				host("a", taint("mine", corev1.TaintEffectNoSchedule)), host("b", taint("theirs", corev1.TaintEffectNoSchedule)),
				host("c"), host("0", taint("soft", corev1.TaintEffectPreferNoSchedule)),
			},
			want: []string{"a", "c", "0"},
		},
		"busy, broken, dirty": {
			hosts: []infrav1.RackHost{
				host("a"), host("b", in(infrav1.HostRunning, "Running"), func(h *infrav1.RackHost) { h.Status.Claim = &infrav1.HostClaimReference{ID: "x"} }),
				host("c", in(infrav1.HostRegistering, infrav1.HostUnreachableReason)), host("d", in(infrav1.HostQuarantined, infrav1.HostForeignReason)),
				host("e", in(infrav1.HostCleaning, infrav1.HostCleaningReason)), host("f", func(h *infrav1.RackHost) { h.Status.Conditions = nil }),
				host("g", func(h *infrav1.RackHost) { h.Spec.Unavailable = true }), host("h", func(h *infrav1.RackHost) { h.Status = infrav1.RackHostStatus{} }),
				host("i", func(h *infrav1.RackHost) { now := metav1.Now(); h.DeletionTimestamp = &now }),
			},
			claimed: map[string]bool{"a": true},
			explain: "none of 9 hosts can be taken: 2 claimed, 1 being deleted, 1 cleaning, 1 marked unavailable, 1 not verified clean, " +
				"1 quarantined (InUseByOther), 1 registering, 1 registering (Unreachable)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Pick(c.request, c.hosts, c.claimed)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Hosts); diff != "" {
				t.Errorf("hosts (-want +got):\n%s", diff)
			}
			if explain := got.Explain(); c.explain != "" && explain != c.explain {
				t.Errorf("explanation\n got %s\nwant %s", explain, c.explain)
			}
		})
	}
}

func TestPickRefusesSelector(t *testing.T) {
	bad := []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Near"}}
	for want, s := range map[string]infrav1.HostSelector{
		`hostSelector: "Near" is not a valid label selector operator`:              {MatchExpressions: bad},
		`hostSelector.preferred[0]: "Near" is not a valid label selector operator`: {Preferred: []infrav1.HostPreference{{Weight: 1, MatchExpressions: bad}}},
	} {
		if _, err := Pick(Request{Selector: s}, nil, nil); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestPickNeverOffersTakenHosts tries many random inventories.
func TestPickNeverOffersTakenHosts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	phases := []infrav1.HostPhase{infrav1.HostAvailable, infrav1.HostAvailable, infrav1.HostRunning, infrav1.HostDirty, infrav1.HostQuarantined, ""}
	for range 200 {
		claimed := map[string]bool{}
		free := map[string]bool{}
		hosts := make([]infrav1.RackHost, random.IntN(20))
		for i := range hosts {
			name := strconv.Itoa(i)
			hosts[i] = host(name, in(phases[random.IntN(len(phases))], "x"))
			claimed[name] = random.IntN(2) == 0
			free[name] = !claimed[name] && hosts[i].Status.Phase == infrav1.HostAvailable
		}
		got, err := Pick(Request{}, hosts, claimed)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range got.Hosts {
			if !free[name] {
				t.Fatalf("offered host %s of %+v", name, hosts)
			}
			delete(free, name)
		}
		for name, left := range free {
			if left {
				t.Fatalf("did not offer free host %s", name)
			}
		}
	}
}

func TestFailureDomains(t *testing.T) {
	fd := func(name string) func(*infrav1.RackHost) {
		return func(h *infrav1.RackHost) { h.Spec.FailureDomain = name }
	}
	gone := func(h *infrav1.RackHost) { now := metav1.Now(); h.DeletionTimestamp = &now }
	got := FailureDomains([]infrav1.RackHost{host("a", fd("r2")), host("b", fd("r1")), host("c", fd("r2")), host("d"), host("e", fd("r3"), gone)})
	if diff := cmp.Diff([]string{"r1", "r2"}, got); diff != "" {
		t.Error(diff)
	}
}
