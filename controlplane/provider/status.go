// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

// observe fills what the contract asks for from the TenantControlPlane, which may be nil or not started yet.
// It decides nothing about the steps, whose conditions are already set.
func observe(kcp *controlplanev1.KamajiControlPlane, tenant *kamajiv1alpha1.TenantControlPlane, now time.Time) {
	if tenant == nil {
		tenant = &kamajiv1alpha1.TenantControlPlane{}
	}
	status := &kcp.Status
	status.ObservedGeneration = kcp.Generation
	status.ExternalManagedControlPlane = ptr.To(true)

	pods := tenant.Status.Kubernetes.Deployment
	status.Selector = pods.Selector
	status.Replicas = ptr.To(pods.Replicas)
	status.ReadyReplicas = ptr.To(pods.ReadyReplicas)
	status.AvailableReplicas = ptr.To(pods.AvailableReplicas)
	status.UpToDateReplicas = ptr.To(pods.UpdatedReplicas)

	running := tenant.Status.Kubernetes.Version.Version
	status.Versions = versions(running, version(kcp), pods.Replicas, pods.UpdatedReplicas)
	status.Version = ""
	if len(status.Versions) > 0 {
		status.Version = status.Versions[0].Version
	}

	phase := kamajiv1alpha1.PhaseProvisioning
	if p := tenant.Status.Kubernetes.Version.Status; p != nil {
		phase = *p
	}
	set := func(kind string, status bool, reason, format string, args ...any) {
		value := metav1.ConditionFalse
		if status {
			value = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&kcp.Status.Conditions, metav1.Condition{
			Type: kind, Status: value, Reason: reason, Message: fmt.Sprintf(format, args...), ObservedGeneration: kcp.Generation,
		})
	}
	wanted := ptr.Deref(kcp.Spec.Replicas, kamajiv1alpha1.DefaultReplicas)
	if now.Before(tenant.AwakeUntil()) {
		wanted = max(wanted, 1)
	}
	initialized := ptr.Deref(status.Initialization.ControlPlaneInitialized, false)
	available := initialized && pods.ReadyReplicas > 0
	set(clusterv1.AvailableCondition, available, availableReason(available, phase), "%d of %d control plane pods answer, phase %s", pods.ReadyReplicas, wanted, phase)
	rolling := initialized && (pods.UpdatedReplicas < pods.Replicas || running != "" && running != version(kcp))
	set(clusterv1.RollingOutCondition, rolling, onOff(rolling, clusterv1.RollingOutReason, clusterv1.NotRollingOutReason), "%d of %d pods are up to date", pods.UpdatedReplicas, pods.Replicas)
	up := pods.Replicas < wanted
	set(clusterv1.ScalingUpCondition, up, onOff(up, clusterv1.ScalingUpReason, clusterv1.NotScalingUpReason), "%d of %d pods exist", pods.Replicas, wanted)
	down := pods.Replicas > wanted && !rolling
	set(clusterv1.ScalingDownCondition, down, onOff(down, clusterv1.ScalingDownReason, clusterv1.NotScalingDownReason), "%d pods exist, %d are wanted", pods.Replicas, wanted)
	deleting := !kcp.DeletionTimestamp.IsZero()
	if !deleting {
		set(clusterv1.DeletingCondition, false, clusterv1.NotDeletingReason, "")
	}
}

// versions lists what runs, lowest first. During an upgrade the pods that are up to date count for the new version.
func versions(running, wanted string, replicas, updated int32) []clusterv1.StatusVersion {
	switch {
	case running == "":
		return nil
	case running == wanted || updated == 0 || replicas <= updated:
		return []clusterv1.StatusVersion{{Version: running, Replicas: max(replicas, 1)}}
	default:
		return []clusterv1.StatusVersion{{Version: running, Replicas: replicas - updated}, {Version: wanted, Replicas: updated}}
	}
}

func availableReason(available bool, phase kamajiv1alpha1.VersionPhase) string {
	if available {
		return clusterv1.AvailableReason
	}
	return string(phase)
}

func onOff(on bool, yes, no string) string {
	if on {
		return yes
	}
	return no
}
