// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

const (
	// KineImage is the storage shim unless the manager is told another one. It is
	// of the version that test/lab/modules/kine pins.
	KineImage = "docker.io/rancher/kine:v0.16.4"

	// KineEndpoint is the key of StorageConfig with the connection string, password
	// included, if there is one. It is in no argument, which everybody on the node could read.
	KineEndpoint = "KINE_ENDPOINT"

	kineName        = "kine"
	kineVolume      = "kine-uds"
	kineCertsVolume = "kine-certs"
	kinePath        = "/run/kine"
	kineCertsPath   = storage.KineFiles
	kineMetrics     = "kine-metrics"
	kineSocket      = "unix://" + kinePath + "/kine.sock"
	// kineMetricsPort is that of etcd. The page is there as soon as the store has answered.
	kineMetricsPort = 2381

	// kineConnections bounds what one replica takes of the connections of a server
	// that many tenants share; kine itself knows no limit. Half of them may idle.
	kineConnections = 16
)

// withKine adds kine to the pod, as a container that starts before the API server
// and ends after it: Kubernetes calls that a sidecar, an init container that is
// restarted always. A user's container of its name replaces its image.
func withKine(in Input, pod *corev1.PodSpec) {
	if in.Storage.Kine == "" {
		return
	}
	sidecar := kine(in)
	for _, list := range []*[]corev1.Container{&pod.Containers, &pod.InitContainers} {
		*list = slices.DeleteFunc(slices.Clone(*list), func(c corev1.Container) bool {
			if c.Name == kineName {
				sidecar.Image = c.Image
			}
			return c.Name == kineName
		})
	}
	// After the user's, which may be the way to the database.
	pod.InitContainers = append(pod.InitContainers, sidecar)
	for i := range pod.Containers {
		if c := &pod.Containers[i]; c.Name == "kube-apiserver" {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: kineVolume, MountPath: kinePath})
		}
	}
	pod.Volumes = append(pod.Volumes, kineVolumes(in)...)
}

func kine(in Input) corev1.Container {
	spec := &in.Tenant.Spec.ControlPlane.Deployment
	var user []string
	if spec.ExtraArgs != nil {
		user = spec.ExtraArgs.Kine
	}
	args := flags{
		"listen-address":                 kineSocket,
		"metrics-bind-address":           ":" + strconv.Itoa(kineMetricsPort),
		"datastore-max-open-connections": strconv.Itoa(kineConnections),
		"datastore-max-idle-connections": strconv.Itoa(kineConnections / 2),
	}
	mounts := []corev1.VolumeMount{{Name: kineVolume, MountPath: kinePath}}
	for flag, file := range map[string]string{"ca-file": "ca.crt", "cert-file": "server.crt", "key-file": "server.key"} {
		if len(in.Secrets[pki.DataStore][file]) > 0 {
			args[flag] = kineCertsPath + "/" + file
		}
	}
	if in.Secrets[pki.DataStore] != nil {
		mounts = append(mounts, corev1.VolumeMount{Name: kineCertsVolume, MountPath: kineCertsPath, ReadOnly: true})
	}
	out := corev1.Container{
		Name:            kineName,
		Image:           in.Storage.Kine,
		ImagePullPolicy: corev1.PullIfNotPresent,
		RestartPolicy:   ptr.To(corev1.ContainerRestartPolicyAlways),
		Args:            arguments(nil, args, user),
		Env: []corev1.EnvVar{{Name: KineEndpoint, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: Name(in.Tenant, StorageConfig)}, Key: KineEndpoint,
		}}}},
		Ports:        []corev1.ContainerPort{{Name: kineMetrics, ContainerPort: kineMetricsPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: mounts,
		// The page says that kine runs and had a connection once. It must not say more: a restart cures no database.
		LivenessProbe:   probe(liveness, corev1.URISchemeHTTP, "/metrics", kineMetricsPort),
		StartupProbe:    probe(startup, corev1.URISchemeHTTP, "/metrics", kineMetricsPort),
		SecurityContext: restricted(),
	}
	if spec.Resources != nil && spec.Resources.Kine != nil {
		out.Resources = *spec.Resources.Kine
	}
	if contexts := spec.ContainerSecurityContexts; contexts != nil && contexts.APIServer != nil {
		// Only the user who made the socket may open it.
		out.SecurityContext = contexts.APIServer
	}
	return out
}

func kineVolumes(in Input) []corev1.Volume {
	out := []corev1.Volume{{Name: kineVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}}
	if in.Secrets[pki.DataStore] != nil {
		out = append(out, corev1.Volume{Name: kineCertsVolume, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: Name(in.Tenant, pki.DataStore), DefaultMode: ptr.To(groupReadable)},
		}})
	}
	return out
}
