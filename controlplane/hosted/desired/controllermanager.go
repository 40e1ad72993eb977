// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

const (
	controllerManagerPKIVolume  = "controller-manager-pki"
	controllerManagerConfVolume = "controller-manager-kubeconfig"
	controllerManagerPort       = 10257
	controllerManagerMetrics    = "kcm-metrics"

	// confPath is where each component finds its own kubeconfig. It is a folder,
	// because a single file would not follow changes of the Secret.
	confPath = "/etc/kubernetes/kubeconfig"
)

func controllerManager(in Input) corev1.Container {
	tenant, spec := in.Tenant, &in.Tenant.Spec.ControlPlane.Deployment
	var user []string
	if spec.ExtraArgs != nil {
		user = spec.ExtraArgs.ControllerManager
	}
	conf := confPath + "/controller-manager.conf"
	out := corev1.Container{
		Name:            "kube-controller-manager",
		Image:           image(tenant, spec.RegistrySettings.ControllerManagerImage, "kube-controller-manager"),
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"kube-controller-manager"},
		Args: arguments(nil, with(leaderElection(user), flags{
			"allocate-node-cidrs":              "true",
			"authentication-kubeconfig":        conf,
			"authorization-kubeconfig":         conf,
			"bind-address":                     "0.0.0.0", // the kubelet of the management cluster probes it
			"client-ca-file":                   pkiPath + "/" + pki.ClientsFile,
			"cluster-cidr":                     strings.Join(tenant.PodCIDRs(), ","),
			"cluster-name":                     tenant.Name,
			"cluster-signing-cert-file":        pkiPath + "/" + pki.SignerFile,
			"cluster-signing-key-file":         pkiPath + "/ca.key",
			"controllers":                      "*,bootstrapsigner,tokencleaner",
			"kubeconfig":                       conf,
			"leader-elect":                     "true",
			"requestheader-client-ca-file":     pkiPath + "/front-proxy-ca.crt",
			"root-ca-file":                     pkiPath + "/ca.crt",
			"service-account-private-key-file": pkiPath + "/sa.key",
			"service-cluster-ip-range":         strings.Join(tenant.ServiceCIDRs(), ","),
			"use-service-account-credentials":  "true",
		}), user),
		Ports: []corev1.ContainerPort{{Name: controllerManagerMetrics, ContainerPort: controllerManagerPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: []corev1.VolumeMount{
			{Name: controllerManagerPKIVolume, MountPath: pkiPath, ReadOnly: true},
			{Name: controllerManagerConfVolume, MountPath: confPath, ReadOnly: true},
		},
		SecurityContext: restricted(),
		// It works on while its API server does: the next one can't lead before this pod is gone.
		Lifecycle: goOn(shutdownDelay),
	}
	probeOverrides(tenant, func(p *kamajiv1alpha1.ControlPlaneProbes) *kamajiv1alpha1.ProbeSet { return p.ControllerManager }).
		sibling(&out, controllerManagerPort)
	if spec.AdditionalVolumeMounts != nil {
		out.VolumeMounts = append(out.VolumeMounts, spec.AdditionalVolumeMounts.ControllerManager...)
	}
	out.Env = append(out.Env, collectEarly())
	out.Resources = resources(out.Name, ptr.Deref(spec.Resources, kamajiv1alpha1.ControlPlaneComponentsResources{}).ControllerManager)
	if spec.ContainerSecurityContexts != nil && spec.ContainerSecurityContexts.ControllerManager != nil {
		out.SecurityContext = spec.ContainerSecurityContexts.ControllerManager
	}
	return out
}
