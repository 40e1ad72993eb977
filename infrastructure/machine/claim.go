// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/labels/format"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/inventory"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// find returns the claim that rackMachine holds, or nil. What the cache doesn't have is asked of the API server.
func (r *Reconciler) find(ctx context.Context, rackMachine *infrav1.RackMachine) (*infrav1.RackHostClaim, error) {
	for _, reader := range []client.Reader{r.Client, r.Live} {
		list := &infrav1.RackHostClaimList{}
		if err := reader.List(ctx, list, client.InNamespace(rackMachine.Namespace), claimsOf(rackMachine)); err != nil {
			return nil, fmt.Errorf("listing the RackHostClaims of RackMachine %s: %w", client.ObjectKeyFromObject(rackMachine), err)
		}
		for i := range list.Items {
			if claim := &list.Items[i]; claim.HeldBy(rackMachine) {
				return claim, nil
			}
		}
	}
	return nil, nil
}

// claimsOf selects by the machine's name; uids differ after a move, and a label is what the API server can select by.
func claimsOf(rackMachine *infrav1.RackMachine) client.MatchingLabels {
	return client.MatchingLabels{infrav1.ClaimMachineLabel: format.MustFormatValue(rackMachine.Name)}
}

// take claims the best host that is free. Creating the claim decides: whoever comes second finds it there and
// goes on to the next host.
func (r *Reconciler) take(ctx context.Context, s *scope) (*infrav1.RackHostClaim, error) {
	hosts, claimed, err := r.inventory(ctx, s.rackMachine.Namespace)
	if err != nil {
		return nil, err
	}
	choice, err := inventory.Pick(inventory.Request{
		Selector: s.rackMachine.Spec.HostSelector, Tolerations: s.rackMachine.Spec.Tolerations,
		FailureDomain: s.machine.Spec.FailureDomain, Version: s.machine.Spec.Version,
	}, hosts, claimed)
	if err != nil {
		return nil, phase.Fatal(infrav1.InvalidSelectorReason, "spec.%v", err)
	}
	for _, name := range choice.Hosts {
		host := byName(hosts, name)
		claim := newClaim(s, host, string(uuid.NewUUID()))
		err := r.Client.Create(ctx, claim)
		if apierrors.IsAlreadyExists(err) {
			choice.Refused["claimed"]++
			continue
		} else if err != nil {
			return nil, fmt.Errorf("creating RackHostClaim %s: %w", client.ObjectKeyFromObject(claim), err)
		}
		ctrl.LoggerFrom(ctx).Info("Claimed a host", "host", name, "providerID", claim.Spec.ProviderID)
		r.Recorder.Eventf(s.rackMachine, host, corev1.EventTypeNormal, "HostClaimed", "Claim", "Took RackHost %s", name)
		return claim, nil
	}
	return nil, phase.Wait(infrav1.NoHostAvailableReason, "%s", choice.Explain())
}

func (r *Reconciler) inventory(ctx context.Context, namespace string) ([]infrav1.RackHost, map[string]bool, error) {
	hosts, claims := &infrav1.RackHostList{}, &infrav1.RackHostClaimList{}
	for _, list := range []client.ObjectList{hosts, claims} {
		if err := r.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, nil, fmt.Errorf("listing the inventory of namespace %s: %w", namespace, err)
		}
	}
	claimed := make(map[string]bool, len(claims.Items))
	for i := range claims.Items {
		claimed[claims.Items[i].Name] = true
	}
	return hosts.Items, claimed, nil
}

func byName(hosts []infrav1.RackHost, name string) *infrav1.RackHost {
	for i := range hosts {
		if hosts[i].Name == name {
			return &hosts[i]
		}
	}
	return nil
}

// newClaim is the complete claim. It is owned by the machine, so that clusterctl moves it along and nothing is left
// locked when somebody removes a machine by force; the finalizer then still sees to the cleaning.
func newClaim(s *scope, host *infrav1.RackHost, id string) *infrav1.RackHostClaim {
	labels := map[string]string{
		clusterv1.ClusterNameLabel: s.cluster.Name,
		infrav1.ClaimMachineLabel:  format.MustFormatValue(s.rackMachine.Name),
	}
	if filter, ok := s.rackMachine.Labels[clusterv1.WatchLabel]; ok {
		labels[clusterv1.WatchLabel] = filter
	}
	return &infrav1.RackHostClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: host.Name, Namespace: host.Namespace, Labels: labels, Finalizers: []string{infrav1.ClaimFinalizer},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.rackMachine, infrav1.GroupVersion.WithKind("RackMachine"))},
		},
		Spec: infrav1.RackHostClaimSpec{
			ID: id, ProviderID: infrav1.ProviderIDPrefix + string(host.UID) + "/" + id,
			Machine:     infrav1.ClaimMachine{Name: s.rackMachine.Name, UID: s.rackMachine.UID},
			ClusterName: s.cluster.Name, DataSecretName: *s.machine.Spec.Bootstrap.DataSecretName,
		},
	}
}
