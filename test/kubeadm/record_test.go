// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// nodeName is the node that kubeadm runs on. Up to 1.35 it notes the container runtime's socket in the Node.
const nodeName = "recorder"

// configuration is what kubeadm is given: what the spec of the tenant says too, and what it would
// look up in the network or on the machine.
const configuration = `
apiVersion: kubeadm.k8s.io/%[1]s
kind: InitConfiguration
bootstrapTokens:
- {token: abcdef.0123456789abcdef, groups: ["system:bootstrappers:kubeadm:default-node-token"], usages: [signing, authentication]}
localAPIEndpoint: {advertiseAddress: 192.0.2.10, bindPort: 6443}
nodeRegistration: {name: recorder, criSocket: "unix:///run/containerd/containerd.sock"}
---
apiVersion: kubeadm.k8s.io/%[1]s
kind: ClusterConfiguration
clusterName: customer1
kubernetesVersion: %[2]s
controlPlaneEndpoint: customer1.k8s.example.com:6443
networking: {serviceSubnet: 10.0.0.0/24, podSubnet: 10.244.0.0/16, dnsDomain: cluster.local}
`

// phases of kubeadm init that write into a cluster what joining nodes, administrators and pods need.
var phases = []string{"upload-config all", "bootstrap-token", "addon all"}

// isolated is how a program gets a file system of its own.
var isolated = []string{"unshare", "--mount", "--map-root-user", "sh", "-c"}

// able tells whether kubeadm can be run here. In CI it has to be.
func able(t *testing.T) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), isolated[0], append(isolated[1:], "mount -t tmpfs none /etc")...).CombinedOutput()
	if err != nil && os.Getenv("CI") != "" {
		t.Fatalf("kubeadm needs an /etc of its own: %v %s", err, out)
	}
	if err != nil {
		t.Logf("kubeadm isn't run, only its records are used, because it needs an /etc of its own: %v %s", err, out)
	}
	return err == nil
}

// program is the command line of the kubeadm of a minor. Earlier ones are built, which takes minutes.
func program(t *testing.T, minor, newest string) []string {
	t.Helper()
	if minor == newest {
		kubernetes, err := filepath.EvalSymlinks(filepath.Join(testenv.Assets(), "kube-apiserver"))
		if err != nil {
			t.Fatal(err)
		}
		return []string{kubernetes, "kubeadm"}
	}
	module := binaries.KubeadmModule(minor)
	set, err := binaries.Build(t.Context(), progress.New(os.Stderr), module)
	if err != nil {
		t.Fatal(err)
	}
	return []string{set.Path(module)}
}

// initialise has kubeadm write into the cluster behind config. kubeadm creates the administrators' permissions only with
// the kubeconfigs in /etc/kubernetes, so it gets an /etc of its own.
func initialise(t *testing.T, config *rest.Config, c client.Client, kubeadm []string, version string) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelHostname: nodeName}}}
	if err := c.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(t.Context()), node); err != nil {
			t.Error(err)
		}
	})
	format := "v1beta4"
	if version < "v1.31" {
		format = "v1beta3"
	}
	folder := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("kubeadm.yaml", fmt.Appendf(nil, configuration, format, version))
	credentials := kubeconfig(t, config)
	write("admin.conf", credentials)
	write("super-admin.conf", credentials)

	var script strings.Builder
	script.WriteString("set -e; mount -t tmpfs none /etc; mkdir /etc/kubernetes; cp *.conf /etc/kubernetes\n")
	for _, phase := range phases {
		fmt.Fprintf(&script, "%s init phase %s --config=kubeadm.yaml\n", strings.Join(kubeadm, " "), phase)
	}
	command := exec.CommandContext(t.Context(), isolated[0], append(isolated[1:], script.String())...)
	command.Dir = folder
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("kubeadm: %v\n%s", err, out)
	}
}

// kubeconfig names the server as the tenant is called. Wherever kubeadm turns from there, a proxy leads it to the API server
// behind config.
func kubeconfig(t *testing.T, config *rest.Config) []byte {
	t.Helper()
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(tunnel(target.Host))
	t.Cleanup(proxy.Close)
	const name = "customer1"
	data, err := clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server: "https://customer1.k8s.example.com:6443", TLSServerName: target.Hostname(), ProxyURL: proxy.URL, CertificateAuthorityData: config.CAData,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tunnel is an HTTP proxy that connects to one address only.
func tunnel(address string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		to, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer to.Close() //nolint:errcheck // the tunnel is over
		w.WriteHeader(http.StatusOK)
		from, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer from.Close()       //nolint:errcheck // the tunnel is over
		go io.Copy(to, buffered) //nolint:errcheck // it ends with the connection
		io.Copy(from, to)        //nolint:errcheck // it ends with the connection
	}
}
