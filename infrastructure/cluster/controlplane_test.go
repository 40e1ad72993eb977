// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

func TestHold(t *testing.T) {
	for name, c := range map[string]struct {
		seen       sight
		left, want time.Duration
	}{
		"hosted":                {hosted, 20 * time.Second, 20 * time.Second},
		"hosted, for too long":  {hosted, 0, 0},
		"hosted, ages ago":      {hosted, -time.Hour, 0},
		"unseen":                {unseen, 20 * time.Second, glance},
		"unseen, almost over":   {unseen, glance / 2, glance / 2},
		"unseen, for too long":  {unseen, -time.Second, 0},
		"ordinary":              {ordinary, 20 * time.Second, 0},
		"ordinary, long before": {ordinary, -time.Hour, 0},
	} {
		if got := hold(c.seen, c.left); got != c.want {
			t.Errorf("%s: waits %s, want %s", name, got, c.want)
		}
	}
}

func TestClassify(t *testing.T) {
	condition := func(kind string) map[string]any { return map[string]any{"type": kind} }
	for name, c := range map[string]struct {
		status map[string]any
		want   sight
	}{
		"just created":       {nil, unseen},
		"not paused":         {map[string]any{"conditions": []any{condition("Paused")}}, unseen},
		"made of machines":   {map[string]any{"conditions": []any{condition("Paused"), condition("Available")}}, ordinary},
		"hosted":             {map[string]any{"externalManagedControlPlane": true}, hosted},
		"hosted and started": {map[string]any{"externalManagedControlPlane": true, "conditions": []any{condition("Available")}}, hosted},
		"says it is not":     {map[string]any{"externalManagedControlPlane": false, "conditions": []any{condition("Available")}}, ordinary},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		if c.status != nil {
			o.Object["status"] = c.status
		}
		if got := classify(o); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestProvisionedWithoutALook has a reconciler that can't read anything: none of these cases may need it.
func TestProvisionedWithoutALook(t *testing.T) {
	now := time.Now()
	ref := clusterv1.ContractVersionedObjectReference{APIGroup: "controlplane.cluster.x-k8s.io", Kind: "KamajiControlPlane", Name: "demo"}
	for name, change := range map[string]func(*scope){
		"is already":        func(s *scope) { s.rackCluster.Status.Initialization.Provisioned = ptr.To(true) },
		"no control plane":  func(s *scope) { s.cluster.Spec.ControlPlaneRef = clusterv1.ContractVersionedObjectReference{} },
		"it answers":        func(s *scope) { s.cluster.Status.Initialization.ControlPlaneInitialized = ptr.To(true) },
		"it takes too long": func(s *scope) { s.rackCluster.CreationTimestamp = metav1.NewTime(now.Add(-defaultPatience)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := &Reconciler{options: Options{ControlPlanePatience: defaultPatience}}
			s := &scope{rackCluster: &infrav1.RackCluster{}, cluster: &clusterv1.Cluster{}, now: now}
			s.rackCluster.CreationTimestamp = metav1.NewTime(now)
			s.cluster.Spec.ControlPlaneRef = ref
			change(s)
			if err := r.provisioned(t.Context(), s); err != nil || !ptr.Deref(s.rackCluster.Status.Initialization.Provisioned, false) {
				t.Errorf("provisioned %v, %v", s.rackCluster.Status.Initialization.Provisioned, err)
			}
		})
	}
}
