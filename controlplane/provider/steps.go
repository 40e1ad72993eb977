// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/secret"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// foreignRetry is how soon it is noticed that somebody else's object has gone, which no watch of ours reports.
const foreignRetry = 30 * time.Second

// scope is what one pass knows.
type scope struct {
	cluster *clusterv1.Cluster
	kcp     *controlplanev1.KamajiControlPlane
	// tenant is the live TenantControlPlane, nil before there is one; the first step brings it up to date.
	tenant *kamajiv1alpha1.TenantControlPlane
	// kubeconfig is the content of <cluster>-kubeconfig once it is published.
	kubeconfig []byte
}

func (r *Reconciler) steps() []phase.Step[*scope] {
	return []phase.Step[*scope]{
		{Condition: controlplanev1.TenantControlPlaneAppliedCondition, Run: r.tenant},
		{Condition: controlplanev1.EndpointReadyCondition, Run: r.endpoint},
		{Condition: controlplanev1.CertificatesAvailableCondition, Run: r.certificates},
		{Condition: controlplanev1.InitializedCondition, Run: r.initialized},
	}
}

// tenant applies the TenantControlPlane. A rejected one is the user's to mend; the reason is the server's own.
func (r *Reconciler) tenant(ctx context.Context, s *scope) error {
	// The schema refuses the field; an object that an earlier provider has stored may have it all the same.
	if s.kcp.Spec.Deployment.ExternalClusterReference != nil {
		return phase.Fatal(controlplanev1.TenantControlPlaneRejectedReason, "spec.deployment.externalClusterReference is not supported: remove it to run the pods in this cluster, or keep the provider that made this object")
	}
	tenant := tenantFor(s.cluster, s.kcp, s.tenant)
	_, err := r.writer().Apply(ctx, tenant)
	var foreign *apply.ForeignError
	switch {
	case errors.As(err, &foreign):
		return phase.WaitFor(foreignRetry, controlplanev1.ForeignObjectReason, "%s", foreign.Error())
	case apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err):
		return phase.Fatal(controlplanev1.TenantControlPlaneRejectedReason, "%s", err.Error())
	case err != nil:
		return err
	}
	s.tenant = tenant
	return nil
}

// endpoint publishes the address of the API server, once. A later change is reported and never written: Cluster API's
// endpoint is immutable. The Secrets follow it all the same, so that people and Cluster API itself get through.
func (r *Reconciler) endpoint(ctx context.Context, s *scope) error {
	address := s.tenant.Status.ControlPlaneEndpoint
	if address == "" {
		return phase.Wait(controlplanev1.AddressPendingReason, "TenantControlPlane %s has no address yet%s", s.tenant.Name, because(s.tenant, kamajiv1alpha1.AddressReadyCondition, kamajiv1alpha1.StorageReadyCondition))
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("reading the endpoint %q of TenantControlPlane %s: %w", address, s.tenant.Name, err)
	}
	port, err := strconv.ParseInt(portText, 10, 32)
	if err != nil {
		return fmt.Errorf("reading the port of endpoint %q of TenantControlPlane %s: %w", address, s.tenant.Name, err)
	}
	found := clusterv1.APIEndpoint{Host: host, Port: int32(port)}
	switch published := s.kcp.Spec.ControlPlaneEndpoint; {
	case !published.IsValid():
		s.kcp.Spec.ControlPlaneEndpoint = found
	case published != found:
		if err := r.certificates(ctx, s); err != nil {
			return err
		}
		return phase.Fatal(controlplanev1.EndpointChangedReason, "the API server moved from %s to %s, but the Cluster and its nodes carry the former for life: restore it (host name, gateway or Service address) or replace the Cluster; Secret %s leads to the new one", published.String(), found.String(), secret.Name(s.cluster.Name, secret.Kubeconfig))
	}
	return nil
}

