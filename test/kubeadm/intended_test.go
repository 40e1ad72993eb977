// SPDX-License-Identifier: Apache-2.0

package kubeadm

import "strings"

// intention is a difference that is meant. What kubeadm writes may be cut short with "…".
type intention struct {
	object, path, kubeadm, engine string
	// since and until are minors, both included; empty for all.
	since, until string
	// why the engine does otherwise.
	why string
}

func (i intention) covers(minor string, d difference) bool {
	start, cut := strings.CutSuffix(i.kubeadm, "…")
	return i.object == d.object && i.path == d.path && i.engine == d.engine && (i.kubeadm == d.kubeadm || cut && strings.HasPrefix(d.kubeadm, start)) &&
		(i.since == "" || minor >= i.since) && (i.until == "" || minor <= i.until)
}

// Paths that several of them are under.
const (
	clusterConfiguration = "data/ClusterConfiguration/"
	coreDNSPod           = "spec/template/spec/"
)

var intended = []intention{
	{
		object: "ClusterRoleBinding kubeadm:apiserver-kubelet-client", kubeadm: absent, until: "1.35",
		engine: `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"kubeadm:apiserver-kubelet-client"},` +
			`"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"system:kubelet-api-admin"},` +
			`"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"kube-apiserver-kubelet-client"}]}`,
		why: "the API server's identity towards kubelets is no administrator in any version; kubeadm gave it these rights by a group up to 1.35",
	},
	{
		object: "ConfigMap kube-system kubeadm-config", path: clusterConfiguration + "etcd", kubeadm: `{"local":{"dataDir":"/var/lib/etcd"}}`, engine: absent,
		why: "there is no etcd on any node, and what it really is isn't the tenant's affair",
	},
	{
		object: "ConfigMap kube-system kubeadm-config", path: clusterConfiguration + "encryptionAlgorithm", kubeadm: `"RSA-2048"`, engine: `"ECDSA-P256"`, since: "1.31",
		why: "the kind of the tenant's keys",
	},
	{
		object: "ConfigMap kube-system kubeadm-config", path: clusterConfiguration + "caCertificateValidityPeriod", kubeadm: `"87600h0m0s"`, engine: absent, since: "1.31",
		why: "kubeadm issues no certificate of this cluster",
	},
	{
		object: "ConfigMap kube-system kubeadm-config", path: clusterConfiguration + "certificateValidityPeriod", kubeadm: `"8760h0m0s"`, engine: absent, since: "1.31",
		why: "kubeadm issues no certificate of this cluster",
	},
	{
		object: "ConfigMap kube-system kubeadm-config", path: clusterConfiguration + "apiServer", kubeadm: `{"timeoutForControlPlane":"4m0s"}`, engine: absent, until: "1.30",
		why: "how long kubeadm init waits for the control plane that it starts",
	},
	{
		object: "ConfigMap kube-system kubelet-config", path: "metadata/annotations", engine: absent,
		kubeadm: `{"kubeadm.kubernetes.io/component-config.hash":"sha256:…`,
		why:     "it tells kubeadm upgrade that it may write the document anew, which is the engine's task here",
	},
	{
		object: "ConfigMap kube-system kube-proxy", path: "metadata/annotations", engine: absent,
		kubeadm: `{"kubeadm.kubernetes.io/component-config.hash":"sha256:…`,
		why:     "it tells kubeadm upgrade that it may write the document anew, which is the engine's task here",
	},
	{
		object: "ConfigMap kube-system kube-proxy", path: "data/config.conf/conntrack/maxPerCore", kubeadm: absent, engine: "0",
		why: "the size of the connection table is the host's business; in a node that is a container kube-proxy would give up",
	},
	{
		object: "ConfigMap kube-system kube-proxy", path: "data/config.conf/conntrack/min", kubeadm: absent, engine: "0",
		why: "the size of the connection table is the host's business; in a node that is a container kube-proxy would give up",
	},
	{
		object: "DaemonSet kube-system kube-proxy", path: "spec/template/metadata/annotations", kubeadm: absent,
		engine: `{"kamaji.clastix.io/config-hash":"dfc11791100ffad2fd5ca0b1416f4466"}`,
		why:    "rolls the pods when their configuration changes; with kubeadm somebody does that by hand",
	},
	{
		object: "Deployment kube-system coredns", path: coreDNSPod + "tolerations", engine: `[{"key":"CriticalAddonsOnly","operator":"Exists"}]`,
		kubeadm: `[{"key":"CriticalAddonsOnly","operator":"Exists"},{"effect":"NoSchedule","key":"node-role.kubernetes.io/control-plane"}]`,
		why:     "no node of a tenant has this taint",
	},
	{
		object: "Deployment kube-system coredns", path: coreDNSPod + "containers/0/livenessProbe/httpGet/port", kubeadm: `"liveness-probe"`, engine: "8080", since: "1.34",
		why: "the same port by its number, in all versions",
	},
	{
		object: "Deployment kube-system coredns", path: coreDNSPod + "containers/0/readinessProbe/httpGet/port", kubeadm: `"readiness-probe"`, engine: "8181", since: "1.34",
		why: "the same port by its number, in all versions",
	},
	{
		object: "Deployment kube-system coredns", path: coreDNSPod + "containers/0/ports", until: "1.33",
		kubeadm: `[{"containerPort":53,"name":"dns","protocol":"UDP"},{"containerPort":53,"name":"dns-tcp","protocol":"TCP"},{"containerPort":9153,"name":"metrics","protocol":"TCP"}]`,
		engine: `[{"containerPort":53,"name":"dns","protocol":"UDP"},{"containerPort":53,"name":"dns-tcp","protocol":"TCP"},{"containerPort":9153,"name":"metrics","protocol":"TCP"},` +
			`{"containerPort":8080,"name":"liveness-probe","protocol":"TCP"},{"containerPort":8181,"name":"readiness-probe","protocol":"TCP"}]`,
		why: "kubeadm names the ports of the probes since 1.34; CoreDNS listens on them in all versions",
	},
	{
		object: "Deployment kube-system coredns", path: coreDNSPod + "containers/0/image", until: "1.31",
		kubeadm: `"registry.k8s.io/coredns/coredns:v1.11.1"`, engine: `"registry.k8s.io/coredns/coredns:v1.11.3"`,
		why: "the last releases of these minors install v1.11.3",
	},
	{
		object: "ConfigMap kube-system coredns", path: "data/Corefile", until: "1.31", kubeadm: corefile("cache 30\n"),
		engine: corefile("cache 30 {\n       disable success cluster.local\n       disable denial cluster.local\n    }\n"),
		why:    "as kubeadm does it since 1.32, for the same CoreDNS: a cache in front of what is in memory would only be stale",
	},
}

// corefile with a cache, in JSON.
func corefile(cache string) string {
	return text(".:53 {\n    errors\n    health {\n       lameduck 5s\n    }\n    ready\n    kubernetes cluster.local in-addr.arpa ip6.arpa {\n       pods insecure\n" +
		"       fallthrough in-addr.arpa ip6.arpa\n       ttl 30\n    }\n    prometheus :9153\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    " +
		cache + "    loop\n    reload\n    loadbalance\n}\n")
}
