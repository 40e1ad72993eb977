// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
)

const (
	pkiPath    = "/etc/kubernetes/pki"
	egressPath = "/etc/kubernetes/konnectivity/configurations"
	egressFile = "egress-selector-configuration.yaml"
	udsPath    = "/run/konnectivity"
	publicPath = "/etc/kubernetes/public-certificate"

	pkiVolume    = "etc-kubernetes-pki"
	egressVolume = "egress-selector-configuration"
	udsVolume    = "konnectivity-uds"
	publicVolume = "public-certificate"
)

var defaultAdmission = []kamajiv1alpha1.AdmissionController{
	"CertificateApproval", "CertificateSigning", "CertificateSubjectRestriction", "DefaultIngressClass", "DefaultStorageClass",
	"DefaultTolerationSeconds", "LimitRanger", "MutatingAdmissionWebhook", "NamespaceLifecycle", "PersistentVolumeClaimResize",
	"Priority", "ResourceQuota", "RuntimeClass", "ServiceAccount", "StorageObjectInUseProtection", "TaintNodesByCondition",
	"ValidatingAdmissionWebhook",
}

func apiServer(in Input) corev1.Container {
	tenant, spec := in.Tenant, &in.Tenant.Spec.ControlPlane.Deployment
	port := tenant.Port()
	out := corev1.Container{
		Name:            "kube-apiserver",
		Image:           image(tenant, spec.RegistrySettings.APIServerImage, "kube-apiserver"),
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"kube-apiserver"},
		Args:            apiServerArgs(in),
		Ports:           []corev1.ContainerPort{{Name: APIServerPortName, ContainerPort: port, Protocol: corev1.ProtocolTCP}},
		VolumeMounts:    []corev1.VolumeMount{{Name: pkiVolume, MountPath: pkiPath, ReadOnly: true}},
		SecurityContext: restricted("NET_BIND_SERVICE"),
	}
	probes := probeOverrides(tenant, func(p *kamajiv1alpha1.ControlPlaneProbes) *kamajiv1alpha1.ProbeSet { return p.APIServer })
	out.LivenessProbe = tuned(probe(liveness, corev1.URISchemeHTTPS, "/livez", port), probes.all.Liveness, probes.own.Liveness)
	out.ReadinessProbe = tuned(probe(readiness, corev1.URISchemeHTTPS, "/readyz", port), probes.all.Readiness, probes.own.Readiness)
	// The kubelet probes for readiness as soon as a container has started, and must find it ready: the next time is seconds later.
	out.StartupProbe = tuned(probe(startup, corev1.URISchemeHTTPS, "/readyz", port), probes.all.Startup, probes.own.Startup)
	if tenant.KonnectivityPort() != 0 {
		out.VolumeMounts = append(out.VolumeMounts,
			corev1.VolumeMount{Name: egressVolume, MountPath: egressPath, ReadOnly: true},
			corev1.VolumeMount{Name: udsVolume, MountPath: udsPath},
		)
	}
	if in.Public != nil {
		out.VolumeMounts = append(out.VolumeMounts, corev1.VolumeMount{Name: publicVolume, MountPath: publicPath, ReadOnly: true})
	}
	if WriteLimited(tenant) {
		out.VolumeMounts = append(out.VolumeMounts, corev1.VolumeMount{Name: authorizationVolume, MountPath: authorizationPath, ReadOnly: true})
	}
	if spec.AdditionalVolumeMounts != nil {
		out.VolumeMounts = append(out.VolumeMounts, spec.AdditionalVolumeMounts.APIServer...)
	}
	out.Env = append(out.Env, collectEarly())
	out.Resources = resources(out.Name, ptr.Deref(spec.Resources, kamajiv1alpha1.ControlPlaneComponentsResources{}).APIServer)
	if spec.ContainerSecurityContexts != nil && spec.ContainerSecurityContexts.APIServer != nil {
		out.SecurityContext = spec.ContainerSecurityContexts.APIServer
	}
	return out
}

