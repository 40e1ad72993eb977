// SPDX-License-Identifier: Apache-2.0

package infrastructure_test

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

const controlPlaneGroup = "controlplane.cluster.x-k8s.io"

// clusterWith makes a Cluster with a RackCluster and a reference to a KamajiControlPlane, all of one name.
func (p *place) clusterWith(name string) *clusterv1.Cluster {
	p.t.Helper()
	c := &clusterv1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.namespace},
		Spec: clusterv1.ClusterSpec{
			InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "RackCluster", Name: name},
			ControlPlaneRef:   clusterv1.ContractVersionedObjectReference{APIGroup: controlPlaneGroup, Kind: "KamajiControlPlane", Name: name},
		},
	}
	p.create(c)
	p.create(&infrav1.RackCluster{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: p.namespace,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: name, UID: c.UID}},
	}})
	return c
}

// controlPlane makes a KamajiControlPlane with a status.
func (p *place) controlPlane(name string, status map[string]any) {
	p.t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"version": "v1.36.3"}}}
	o.SetAPIVersion(controlPlaneGroup + "/v1alpha2")
	o.SetKind("KamajiControlPlane")
	o.SetNamespace(p.namespace)
	o.SetName(name)
	p.create(o)
	o.Object["status"] = status
	p.must(p.Status().Update(p.ctx, o))
}

func (p *place) rackClusterIs(name string, provisioned bool, reason string) {
	p.t.Helper()
	c := &infrav1.RackCluster{}
	p.eventually("RackCluster "+name, func() string {
		p.must(p.Get(p.ctx, p.key(name), c))
		return missing(c.Status.Conditions, []string{"Ready=" + reason, "FailureDomainsPublished=Done", "Provisioned=" + reason})
	})
	if got := ptr.Deref(c.Status.Initialization.Provisioned, false); got != provisioned {
		p.t.Errorf("RackCluster %s: provisioned is %v while Ready says %s", name, got, reason)
	}
}

// hostedControlPlane has the controllers wait for an hour, so whatever ends the wait is not the clock.
func hostedControlPlane(p *place) {
	hosted := p.clusterWith("hosted")
	p.rackClusterIs("hosted", false, infrav1.WaitingForControlPlaneReason)
	p.controlPlane("hosted", map[string]any{"externalManagedControlPlane": true})
	p.clusterWith("machines")
	p.rackClusterIs("machines", false, infrav1.WaitingForControlPlaneReason)
	p.controlPlane("machines", map[string]any{"conditions": []any{map[string]any{
		"type": "Available", "status": "False", "reason": "NotAvailable", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
	}}})
	p.rackClusterIs("machines", true, "Done")

	p.rackClusterIs("hosted", false, infrav1.WaitingForControlPlaneReason)
	before := hosted.DeepCopy()
	hosted.Status.Initialization.ControlPlaneInitialized = ptr.To(true)
	p.must(p.Status().Patch(p.ctx, hosted, client.MergeFrom(before)))
	p.rackClusterIs("hosted", true, "Done")
}
