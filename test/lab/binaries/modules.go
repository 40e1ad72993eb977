// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

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
	folder   string            // of test/lab/modules, when it isn't called like the module
	modfile  string            // in place of go.mod
	tags     string            // build tags
}

// source is the module's folder below test/lab/modules.
func (m module) source() string { return cmp.Or(m.folder, m.name) }

// options are further arguments of go build.
func (m module) options() []string {
	var list []string
	if m.modfile != "" {
		list = append(list, "-modfile="+m.modfile)
	}
	if m.tags != "" {
		list = append(list, "-tags="+m.tags)
	}
	return list
}

// modules is everything the lab builds: what tests need first, then the
// longest, so that two parallel builds end at about the same time.
var modules = []module{
	{name: "etcd", programs: map[string]string{"etcd": "."}},
	{name: "kubernetes", programs: map[string]string{"kubernetes": "."}, flags: stamp(KubernetesVersion)},
	{name: "kine", programs: map[string]string{"kine": "github.com/k3s-io/kine"}},
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

// Earlier lists the earlier Kubernetes versions that the lab can build, by
// minor, as pinned in modules/kubernetes-earlier. They are built when named.
var Earlier = map[string]string{
	"1.30": "v1.30.4", "1.31": "v1.31.0", "1.32": "v1.32.2", "1.33": "v1.33.0", "1.34": "v1.34.1", "1.35": "v1.35.4",
}

// EarlierModule is the name of the module, and of its program, of an earlier
// Kubernetes, for example "kubernetes-1.35".
func EarlierModule(minor string) string { return "kubernetes-" + minor }

// KubeadmModule is the name of the module, and of its program, of the kubeadm of an
// earlier Kubernetes on its own, which is a fraction of the whole to build.
func KubeadmModule(minor string) string { return "kubeadm-" + minor }

// EarlierKonnectivity is the module of the konnectivity that tenants up to Kubernetes 1.34 have.
const EarlierKonnectivity = "konnectivity-0.34"

// EarlierKonnectivityProgram is the name of its "server" or "agent".
func EarlierKonnectivityProgram(component string) string { return "proxy-" + component + "-0.34" }

// onDemand is what the lab builds only when it's named: what few tests need.
func onDemand() []module {
	list := []module{
		{name: "local-path", programs: map[string]string{"local-path-provisioner": "github.com/rancher/local-path-provisioner"}},
		{name: "metallb", programs: map[string]string{"controller": "go.universe.tf/metallb/controller", "speaker": "go.universe.tf/metallb/speaker"}},
		{name: "kube-router", programs: map[string]string{"kube-router": "."}},
		{name: EarlierKonnectivity, programs: map[string]string{
			EarlierKonnectivityProgram("server"): "sigs.k8s.io/apiserver-network-proxy/cmd/server",
			EarlierKonnectivityProgram("agent"):  "sigs.k8s.io/apiserver-network-proxy/cmd/agent",
		}},
	}
	for _, minor := range slices.Sorted(maps.Keys(Earlier)) {
		kubernetes := module{
			name: EarlierModule(minor), programs: map[string]string{EarlierModule(minor): "."}, flags: stamp(Earlier[minor]),
			folder: "kubernetes-earlier", modfile: minor + ".mod",
		}
		kubeadm := kubernetes
		kubeadm.name, kubeadm.programs = KubeadmModule(minor), map[string]string{KubeadmModule(minor): "k8s.io/kubernetes/cmd/kubeadm"}
		if minor >= "1.34" {
			kubernetes.tags = "node"
		}
		list = append(list, kubernetes, kubeadm)
	}
	return list
}

// stamp sets the version that Kubernetes binaries report: its packages read it
// from variables that the upstream build sets the same way.
func stamp(version string) string {
	minor := strings.Split(version, ".")[1]
	var flags strings.Builder
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags.WriteString(" -X " + pkg + ".gitVersion=" + version + " -X " + pkg + ".gitMajor=1 -X " + pkg +
			".gitMinor=" + minor + " -X " + pkg + ".gitTreeState=clean")
	}
	return flags.String()
}