func apiServerArgs(in Input) []string {
	tenant := in.Tenant
	var user []string
	if extra := tenant.Spec.ControlPlane.Deployment.ExtraArgs; extra != nil {
		user = extra.APIServer
	}
	defaults := flags{
		"allow-privileged":                   "true",
		"authorization-mode":                 "Node,RBAC",
		"enable-bootstrap-token-auth":        "true",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"requestheader-group-headers":        "X-Remote-Group",
		"requestheader-username-headers":     "X-Remote-User",
		"service-account-issuer":             issuer(tenant),
		// Long-lived connections move to new replicas bit by bit.
		"goaway-chance": "0.001",
		// The gateway and kube-proxy need a moment to send new connections elsewhere.
		"shutdown-delay-duration": shutdownDelay.String(),
		// Then watches are ended one by one; without it they hold the process until it is killed.
		"shutdown-watch-termination-grace-period": watchDrain.String(),
	}
	if given(user, "authorization-config") || WriteLimited(tenant) {
		delete(defaults, "authorization-mode")
	}
	if upgrade.Minor(tenant.KubernetesVersion()) >= 34 && in.Storage.Kine == "" {
		// The cache would follow the key compact_rev_key every second, which is
		// outside the tenant's prefix and therefore denied.
		defaults["feature-gates"] = "ListFromCacheSnapshot=false"
	}
	fixed := flags{
		"client-ca-file":                   pkiPath + "/" + pki.ClientsFile,
		"enable-admission-plugins":         admission(tenant, user),
		"endpoint-reconciler-type":         "none", // the engine writes default/kubernetes; see package addons
		"kubelet-client-certificate":       pkiPath + "/apiserver-kubelet-client.crt",
		"kubelet-client-key":               pkiPath + "/apiserver-kubelet-client.key",
		"kubelet-preferred-address-types":  addressTypes(tenant),
		"proxy-client-cert-file":           pkiPath + "/front-proxy-client.crt",
		"proxy-client-key-file":            pkiPath + "/front-proxy-client.key",
		"requestheader-allowed-names":      "front-proxy-client",
		"requestheader-client-ca-file":     pkiPath + "/front-proxy-ca.crt",
		"secure-port":                      strconv.Itoa(int(tenant.Port())),
		"service-account-key-file":         pkiPath + "/sa.pub",
		"service-account-signing-key-file": pkiPath + "/sa.key",
		"service-cluster-ip-range":         strings.Join(tenant.ServiceCIDRs(), ","),
		"tls-cert-file":                    pkiPath + "/apiserver.crt",
		"tls-private-key-file":             pkiPath + "/apiserver.key",
	}
	storageFlags(fixed, in.Storage)
	if tenant.KonnectivityPort() != 0 {
		fixed["egress-selector-config-file"] = egressPath + "/" + egressFile
	}
	if WriteLimited(tenant) {
		fixed["authorization-config"] = authorizationPath + "/" + authorizationFile
	}
	out := arguments(fixed, defaults, user)
	if in.Public != nil {
		// A flag that may be given more than once, so the user's stay.
		out = append(out, "--tls-sni-cert-key="+publicPath+"/tls.crt,"+publicPath+"/tls.key:"+strings.Join(in.Public.Hostnames, ","))
	}
	return out
}

func storageFlags(fixed flags, storage Storage) {
	if storage.Kine != "" {
		// The database is the tenant's alone: keys have the usual prefix, and the API server compacts them itself.
		fixed["etcd-servers"] = kineSocket
		return
	}
	fixed["etcd-servers"] = urls(storage.Endpoints, ",")
	fixed["etcd-prefix"] = "/" + storage.Schema
	fixed["etcd-cafile"] = pkiPath + "/etcd/ca.crt"
	fixed["etcd-certfile"] = pkiPath + "/etcd/server.crt"
	fixed["etcd-keyfile"] = pkiPath + "/etcd/server.key"
	// Compaction concerns all tenants of an etcd and is its own business.
	fixed["etcd-compaction-interval"] = "0"
	var apart []string
	for _, o := range storage.Overrides {
		apart = append(apart, o.Resource+"#"+urls(o.Endpoints, ";"))
	}
	if len(apart) > 0 {
		fixed["etcd-servers-overrides"] = strings.Join(apart, ",")
	}
}

func urls(endpoints []string, separator string) string {
	out := make([]string, 0, len(endpoints))
	for _, e := range endpoints {
		out = append(out, "https://"+e)
	}
	return strings.Join(out, separator)
}

func admission(tenant *kamajiv1alpha1.TenantControlPlane, user []string) string {
	plugins := tenant.Spec.Kubernetes.AdmissionControllers
	if len(plugins) == 0 {
		plugins = defaultAdmission
	}
	names := make([]string, 0, len(plugins)+1)
	for _, p := range plugins {
		names = append(names, string(p))
	}
	// Without it a node could change the objects of any other node.
	if !slices.Contains(names, "NodeRestriction") && !mentions(user, "disable-admission-plugins", "NodeRestriction") {
		names = append(names, "NodeRestriction")
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

func addressTypes(tenant *kamajiv1alpha1.TenantControlPlane) string {
	types := tenant.Spec.Kubernetes.Kubelet.PreferredAddressTypes
	if len(types) == 0 {
		return "InternalIP,ExternalIP,Hostname"
	}
	names := make([]string, 0, len(types))
	for _, t := range types {
		names = append(names, string(t))
	}
	return strings.Join(names, ",")
}
