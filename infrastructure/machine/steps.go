// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func (r *Reconciler) clusterReady(_ context.Context, s *scope) error {
	switch {
	case s.machine == nil:
		return phase.Wait(infrav1.WaitingForMachineReason, "no Machine owns this RackMachine")
	case s.cluster == nil:
		return phase.Wait(infrav1.WaitingForClusterReason, "Cluster %s is not there", s.machine.Spec.ClusterName)
	case !ptr.Deref(s.cluster.Status.Initialization.InfrastructureProvisioned, false):
		return phase.Wait(infrav1.WaitingForClusterInfrastructureReason, "the infrastructure of Cluster %s is not provisioned", s.cluster.Name)
	}
	return nil
}

func (r *Reconciler) bootstrapDataReady(_ context.Context, s *scope) error {
	if s.machine.Spec.Bootstrap.DataSecretName == nil {
		return phase.Wait(infrav1.WaitingForBootstrapDataReason,
			"Machine %s has no spec.bootstrap.dataSecretName; its bootstrap provider may be waiting for the control plane", s.machine.Name)
	}
	return nil
}

func (r *Reconciler) hostClaimed(ctx context.Context, s *scope) error {
	claim, err := r.find(ctx, s.rackMachine)
	if err != nil {
		return err
	}
	if claim == nil {
		if s.rackMachine.Spec.ProviderID != "" {
			return phase.Wait(infrav1.HostClaimLostReason,
				"the RackHostClaim with providerID %s is gone, so this machine has no host; delete the Machine to have it replaced", s.rackMachine.Spec.ProviderID)
		}
		if claim, err = r.take(ctx, s); err != nil {
			return err
		}
	}
	if !claim.DeletionTimestamp.IsZero() {
		return phase.Wait(infrav1.HostClaimLostReason,
			"RackHostClaim %s is being deleted, so this machine loses its host; delete the Machine to have it replaced", claim.Name)
	}
	s.claim = claim
	s.rackMachine.Status.Host = claim.Name
	return r.identify(ctx, s)
}

// identify writes the providerID, which comes with the claim and never changes.
func (r *Reconciler) identify(ctx context.Context, s *scope) error {
	if s.rackMachine.Spec.ProviderID != "" {
		return nil
	}
	updated := s.rackMachine.DeepCopy()
	updated.Spec.ProviderID = s.claim.Spec.ProviderID
	if err := r.Client.Patch(ctx, updated, client.MergeFrom(s.rackMachine)); err != nil {
		return fmt.Errorf("setting the providerID of RackMachine %s: %w", client.ObjectKeyFromObject(s.rackMachine), err)
	}
	s.rackMachine.Spec.ProviderID = updated.Spec.ProviderID
	return nil
}

func (r *Reconciler) bootstrapped(ctx context.Context, s *scope) error {
	host := &infrav1.RackHost{}
	key := client.ObjectKeyFromObject(s.claim)
	if err := r.Client.Get(ctx, key, host); apierrors.IsNotFound(err) {
		return phase.Wait(infrav1.WaitingForHostReason, "RackHost %s is not there", key)
	} else if err != nil {
		return fmt.Errorf("reading RackHost %s: %w", key, err)
	}
	status := &s.rackMachine.Status
	status.Addresses = addresses(host)
	status.FailureDomain = host.Spec.FailureDomain
	if ptr.Deref(status.Initialization.Provisioned, false) {
		return nil
	}
	if reason, message := progress(host, s.claim); reason != "" {
		return phase.Wait(reason, "%s", message)
	}
	status.Initialization.Provisioned = ptr.To(true)
	r.Recorder.Eventf(s.rackMachine, host, corev1.EventTypeNormal, "Provisioned", "Bootstrap", "RackHost %s joined the cluster", host.Name)
	return nil
}

