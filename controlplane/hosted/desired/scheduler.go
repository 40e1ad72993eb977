// SPDX-License-Identifier: Apache-2.0

package desired

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

const (
	schedulerConfVolume = "scheduler-kubeconfig"
	schedulerPort       = 10259
	schedulerMetrics    = "sched-metrics"
)

func scheduler(in Input) corev1.Container {
	tenant, spec := in.Tenant, &in.Tenant.Spec.ControlPlane.Deployment
	var user []string
	if spec.ExtraArgs != nil {
		user = spec.ExtraArgs.Scheduler
	}
	conf := confPath + "/scheduler.conf"
	out := corev1.Container{
		Name:            "kube-scheduler",
		Image:           image(tenant, spec.RegistrySettings.SchedulerImage, "kube-scheduler"),
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"kube-scheduler"},
		Args: arguments(flags{
			"authentication-kubeconfig": conf,
			"authorization-kubeconfig":  conf,
			"bind-address":              "0.0.0.0", // the kubelet of the management cluster probes it
			"kubeconfig":                conf,
			"leader-elect":              "true",
		}, leaderElection(user), user),
		Ports:           []corev1.ContainerPort{{Name: schedulerMetrics, ContainerPort: schedulerPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts:    []corev1.VolumeMount{{Name: schedulerConfVolume, MountPath: confPath, ReadOnly: true}},
		SecurityContext: restricted(),
	}
	probeOverrides(tenant, func(p *kamajiv1alpha1.ControlPlaneProbes) *kamajiv1alpha1.ProbeSet { return p.Scheduler }).
		sibling(&out, schedulerPort)
	if spec.AdditionalVolumeMounts != nil {
		out.VolumeMounts = append(out.VolumeMounts, spec.AdditionalVolumeMounts.Scheduler...)
	}
	out.Resources = resources(out.Name, ptr.Deref(spec.Resources, kamajiv1alpha1.ControlPlaneComponentsResources{}).Scheduler)
	if spec.ContainerSecurityContexts != nil && spec.ContainerSecurityContexts.Scheduler != nil {
		out.SecurityContext = spec.ContainerSecurityContexts.Scheduler
	}
	return out
}
