// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"reflect"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/migration"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// report fills the status of the objects in the management cluster, from the
// objects as they were applied.
func report(s *scope, objects []client.Object) {
	status := &s.tenant.Status
	sums := map[string]string{}
	for _, object := range objects {
		name := strings.TrimPrefix(object.GetName(), s.tenant.Name+"-")
		sums[name] = object.GetAnnotations()[kamajiv1alpha1.ChecksumAnnotation]
	}
	now := metav1.NewTime(s.now)
	secret := func(have *kamajiv1alpha1.SecretStatus, name string) {
		sum, exists := sums[name]
		full := desired.Name(s.tenant, name)
		switch {
		case !exists:
			*have = kamajiv1alpha1.SecretStatus{}
		case have.SecretName != full || have.Checksum != sum:
			*have = kamajiv1alpha1.SecretStatus{SecretName: full, Checksum: sum, LastUpdate: now}
		}
	}
	certificates := &status.Certificates
	secret(&certificates.CA, pki.CA)
	secret(&certificates.APIServer, pki.APIServer)
	secret(&certificates.APIServerKubeletClient, pki.APIServerKubeletClient)
	secret(&certificates.FrontProxyCA, pki.FrontProxyCA)
	secret(&certificates.FrontProxyClient, pki.FrontProxyClient)
	secret(&certificates.SA, pki.ServiceAccount)
	secret(&status.KubeConfig.Admin, kubeconfig.Admin)
	secret(&status.KubeConfig.ControllerManager, kubeconfig.ControllerManager)
	secret(&status.KubeConfig.Scheduler, kubeconfig.Scheduler)
	secret(&status.Storage.Certificate, pki.DataStore)
	secret(&status.Addons.Konnectivity.Certificate, pki.Konnectivity)
	secret(&status.Addons.Konnectivity.Kubeconfig, kubeconfig.Konnectivity)
	if sum, exists := sums[desired.StorageConfig]; exists {
		status.Storage.Config = kamajiv1alpha1.ConfigSecretStatus{SecretName: desired.Name(s.tenant, desired.StorageConfig), Checksum: sum}
	}
	// enabled is required beside the others, so they are set together.
	status.Addons.Konnectivity.Enabled = s.tenant.Spec.Addons.Konnectivity != nil
	if sum, exists := sums[desired.EgressConfig]; exists {
		status.Addons.Konnectivity.ConfigMap = kamajiv1alpha1.KonnectivityConfigMapStatus{Name: desired.Name(s.tenant, desired.EgressConfig), Checksum: sum}
	}
	if sum, exists := sums[desired.KubeadmConfig]; exists && status.KubeadmConfig.Checksum != sum {
		status.KubeadmConfig = kamajiv1alpha1.KubeadmConfigStatus{ConfigmapName: desired.Name(s.tenant, desired.KubeadmConfig), Checksum: sum, LastUpdate: now}
	}
	reportDeployment(s, now)
}

func reportDeployment(s *scope, now metav1.Time) {
	have, live := &s.tenant.Status.Kubernetes.Deployment, s.deployment
	selector := metav1.FormatLabelSelector(live.Spec.Selector)
	if have.Name != live.Name || have.Selector != selector || !sameDeploymentStatus(have.DeploymentStatus, live.Status) {
		*have = kamajiv1alpha1.KubernetesDeploymentStatus{
			DeploymentStatus: *live.Status.DeepCopy(), Selector: selector,
			Name: live.Name, Namespace: live.Namespace, LastUpdate: now,
		}
	}
}

// sameDeploymentStatus ignores when conditions were probed last: it changes
// without anything having happened.
func sameDeploymentStatus(a, b appsv1.DeploymentStatus) bool {
	strip := func(status appsv1.DeploymentStatus) appsv1.DeploymentStatus {
		status = *status.DeepCopy()
		for i := range status.Conditions {
			status.Conditions[i].LastUpdateTime, status.Conditions[i].LastTransitionTime = metav1.Time{}, metav1.Time{}
		}
		return status
	}
	return reflect.DeepEqual(strip(a), strip(b))
}

// summarise fills what follows from the outcome of the whole pass.
func summarise(s *scope, outcome error) {
	status := &s.tenant.Status
	serves := meta.IsStatusConditionTrue(status.Conditions, kamajiv1alpha1.WorkloadReadyCondition)
	switch {
	case s.deployment == nil:
	case serves:
		status.Kubernetes.Version.Version = s.course.Version
	default:
		status.Kubernetes.Version.Version = s.course.served
	}
	if outcome == nil {
		status.ObservedGeneration = s.tenant.Generation
		meta.RemoveStatusCondition(&status.Conditions, kamajiv1alpha1.DeletingCondition)
	}
	reportRotation(s)
	p := stage(s.tenant, s.replicas())
	if p == kamajiv1alpha1.PhaseReady && s.rotation != nil && s.rotation.phases[pki.CA] != pki.Settled {
		p = kamajiv1alpha1.PhaseCertificateAuthorityRotating
	}
	if s.record.Active() && s.record.Step != migration.Cleaning {
		p = kamajiv1alpha1.PhaseMigrating
	}
	status.Kubernetes.Version.Status = &p
}

// stage is the phase that status.kubernetesResources.version.status shows.
func stage(tenant *kamajiv1alpha1.TenantControlPlane, replicas int32) kamajiv1alpha1.VersionPhase {
	status := &tenant.Status
	configured := meta.IsStatusConditionTrue(status.Conditions, kamajiv1alpha1.TenantConfiguredCondition)
	switch running := status.Kubernetes.Version.Version; {
	case replicas == 0:
		return kamajiv1alpha1.PhaseSleeping
	case running == "" || !configured && status.ObservedGeneration == 0:
		return kamajiv1alpha1.PhaseProvisioning
	case running != tenant.KubernetesVersion():
		return kamajiv1alpha1.PhaseUpgrading
	case status.Kubernetes.Deployment.ReadyReplicas == 0:
		return kamajiv1alpha1.PhaseNotReady
	case desired.WriteLimited(tenant) && meta.IsStatusConditionTrue(status.Conditions, kamajiv1alpha1.WorkloadReadyCondition):
		return kamajiv1alpha1.PhaseWriteLimited
	default:
		return kamajiv1alpha1.PhaseReady
	}
}
