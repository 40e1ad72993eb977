// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// A pod that runs because a client has woken the control plane is none too many, and none too few before it is there.
func TestWokenIsNotScaling(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for name, tc := range map[string]struct {
		until    time.Time
		pods     int32
		up, down bool
	}{
		"asleep":         {time.Time{}, 0, false, false},
		"being woken":    {now.Add(time.Hour), 0, true, false},
		"awake":          {now.Add(time.Hour), 1, false, false},
		"falling asleep": {now, 1, false, true},
	} {
		kcp := controlPlane()
		kcp.Spec.Replicas = ptr.To[int32](0)
		tenant := &kamajiv1alpha1.TenantControlPlane{}
		tenant.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Wake: &kamajiv1alpha1.WakeSpec{}}
		metav1.SetMetaDataAnnotation(&tenant.ObjectMeta, kamajiv1alpha1.AwakeUntilAnnotation, tc.until.Format(time.RFC3339))
		tenant.Status.Kubernetes.Deployment.Replicas, tenant.Status.Kubernetes.Deployment.UpdatedReplicas = tc.pods, tc.pods
		observe(kcp, tenant, now)
		for kind, want := range map[string]bool{clusterv1.ScalingUpCondition: tc.up, clusterv1.ScalingDownCondition: tc.down} {
			if got := meta.IsStatusConditionTrue(kcp.Status.Conditions, kind); got != want {
				t.Errorf("%s: %s is %t", name, kind, got)
			}
		}
	}
}