// progress words how far host is with claim; an empty reason means that it runs.
func progress(host *infrav1.RackHost, claim *infrav1.RackHostClaim) (reason, message string) {
	name := "RackHost " + host.Name
	if host.Status.Claim == nil || host.Status.Claim.ID != claim.Spec.ID {
		return infrav1.WaitingForHostReason, name + " has yet to take up the claim"
	}
	if host.Status.Phase == infrav1.HostRunning {
		return "", ""
	}
	find := func(kind string) *metav1.Condition { return meta.FindStatusCondition(host.Status.Conditions, kind) }
	if c := find(infrav1.HostBootstrappedCondition); c != nil && c.Reason == infrav1.HostBootstrapFailedReason {
		return c.Reason, name + ": " + c.Message
	}
	if c := find(infrav1.HostReadyCondition); c != nil && c.Status == metav1.ConditionFalse {
		return c.Reason, name + ": " + c.Message
	}
	return infrav1.WaitingForHostReason, fmt.Sprintf("%s is %s", name, host.Status.Phase)
}

// addresses lists the host's name, then the address it is managed at, then what else the host has, without duplicates.
func addresses(host *infrav1.RackHost) clusterv1.MachineAddresses {
	var out clusterv1.MachineAddresses
	add := func(kind clusterv1.MachineAddressType, address string) {
		known := slices.ContainsFunc(out, func(a clusterv1.MachineAddress) bool { return a.Address == address })
		if address != "" && !known && len(out) < 256 {
			out = append(out, clusterv1.MachineAddress{Type: kind, Address: address})
		}
	}
	facts := ptr.Deref(host.Status.Facts, infrav1.HostFacts{})
	add(clusterv1.MachineHostName, facts.Hostname)
	if _, err := netip.ParseAddr(host.Spec.SSH.Address); err == nil {
		add(clusterv1.MachineInternalIP, host.Spec.SSH.Address)
	} else {
		add(clusterv1.MachineInternalDNS, host.Spec.SSH.Address)
	}
	for _, address := range facts.Addresses {
		add(clusterv1.MachineInternalIP, address)
	}
	return out
}

// hostReleased deletes the claim and waits for it to be gone: then the host is clean or in quarantine.
func (r *Reconciler) hostReleased(ctx context.Context, s *scope) error {
	claim, err := r.find(ctx, s.rackMachine)
	if err != nil || claim == nil {
		return err
	}
	if value, forced := s.rackMachine.Annotations[infrav1.ForceReleaseAnnotation]; forced {
		if err := r.force(ctx, claim, value); err != nil {
			return err
		}
	}
	if claim.DeletionTimestamp.IsZero() {
		err := r.Client.Delete(ctx, claim, client.Preconditions{UID: &claim.UID})
		if apierrors.IsNotFound(err) {
			return nil
		} else if err != nil {
			return fmt.Errorf("deleting RackHostClaim %s: %w", client.ObjectKeyFromObject(claim), err)
		}
	}
	message := "RackHost " + claim.Name + " is being released"
	host := &infrav1.RackHost{}
	if err := r.Client.Get(ctx, client.ObjectKeyFromObject(claim), host); err == nil {
		if c := meta.FindStatusCondition(host.Status.Conditions, infrav1.HostReadyCondition); c != nil && c.Status == metav1.ConditionFalse {
			message = fmt.Sprintf("RackHost %s is %s: %s", host.Name, host.Status.Phase, c.Message)
		}
	}
	return phase.Wait(infrav1.ReleasingHostReason, "%s; annotation %s on this RackMachine gives the host up to quarantine at once", message, infrav1.ForceReleaseAnnotation)
}

func (r *Reconciler) force(ctx context.Context, claim *infrav1.RackHostClaim, value string) error {
	if _, done := claim.Annotations[infrav1.ForceReleaseAnnotation]; done {
		return nil
	}
	updated := claim.DeepCopy()
	metav1.SetMetaDataAnnotation(&updated.ObjectMeta, infrav1.ForceReleaseAnnotation, value)
	if err := r.Client.Patch(ctx, updated, client.MergeFrom(claim)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("annotating RackHostClaim %s: %w", client.ObjectKeyFromObject(claim), err)
	}
	return nil
}
