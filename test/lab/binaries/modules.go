// SPDX-License-Identifier: Apache-2.0

package binaries

import "strings"

// KubernetesVersion is the version of the Kubernetes binaries, as pinned in
// modules/kubernetes/go.mod.
const KubernetesVersion = "v1.36.3"

// Kubernetes lists the names under which the Kubernetes binary acts as a component.
var Kubernetes = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubeadm", "kubectl"}

// module is one folder of test/lab/modules: a Go module that pins one component.
type module struct {
	name     string
	programs map[string]string // file name → package
	flags    string            // appended to -ldflags
	cgo      bool              // needs a C compiler; linked statically all the same
}

// modules is everything the lab builds: what tests need first, then the
// longest, so that two parallel builds end at about the same time.
var modules = []module{
	{name: "etcd", programs: map[string]string{"etcd": "."}},
	{name: "kubernetes", programs: map[string]string{"kubernetes": "."}, flags: stamp()},
	{name: "cluster-api", programs: map[string]string{
		"clusterctl":                   "sigs.k8s.io/cluster-api/cmd/clusterctl",
		"cluster-api-controller":       "sigs.k8s.io/cluster-api/core",
		"kubeadm-bootstrap-controller": "sigs.k8s.io/cluster-api/bootstrap/kubeadm",
	}},
	{name: "cert-manager", programs: map[string]string{
		"cert-manager-controller": "github.com/cert-manager/cert-manager/cmd/controller",
		"cert-manager-webhook":    "github.com/cert-manager/cert-manager/cmd/webhook",
		"cert-manager-cainjector": "github.com/cert-manager/cert-manager/cmd/cainjector",
	}},
	{name: "coredns", programs: map[string]string{"coredns": "github.com/coredns/coredns"}},
	// Its UDP backend is C code, and always part of it.
	{name: "flannel", programs: map[string]string{"flanneld": "github.com/flannel-io/flannel"}, flags: ` -extldflags "-static"`, cgo: true},
	{name: "konnectivity", programs: map[string]string{
		"proxy-server": "sigs.k8s.io/apiserver-network-proxy/cmd/server",
		"proxy-agent":  "sigs.k8s.io/apiserver-network-proxy/cmd/agent",
	}},
	{name: "containerd", programs: map[string]string{
		"containerd":              "github.com/containerd/containerd/v2/cmd/containerd",
		"containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
		"ctr":                     "github.com/containerd/containerd/v2/cmd/ctr",
	}},
	{name: "helm", programs: map[string]string{"helm": "helm.sh/helm/v3/cmd/helm"}},
	{name: "crictl", programs: map[string]string{"crictl": "sigs.k8s.io/cri-tools/cmd/crictl"}},
	{name: "kustomize", programs: map[string]string{"kustomize": "sigs.k8s.io/kustomize/kustomize/v5"}},
	{name: "cni", programs: map[string]string{
		"ptp":        "github.com/containernetworking/plugins/plugins/main/ptp",
		"bridge":     "github.com/containernetworking/plugins/plugins/main/bridge",
		"loopback":   "github.com/containernetworking/plugins/plugins/main/loopback",
		"host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
		"portmap":    "github.com/containernetworking/plugins/plugins/meta/portmap",
		"flannel":    ".",
	}},
	{name: "runc", programs: map[string]string{"runc": "."}},
	{name: "pause", programs: map[string]string{"pause": "."}},
}

// stamp sets the version that Kubernetes binaries report: its packages read it
// from variables that the upstream build sets the same way.
func stamp() string {
	minor := strings.Split(KubernetesVersion, ".")[1]
	var flags strings.Builder
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags.WriteString(" -X " + pkg + ".gitVersion=" + KubernetesVersion + " -X " + pkg + ".gitMajor=1 -X " + pkg +
			".gitMinor=" + minor + " -X " + pkg + ".gitTreeState=clean")
	}
	return flags.String()
}
