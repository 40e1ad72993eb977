// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"encoding/json"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// runAs is the user and group of all containers: "nonroot" of distroless images.
const runAs int64 = 65532

// Deployment has all components of the control plane. It is part of Workload.
func Deployment(in Input) *appsv1.Deployment {
	spec := &in.Tenant.Spec.ControlPlane.Deployment
	meta := objectMeta(in.Tenant, in.Tenant.Name, "deployment")
	meta.Labels = with(spec.AdditionalMetadata.Labels, meta.Labels)
	meta.Annotations = with(spec.AdditionalMetadata.Annotations)
	out := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas:             ptr.To(in.Tenant.Replicas()),
			MinReadySeconds:      minReady,
			RevisionHistoryLimit: ptr.To[int32](3),
			Selector:             &metav1.LabelSelector{MatchLabels: Selector(in.Tenant)},
			Strategy:             strategy(spec.Strategy),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: podMeta(in),
				Spec:       podSpec(in),
			},
		},
	}
	out.Annotations[TemplateAnnotation] = templateDigest(out)
	return out
}

func templateDigest(d *appsv1.Deployment) string {
	template, err := json.Marshal(d.Spec.Template)
	if err != nil {
		// Pods have no field that JSON has no form for.
		panic(err)
	}
	return Checksum(map[string][]byte{"template": template})
}

func strategy(wanted appsv1.DeploymentStrategy) appsv1.DeploymentStrategy {
	if wanted.Type != "" {
		return wanted
	}
	return appsv1.DeploymentStrategy{
		Type: appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: ptr.To(intstr.FromString("100%")), MaxUnavailable: ptr.To(intstr.FromInt32(0)),
		},
	}
}

// podMeta carries the hash of every Secret that a running component would not
// notice the change of, so that a change rolls the pods. kube-apiserver reads its
// certificates again when their files change, so a renewal leaves it alone; what it
// is called, and who has signed for it, must not take as long as files take.
func podMeta(in Input) metav1.ObjectMeta {
	extra := in.Tenant.Spec.ControlPlane.Deployment.PodAdditionalMetadata
	hashes := map[string]string{}
	for label, suffix := range map[string]string{
		"ca":                            pki.CA,
		"front-proxy-ca-certificate":    pki.FrontProxyCA,
		"service-account":               pki.ServiceAccount,
		"datastore":                     pki.DataStore,
		"controller-manager-kubeconfig": kubeconfig.ControllerManager,
		"scheduler-kubeconfig":          kubeconfig.Scheduler,
		"konnectivity-kubeconfig":       kubeconfig.Konnectivity,
	} {
		if data, ok := in.Secrets[suffix]; ok {
			hashes[kamajiv1alpha1.ComponentChecksumPrefix+label] = Checksum(data)
		}
	}
	for label, file := range map[string]struct{ suffix, name string }{
		"api-server-certificate":                {pki.APIServer, "apiserver.crt"},
		"api-server-kubelet-client-certificate": {pki.APIServerKubeletClient, "apiserver-kubelet-client.crt"},
		"front-proxy-client-certificate":        {pki.FrontProxyClient, "front-proxy-client.crt"},
	} {
		switch data, ok := in.Secrets[file.suffix]; {
		case !ok:
		case file.suffix == pki.APIServer && in.Tenant.KonnectivityPort() != 0:
			// Not every release of the konnectivity server reads it again.
			hashes[kamajiv1alpha1.ComponentChecksumPrefix+label] = Checksum(data)
		default:
			hashes[kamajiv1alpha1.ComponentChecksumPrefix+label] = pki.Identity(data[file.name])
		}
	}
	if in.InternalCAs != "" {
		hashes[kamajiv1alpha1.ComponentChecksumPrefix+internalCAVolume] = in.InternalCAs
	}
	if in.Storage.Kine != "" {
		hashes[kamajiv1alpha1.ComponentChecksumPrefix+kineName] = Checksum(in.Secrets[StorageConfig])
	}
	if WriteLimited(in.Tenant) {
		// It would be read again, but nobody could tell when.
		hashes[kamajiv1alpha1.ComponentChecksumPrefix+"authorization"] = Checksum(authorizationConfig(in.Tenant).Data)
	}
	return metav1.ObjectMeta{
		Labels: with(extra.Labels, hashes, labels(in.Tenant, "deployment")),
		Annotations: with(extra.Annotations, map[string]string{
			"kubectl.kubernetes.io/default-container": "kube-apiserver", VersionAnnotation: in.Tenant.KubernetesVersion(),
		}),
	}
}

func podSpec(in Input) corev1.PodSpec {
	spec := &in.Tenant.Spec.ControlPlane.Deployment
	managed := []corev1.Container{apiServer(in), controllerManager(in), scheduler(in)}
	if in.Tenant.KonnectivityPort() != 0 {
		managed = append(managed, konnectivityServer(in))
	}
	out := corev1.PodSpec{
		InitContainers:                spec.AdditionalInitContainers,
		Containers:                    beside(spec.AdditionalContainers, managed),
		Volumes:                       volumes(in),
		NodeSelector:                  spec.NodeSelector,
		Tolerations:                   spec.Tolerations,
		Affinity:                      spec.Affinity,
		TopologySpreadConstraints:     spread(in.Tenant),
		PriorityClassName:             priorityClass(in),
		ServiceAccountName:            "default",
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To(terminationGrace),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(runAs), RunAsGroup: ptr.To(runAs), FSGroup: ptr.To(runAs),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	if spec.ServiceAccountName != "" {
		out.ServiceAccountName = spec.ServiceAccountName
	}
	if spec.AutomountServiceAccountToken != nil {
		out.AutomountServiceAccountToken = spec.AutomountServiceAccountToken
	}
	if spec.RuntimeClassName != "" {
		out.RuntimeClassName = ptr.To(spec.RuntimeClassName)
	}
	if spec.PodSecurityContext != nil {
		out.SecurityContext = spec.PodSecurityContext
	}
	if in.Tenant.Spec.InternalCACertificatesConfigMap != nil {
		trustInternal(out.Containers, len(out.Containers)-len(managed))
	}
	withKine(in, &out)
	return out
}

// beside puts the user's containers in front of the managed ones. A user's
// container with the name of a managed one only replaces its image.
func beside(user, managed []corev1.Container) []corev1.Container {
	var out []corev1.Container
next:
	for _, c := range user {
		for i := range managed {
			if managed[i].Name == c.Name {
				managed[i].Image = c.Image
				continue next
			}
		}
		out = append(out, c)
	}
	return append(out, managed...)
}

// restricted is the security context of a component. The binary in the image of
// kube-apiserver carries the file capability NET_BIND_SERVICE, and can't be
// started without it whatever its port is.
func restricted(capabilities ...corev1.Capability) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false),
		ReadOnlyRootFilesystem:   ptr.To(true),
		RunAsNonRoot:             ptr.To(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: capabilities},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func image(tenant *kamajiv1alpha1.TenantControlPlane, name, fallback string) string {
	settings := tenant.Spec.ControlPlane.Deployment.RegistrySettings
	if name == "" {
		name = fallback
	}
	registry := settings.Registry
	if registry == "" {
		registry = kamajiv1alpha1.DefaultRegistry
	}
	return registry + "/" + name + ":" + tenant.KubernetesVersion() + settings.TagSuffix
}
