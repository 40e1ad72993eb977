// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func TestSettle(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	verdict := func(reason, message, endpoint string) *kamajiv1alpha1.TenantControlPlane {
		tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}}
		tenant.Status.ControlPlaneEndpoint = endpoint
		if reason != "" {
			tenant.Status.Conditions = []metav1.Condition{{Type: phase.Ready, Status: metav1.ConditionFalse, Reason: reason, Message: message}}
		}
		return tenant
	}
	const rollout, gateway = kamajiv1alpha1.RolloutInProgressReason, kamajiv1alpha1.GatewayPendingReason
	fresh := verdict("", "", "")
	published := verdict(rollout, "0 pods", "a:1")
	steps := []struct {
		name          string
		after         time.Duration
		before, found *kamajiv1alpha1.TenantControlPlane
		outcome       error
		want          time.Duration
	}{
		{"a new tenant waits for its gateway", 0, fresh, verdict(gateway, "", ""), phase.Wait(gateway, ""), settleTime},
		{"and still does", 300 * time.Millisecond, fresh, verdict(gateway, "", ""), phase.Wait(gateway, ""), 700 * time.Millisecond},
		{"its address is news to others", 400 * time.Millisecond, fresh, published, phase.Wait(rollout, ""), 0},
		{"the same again is no write", 500 * time.Millisecond, published, published, phase.Wait(rollout, ""), 0},
		{"progress", time.Second, published, verdict(rollout, "1 pod", "a:1"), phase.Wait(rollout, ""), 1400 * time.Millisecond},
		{"progress that is due", 2400 * time.Millisecond, published, verdict(rollout, "1 pod", "a:1"), phase.Wait(rollout, ""), 0},
		{"more progress comes with the next write", 2500 * time.Millisecond, published, verdict(rollout, "2 pods", "a:1"), phase.Wait(rollout, ""), 1900 * time.Millisecond},
		{"another wait", 3 * time.Second, published, verdict(kamajiv1alpha1.TenantUnreachableReason, "", "a:1"), phase.Wait(kamajiv1alpha1.TenantUnreachableReason, ""), settleTime},
		{"that lasts", 5 * time.Second, published, verdict(kamajiv1alpha1.TenantUnreachableReason, "", "a:1"), phase.Wait(kamajiv1alpha1.TenantUnreachableReason, ""), 0},
		{"what the user must change", 5 * time.Second, published, verdict("InvalidSpec", "", "a:1"), phase.Fatal("InvalidSpec", ""), 0},
		{"a wait that doesn't pass by itself", 5 * time.Second, published, verdict("Foreign", "", "a:1"), phase.Wait("Foreign", ""), 0},
		{"an error", 5 * time.Second, published, verdict("Error", "", "a:1"), errors.New("refused"), 0},
		{"success", 5 * time.Second, published, verdict("", "", "a:1"), nil, 0},
		{"a wait after success begins anew", 6 * time.Second, verdict("", "", "a:1"), verdict(rollout, "", "a:1"), phase.Wait(rollout, ""), settleTime},
	}
	r := &Reconciler{}
	for _, step := range steps {
		if got := r.settle(step.before, step.found, step.outcome, start.Add(step.after)); got != step.want {
			t.Errorf("%s: kept back for %s, want %s", step.name, got, step.want)
		}
	}
}
