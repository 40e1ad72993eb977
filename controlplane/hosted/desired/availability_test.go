// SPDX-License-Identifier: Apache-2.0

package desired_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/utils/ptr"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

// TestScalingRollsNothing: a change of the number of replicas, by hand or by an
// autoscaler, must add or remove pods and leave the others as they are.
func TestScalingRollsNothing(t *testing.T) {
	template := func(in desired.Input, replicas int32) any {
		in.Tenant = in.Tenant.DeepCopy()
		in.Tenant.Spec.ControlPlane.Deployment.Replicas = ptr.To(replicas)
		return desired.Deployment(in).Spec.Template
	}
	for name, in := range map[string]desired.Input{"plain": input(), "gateway": throughGateway(), "everything": everything()} {
		for _, replicas := range []int32{0, 2, 5} {
			if diff := cmp.Diff(template(in, 1), template(in, replicas)); diff != "" {
				t.Errorf("%s with %d replicas: %s", name, replicas, diff)
			}
		}
	}
}

// TestDisruptionBudget: one for the only pod would forbid to drain its node.
func TestDisruptionBudget(t *testing.T) {
	for replicas, want := range map[int32]int{0: 0, 1: 0, 2: 1, 3: 1} {
		in := input()
		in.Tenant.Spec.ControlPlane.Deployment.Replicas = ptr.To(replicas)
		have := 0
		for _, object := range desired.Workload(in) {
			if budget, ok := object.(*policyv1.PodDisruptionBudget); ok {
				have++
				if diff := cmp.Diff(desired.Selector(in.Tenant), budget.Spec.Selector.MatchLabels); diff != "" {
					t.Errorf("its selector: %s", diff)
				}
			}
		}
		if have != want {
			t.Errorf("%d replicas: %d budgets, want %d", replicas, have, want)
		}
	}
}

func TestPriorityClass(t *testing.T) {
	in := input()
	in.PriorityClass = "kamaji-control-plane"
	if have := desired.Deployment(in).Spec.Template.Spec.PriorityClassName; have != in.PriorityClass {
		t.Errorf("the installation's: %q", have)
	}
	in.Tenant.Spec.ControlPlane.Deployment.PriorityClassName = "gold"
	if have := desired.Deployment(in).Spec.Template.Spec.PriorityClassName; have != "gold" {
		t.Errorf("the tenant's own: %q", have)
	}
}
