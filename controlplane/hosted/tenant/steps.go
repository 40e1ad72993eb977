// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeadm"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// set is the name under which all objects of a tenant belong together; routes
// tells whether there may be TLSRoutes among them.
func set(tenant *kamajiv1alpha1.TenantControlPlane, routes bool) apply.Set {
	return apply.Set{Name: tenant.Name, Namespace: tenant.Namespace, Lists: desired.Kinds(routes)}
}

// foreignRetry is how soon it is noticed that somebody else's object has gone,
// which no watch of ours reports.
const foreignRetry = 30 * time.Second

// explain turns objects that belong to somebody else, and objects that the API
// server finds invalid, into verdicts for the user. It leaves other errors alone.
func explain(err error) error {
	if foreign, ok := errors.AsType[*apply.ForeignError](err); ok {
		return phase.WaitFor(foreignRetry, kamajiv1alpha1.ForeignObjectReason, "%v", foreign)
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		// The namespace controller deletes the tenant, too, which is reported.
		return phase.Wait(kamajiv1alpha1.NamespaceTerminatingReason, "the namespace is being deleted, and the control plane with it")
	}
	if apierrors.IsInvalid(err) {
		return phase.Fatal(kamajiv1alpha1.InvalidSpecReason, "a field of the spec leads to an invalid object: %v", err)
	}
	return err
}

// address finds out where clients, nodes and pods of the tenant connect to.
func (r *Reconciler) address(_ context.Context, s *scope) error {
	routes, err := r.gatewayAPI.usable(r.Client.RESTMapper(), s.now)
	switch {
	case err != nil:
		return err
	case !routes && s.tenant.Spec.ControlPlane.Gateway != nil:
		return phase.WaitFor(foreignRetry, kamajiv1alpha1.GatewayAPIMissingReason,
			"spec.controlPlane.gateway needs TLSRoute in gateway.networking.k8s.io/v1, which this cluster lacks: install the Gateway API, 1.5 or newer, and a controller for it")
	}
	s.routesUsable = routes
	if s.endpoint, err = endpoint.Resolve(s.tenant, s.service); err != nil {
		return err
	}
	s.tenant.Status.ControlPlaneEndpoint = s.endpoint.Published.HostPort()
	return nil
}

// workload writes all objects of the tenant in this cluster and waits until one
// pod of the version to run serves.
func (r *Reconciler) workload(ctx context.Context, s *scope) error {
	if err := r.plan(ctx, s); err != nil {
		return err
	}
	if argument := desired.WriteLimitConflict(s.tenant); argument != "" {
		return phase.Fatal(kamajiv1alpha1.InvalidSpecReason, "spec.writePermissions can't be enforced beside %s: remove it from spec.controlPlane.deployment.extraArgs.apiServer", argument)
	}
	document, err := kubeadm.ClusterConfiguration(kubeadmInput(s))
	if err != nil {
		return phase.Fatal(kamajiv1alpha1.InvalidSpecReason, "%v", err)
	}
	authorities, err := r.internalCAs(ctx, s)
	if err != nil {
		return err
	}
	network, err := r.network(ctx)
	if err != nil {
		return err
	}
	s.stamp()
	in := desired.Input{
		Tenant: s.effective, Endpoint: s.endpoint, Storage: s.storage, Secrets: s.secrets,
		Public: s.public, Rotated: s.rotated, Retired: s.retired, Since: s.since, PriorityClass: r.PriorityClass, ClusterConfiguration: document,
		ServedVersion: s.course.served, FailedVersion: s.failedRecord(),
		InternalCAs: authorities, Network: network,
	}
	objects := desired.Workload(in)
	if err := r.unmonitor(ctx, s); err != nil {
		return err
	}
	if err := r.write(ctx, s, objects); err != nil {
		return explain(err)
	}
	if err := r.monitor(ctx, s, in); err != nil {
		return err
	}
	report(s, objects)
	reportPublished(s, objects)
	err = rollout(s.deployment, s.replicas())
	r.paced(s, err)
	if s.held != nil {
		return s.held
	}
	if err != nil {
		return s.unserved(err)
	}
	if s.course.verdict == nil && s.course.Version != s.tenant.KubernetesVersion() {
		return phase.Wait(kamajiv1alpha1.RolloutInProgressReason, "waits for pods of the version before to stop%s", s.way())
	}
	return nil
}

func kubeadmInput(s *scope) kubeadm.Input {
	return kubeadm.Input{Tenant: s.effective, Endpoint: s.endpoint, CACert: s.secrets[pki.CA]["ca.crt"]}
}
