// SPDX-License-Identifier: Apache-2.0

package desired

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// groupReadable is the mode of files from Secrets: the components run as members
// of the group that owns them.
const groupReadable int32 = 0o440

const internalCAVolume = "internal-ca-certificates"

// internalCAPaths are where Linux distributions keep additional certificates.
var internalCAPaths = []string{"/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"}

// volumes are the files of each component. The key of the certificate authority
// is only where certificates are signed, in kube-controller-manager.
func volumes(in Input) []corev1.Volume {
	tenant := in.Tenant
	source := func(suffix string, files ...string) corev1.VolumeProjection {
		out := corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: Name(tenant, suffix)}}
		for _, file := range files {
			path := file
			if suffix == pki.DataStore {
				path = "etcd/" + file
			}
			out.Items = append(out.Items, corev1.KeyToPath{Key: file, Path: path})
		}
		return corev1.VolumeProjection{Secret: &out}
	}
	secret := func(volume, suffix string) corev1.Volume {
		return corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: Name(tenant, suffix), DefaultMode: ptr.To(groupReadable)},
		}}
	}
	files := []corev1.VolumeProjection{
		source(pki.APIServer, "apiserver.crt", "apiserver.key"),
		source(pki.CA, "ca.crt", pki.ClientsFile),
		source(pki.APIServerKubeletClient, "apiserver-kubelet-client.crt", "apiserver-kubelet-client.key"),
		source(pki.FrontProxyCA, "front-proxy-ca.crt"),
		source(pki.FrontProxyClient, "front-proxy-client.crt", "front-proxy-client.key"),
		source(pki.ServiceAccount, "sa.pub", "sa.key"),
	}
	if in.Storage.Kine == "" {
		files = append(files, source(pki.DataStore, "ca.crt", "server.crt", "server.key"))
	}
	out := []corev1.Volume{
		projected(pkiVolume, files...),
		projected(controllerManagerPKIVolume,
			source(pki.CA, "ca.crt", "ca.key", pki.SignerFile, pki.ClientsFile),
			source(pki.FrontProxyCA, "front-proxy-ca.crt"),
			source(pki.ServiceAccount, "sa.key"),
		),
		secret(controllerManagerConfVolume, kubeconfig.ControllerManager),
		secret(schedulerConfVolume, kubeconfig.Scheduler),
	}
	if tenant.KonnectivityPort() != 0 {
		out = append(out,
			projected(konnectivityPKIVolume, source(pki.APIServer, "apiserver.crt", "apiserver.key")),
			secret(konnectivityConfVolume, kubeconfig.Konnectivity),
			corev1.Volume{Name: udsVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
			configVolume(egressVolume, Name(tenant, EgressConfig)),
		)
	}
	if in.Public != nil {
		out = append(out, projected(publicVolume, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: in.Public.Secret},
			Items:                []corev1.KeyToPath{{Key: corev1.TLSCertKey, Path: corev1.TLSCertKey}, {Key: corev1.TLSPrivateKeyKey, Path: corev1.TLSPrivateKeyKey}},
		}}))
	}
	if WriteLimited(tenant) {
		out = append(out, configVolume(authorizationVolume, Name(tenant, Authorization)))
	}
	if name := tenant.Spec.InternalCACertificatesConfigMap; name != nil {
		out = append(out, configVolume(internalCAVolume, *name))
	}
	return append(out, tenant.Spec.ControlPlane.Deployment.AdditionalVolumes...)
}

func projected(name string, sources ...corev1.VolumeProjection) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: sources, DefaultMode: ptr.To(groupReadable)},
	}}
}

func configVolume(name, configMap string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: configMap}, DefaultMode: ptr.To[int32](0o444),
		},
	}}
}

// trustInternal mounts the user's certificate authorities in the containers from
// the given index on. Go programs look at SSL_CERT_DIR besides the certificates
// that come with the image, and at none of these paths by themselves.
func trustInternal(containers []corev1.Container, from int) {
	for i := range containers[from:] {
		c := &containers[from+i]
		for _, path := range internalCAPaths {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: internalCAVolume, MountPath: path, ReadOnly: true})
		}
		c.Env = append(c.Env, corev1.EnvVar{Name: "SSL_CERT_DIR", Value: internalCAPaths[0]})
	}
}