// certificates publishes <cluster>-ca and <cluster>-kubeconfig. The engine renews both; this step follows.
func (r *Reconciler) certificates(ctx context.Context, s *scope) error {
	ca, err := r.tenantSecret(ctx, s, caSuffix)
	if err != nil {
		return err
	}
	admin, err := r.tenantSecret(ctx, s, adminKubeconfigSuffix)
	if err != nil {
		return err
	}
	key := defaultKubeconfigKey
	if named := s.kcp.Annotations[kamajiv1alpha1.KubeconfigSecretKeyAnnotation]; named != "" {
		key = named
	}
	kubeconfig := admin.Data[key]
	if len(kubeconfig) == 0 {
		return phase.Fatal(controlplanev1.KubeconfigKeyMissingReason, "Secret %s has no key %q: correct the annotation %s", admin.Name, key, kamajiv1alpha1.KubeconfigSecretKeyAnnotation)
	}
	authority := caSecret(s.cluster, s.kcp, ca.Data[corev1.TLSCertKey], ca.Data[corev1.TLSPrivateKeyKey])
	if ca.Name == secret.Name(s.cluster.Name, secret.ClusterCA) {
		authority = sharedCASecret(s.cluster, s.kcp.Namespace)
	}
	_, err = r.writer().All(ctx, []client.Object{authority, kubeconfigSecret(s.cluster, s.kcp, kubeconfig)})
	var foreign *apply.ForeignError
	if errors.As(err, &foreign) {
		return phase.WaitFor(foreignRetry, controlplanev1.ForeignObjectReason, "%s", foreign.Error())
	}
	if err != nil {
		return err
	}
	s.kubeconfig = kubeconfig
	return nil
}

// initialized is true from the first answer to the published kubeconfig, and never goes back: workers have joined by then.
func (r *Reconciler) initialized(ctx context.Context, s *scope) error {
	if ptr.Deref(s.kcp.Status.Initialization.ControlPlaneInitialized, false) {
		return nil
	}
	// One that sleeps may be woken by a client, for which this must not be taken: see TenantControlPlane.ReplicasAt.
	if ptr.Deref(s.kcp.Spec.Replicas, kamajiv1alpha1.DefaultReplicas) == 0 && s.tenant.Status.Kubernetes.Deployment.ReadyReplicas == 0 {
		return phase.Wait(controlplanev1.SleepingReason, "spec.replicas is 0: raise it to start the control plane")
	}
	if err := r.Probe(ctx, s.kubeconfig); err != nil {
		return phase.WaitFor(untilNextProbe(time.Since(began(s.kcp, s.tenant))), controlplanev1.NotAnsweringReason, "waiting for the API server at %s: %v%s",
			s.kcp.Spec.ControlPlaneEndpoint.String(), cause(err), because(s.tenant, kamajiv1alpha1.WorkloadReadyCondition, kamajiv1alpha1.RoutedCondition))
	}
	s.kcp.Status.Initialization.ControlPlaneInitialized = ptr.To(true)
	r.Recorder.Eventf(s.kcp, s.tenant, corev1.EventTypeNormal, "Initialized", "Initialize", "the API server answers at %s", s.kcp.Spec.ControlPlaneEndpoint.String())
	return nil
}

func (r *Reconciler) tenantSecret(ctx context.Context, s *scope, suffix string) (*corev1.Secret, error) {
	found := &corev1.Secret{}
	key := client.ObjectKey{Namespace: s.tenant.Namespace, Name: s.tenant.Name + suffix}
	err := r.Client.Get(ctx, key, found)
	if apierrors.IsNotFound(err) {
		return nil, phase.Wait(controlplanev1.SecretPendingReason, "TenantControlPlane %s has not made Secret %s yet%s", s.tenant.Name, key.Name, because(s.tenant, kamajiv1alpha1.CertificatesReadyCondition, kamajiv1alpha1.KubeconfigsReadyCondition))
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return found, nil
}

// because adds the first unmet condition of the tenant among kinds, so that a user need not look there.
func because(tenant *kamajiv1alpha1.TenantControlPlane, kinds ...string) string {
	for _, kind := range kinds {
		for _, c := range tenant.Status.Conditions {
			if c.Type == kind && c.Status == "False" {
				return fmt.Sprintf(" (%s: %s: %s)", kind, c.Reason, c.Message)
			}
		}
	}
	return ""
}
