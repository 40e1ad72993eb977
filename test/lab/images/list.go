// SPDX-License-Identifier: Apache-2.0

package images

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/rootfs"
)

// Toolbox is a Debian with network tools, for pods that checks run.
const Toolbox = "kamaji.lab/toolbox:v1"

// Users that published images run as, for Deployments that demand a numeric one.
const (
	nonroot     = "65532"
	certManager = "1000"
	pauseUser   = "65535:65535"
)

// spec says what is in an image.
type spec struct {
	name       string
	tools      bool              // on top of the Debian with network tools
	programs   map[string]string // path in the image → program
	links      map[string]string // path in the image → target
	entrypoint []string
	user       string
}

// specs is every image of the management cluster and of tenants' workers,
// under the names that kubeadm, clusterctl and the usual manifests ask for.
func specs() []spec {
	list := []spec{
		{name: Toolbox, tools: true, entrypoint: []string{"sleep", "infinity"}},
		{name: "registry.k8s.io/pause:3.10.2", programs: map[string]string{"/pause": "pause"}, entrypoint: []string{"/pause"}, user: pauseUser},
		{name: "registry.k8s.io/etcd:3.6.8-0", programs: map[string]string{"/usr/local/bin/etcd": "etcd"}, entrypoint: []string{"/usr/local/bin/etcd"}},
		{name: "registry.k8s.io/coredns/coredns:v1.14.2", programs: map[string]string{"/coredns": "coredns"}, entrypoint: []string{"/coredns"}},
		{name: "ghcr.io/flannel-io/flannel:v0.28.4", tools: true, programs: map[string]string{"/opt/bin/flanneld": "flanneld"},
			entrypoint: []string{"/opt/bin/flanneld"}},
		{name: "ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel1", tools: true, programs: map[string]string{"/flannel": "flannel"}},
	}
	for _, component := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		list = append(list, kubernetes(component, binaries.KubernetesVersion, "kubernetes"))
	}
	for _, component := range []string{"server", "agent"} {
		program := "proxy-" + component
		list = append(list, single("registry.k8s.io/kas-network-proxy/"+program+":v0.36.0", "/"+program, program, ""))
	}
	list = append(list, single("docker.io/rancher/kine:v0.16.4", "/bin/kine", "kine", nonroot))
	for _, component := range []string{"controller", "webhook", "cainjector"} {
		program := "cert-manager-" + component
		list = append(list, single("quay.io/jetstack/"+program+":v1.11.5", "/app/cmd/"+component+"/"+component, program, certManager))
	}
	for _, program := range []string{"cluster-api-controller", "kubeadm-bootstrap-controller"} {
		list = append(list, single("registry.k8s.io/cluster-api/"+program+":v1.14.2", "/manager", program, nonroot))
	}
	return list
}

// single is an image that holds one program.
func single(name, path, program, user string) spec {
	return spec{name: name, programs: map[string]string{path: program}, entrypoint: []string{path}, user: user}
}

// Demanded is a set of images that few tests need.
type Demanded struct {
	// Modules of package binaries that the programs come from.
	Modules []string
	// Addition is what the tools must have besides, as package rootfs names it.
	Addition string
	specs    []spec
}

// onDemand is every set of images that few tests need, by name.
func onDemand() map[string]Demanded {
	sets := map[string]Demanded{
		"storage": {Modules: []string{"local-path"}, specs: []spec{
			single("docker.io/rancher/local-path-provisioner:v0.0.30", "/usr/bin/local-path-provisioner", "local-path-provisioner", ""),
		}},
		"metallb": {Modules: []string{"metallb"}, specs: []spec{
			single("quay.io/metallb/controller:v0.15.2", "/controller", "controller", ""),
			single("quay.io/metallb/speaker:v0.15.2", "/speaker", "speaker", ""),
		}},
		"network-policies": {Modules: []string{"kube-router"}, Addition: "ipset", specs: []spec{{
			name: "kamaji.lab/kube-router:v2.2.1", tools: true, programs: map[string]string{"/usr/local/bin/kube-router": "kube-router"},
			entrypoint: []string{"/usr/local/bin/kube-router"},
		}}},
		"postgres": {Addition: "postgres", specs: []spec{{name: "docker.io/library/postgres:15-bookworm", tools: true, user: rootfs.ServerUser}}},
		"mariadb":  {Addition: "mariadb", specs: []spec{{name: "docker.io/library/mariadb:10.11", tools: true, user: rootfs.ServerUser}}},
	}
	for minor, version := range binaries.Earlier {
		module := binaries.EarlierModule(minor)
		set := Demanded{Modules: []string{module}}
		for _, component := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
			set.specs = append(set.specs, kubernetes(component, version, module))
		}
		if minor <= "1.34" {
			set.Modules = append(set.Modules, binaries.EarlierKonnectivity)
			for _, component := range []string{"server", "agent"} {
				program := binaries.EarlierKonnectivityProgram(component)
				set.specs = append(set.specs, single("registry.k8s.io/kas-network-proxy/proxy-"+component+":v0.34.0", "/proxy-"+component, program, ""))
			}
		}
		sets[module] = set
	}
	return sets
}

// OnDemand lists what Extra provides.
func OnDemand() []string { return slices.Sorted(maps.Keys(onDemand())) }

// Demand is the set of that name.
func Demand(name string) (Demanded, error) {
	set, known := onDemand()[name]
	if !known {
		return set, fmt.Errorf("no images %q: want one of %s", name, strings.Join(OnDemand(), ", "))
	}
	return set, nil
}

// kubernetes is the image of a component. All of a version hold the same file,
// and so the same layer; only kube-proxy needs the tools below it.
func kubernetes(component, version, program string) spec {
	image := spec{
		name:     "registry.k8s.io/" + component + ":" + version,
		tools:    component == "kube-proxy",
		programs: map[string]string{"/usr/local/bin/kubernetes": program}, links: map[string]string{},
		entrypoint: []string{"/usr/local/bin/" + component},
	}
	for _, name := range binaries.Kubernetes {
		image.links["/usr/local/bin/"+name] = "kubernetes"
	}
	return image
}

// Names lists every image that Ensure provides.
func Names() []string {
	var names []string
	for _, image := range specs() {
		names = append(names, image.name)
	}
	return names
}
