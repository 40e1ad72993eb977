// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/addons"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeadm"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// firstRetry after a tenant did not answer. A pod that was just called ready
	// is reachable within this time, as soon as kube-proxy has heard of it.
	firstRetry = 100 * time.Millisecond
	// lastRetry bounds the back-off.
	lastRetry = 30 * time.Second
	// insideTimeout bounds one attempt to configure a tenant. Its users can make each request slow, by a webhook of
	// theirs, and must not keep a worker from the other tenants.
	insideTimeout = 15 * time.Second
	// insideSet names the objects in a tenant, for pruning.
	insideSet = "kamaji"
	// timeFormat of annotations.
	timeFormat = time.RFC3339
)

// inside configures the tenant cluster. What was written last is remembered, so
// that an unchanged tenant is only asked when its periodic check is due.
func (r *Reconciler) inside(ctx context.Context, s *scope) error {
	documents, err := kubeadm.Objects(kubeadmInput(s))
	if err != nil {
		return phase.Fatal(kamajiv1alpha1.InvalidSpecReason, "%v", err)
	}
	input := addons.Input{Tenant: s.effective, Endpoint: s.endpoint}
	extras, err := addons.Objects(input)
	if err != nil {
		return phase.Fatal(kamajiv1alpha1.InvalidSpecReason, "%v", err)
	}
	wanted, err := json.Marshal([][]client.Object{documents, extras})
	if err != nil {
		return fmt.Errorf("encoding the objects of the tenant: %w", err)
	}
	key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskInside}
	inputs := []string{string(s.tenant.UID), string(wanted)}
	done, next := r.memory.done(key, inputs, s.now)
	if !done {
		if err := r.configure(ctx, s, input, documents, extras); err != nil {
			reason, message := phase.Outcome(err)
			return phase.WaitFor(r.memory.backOff(key, firstRetry, lastRetry), reason, "%s", message)
		}
		next = r.memory.remember(key, inputs, s.now)
	}
	s.due(next)
	reportInside(s, digest(inputs...))
	if err := r.rotated(ctx, s); err != nil || done {
		return err
	}
	// Nothing is asked of it before the next check, and a connection costs as much memory as all that is cached of a tenant.
	r.Remote.Forget(key.tenant)
	return nil
}

// rotated does what rotations need in the tenant once the documents are written: to know that they are, which nodes have
// followed, and which tokens are left.
func (r *Reconciler) rotated(ctx context.Context, s *scope) error {
	step := s.rotation.phases[pki.CA]
	if step != pki.Settled {
		key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskTrust}
		inputs := []string{string(s.secrets[pki.CA]["ca.crt"])}
		if known, _ := r.memory.done(key, inputs, s.now); !known {
			s.due(s.now)
		}
		r.memory.note(key, inputs, s.now.Add(resyncEvery))
	}
	tokens := s.tokensDue()
	if step != pki.Retiring && !tokens {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, insideTimeout)
	defer cancel()
	tenant, err := r.access(s)
	if err != nil {
		return err
	}
	if step == pki.Retiring {
		err = r.witness(ctx, s, tenant)
	}
	if err == nil && tokens {
		err = r.bearers(ctx, s, tenant.Client)
	}
	if err != nil {
		return phase.WaitFor(lastRetry, kamajiv1alpha1.TenantUnreachableReason, "%v", err)
	}
	return nil
}

// access is a client of the tenant, with the rights of an administrator.
func (r *Reconciler) access(s *scope) (*remote.Tenant, error) {
	address := net.JoinHostPort(s.service.Spec.ClusterIP, strconv.Itoa(int(s.tenant.Port())))
	return r.Remote.Tenant(client.ObjectKeyFromObject(s.tenant), s.secrets[kubeconfig.Admin][kubeconfig.SuperAdminService], address)
}

// configure writes into the tenant. The permissions of its administrators and of
// joining nodes come first, since that is what people and machines wait for.
func (r *Reconciler) configure(ctx context.Context, s *scope, input addons.Input, documents, extras []client.Object) error {
	ctx, cancel := context.WithTimeout(ctx, insideTimeout)
	defer cancel()
	unreachable := func(err error) error {
		return phase.Wait(kamajiv1alpha1.TenantUnreachableReason, "the tenant's API server does not answer: %v", err)
	}
	tenant, err := r.access(s)
	if err != nil {
		return err
	}
	if err := tenant.Ready(ctx); err != nil {
		return unreachable(err)
	}
	w := &apply.Writer{Client: tenant.Client, Owner: FieldOwner}
	if _, err := w.All(ctx, documents); err != nil {
		return err
	}
	if corefile := addons.DefaultCorefile(input); corefile != nil {
		// Created once and never touched again: from then on it is the user's.
		if err := tenant.Client.Create(ctx, corefile); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating ConfigMap %s: %w", client.ObjectKeyFromObject(corefile), err)
		}
	}
	if _, err := w.Sync(ctx, apply.Set{Name: insideSet, Lists: addons.Kinds()}, extras); err != nil {
		return err
	}
	for _, remains := range addons.Remains(input) {
		if err := tenant.Client.DeleteAllOf(ctx, remains.Kind, client.InNamespace(remains.Namespace), client.MatchingLabels(remains.Labels)); err != nil {
			return fmt.Errorf("removing what a former addon has made: %w", err)
		}
	}
	return nil
}

// reportInside fills the status of what is inside the tenant.
func reportInside(s *scope, checksum string) {
	status, spec := &s.tenant.Status, &s.tenant.Spec.Addons
	now := metav1.NewTime(s.now)
	changed := status.KubeadmPhase == nil || status.KubeadmPhase.BootstrapToken.Checksum != checksum
	if changed {
		status.KubeadmPhase = &kamajiv1alpha1.KubeadmPhasesStatus{
			BootstrapToken: kamajiv1alpha1.KubeadmPhaseStatus{Checksum: checksum, LastUpdate: now},
		}
	}
	addon := func(have *kamajiv1alpha1.AddonStatus, enabled bool) {
		if have.Enabled != enabled || enabled && changed {
			*have = kamajiv1alpha1.AddonStatus{Enabled: enabled, LastUpdate: now}
		}
	}
	addon(&status.Addons.CoreDNS, spec.CoreDNS != nil)
	addon(&status.Addons.KubeProxy, spec.KubeProxy != nil)

	konnectivity := &status.Addons.Konnectivity
	if spec.Konnectivity == nil {
		*konnectivity = kamajiv1alpha1.KonnectivityStatus{}
		return
	}
	object := func(have *kamajiv1alpha1.TenantObjectStatus, namespace, name string) {
		if have.Name != name || changed {
			*have = kamajiv1alpha1.TenantObjectStatus{Namespace: namespace, Name: name, LastUpdate: now}
		}
	}
	object(&konnectivity.ServiceAccount, metav1.NamespaceSystem, "konnectivity-agent")
	object(&konnectivity.ClusterRoleBinding, "", "system:konnectivity-server")
	object(&konnectivity.Agent.TenantObjectStatus, metav1.NamespaceSystem, "konnectivity-agent")
	konnectivity.Agent.Mode = spec.Konnectivity.KonnectivityAgentSpec.Mode
	service := status.Kubernetes.Service
	service.Port = s.tenant.KonnectivityPort()
	konnectivity.Service = &service
}
