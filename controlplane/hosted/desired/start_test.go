// SPDX-License-Identifier: Apache-2.0

package desired_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/addons"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeadm"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// patience bounds every wait for a process. It is no measurement.
const patience = 2 * time.Minute

// TestComponentsStart runs the real components with the arguments and files of the
// Deployment, without a kubelet. It then sets up the tenant, twice, and waits for
// what only a complete control plane does: sign cluster-info for a joining node.
func TestComponentsStart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts four processes")
	}
	server := filepath.Join(testenv.Assets(), "kube-apiserver")
	if _, err := os.Stat(server); err != nil {
		t.Fatalf("no kube-apiserver: run `make test`, or `go run ./test/lab assets` once: %v", err)
	}
	p := newPod(t)
	p.start(filepath.Join(testenv.Assets(), "etcd"), "etcd", p.etcdArgs()...)
	p.start(server, "kube-apiserver", p.args("kube-apiserver", "--advertise-address=127.0.0.1")...)
	c := p.client()
	p.eventually("kube-apiserver serves", func(ctx context.Context) error {
		return c.Get(ctx, client.ObjectKey{Namespace: "default", Name: "kubernetes"}, &corev1.Service{})
	})
	p.configure(c)
	p.configureAgain(c)
	p.settles(c)

	// One program has all components in the lab; it looks at its own name.
	manager, sched := freePort(t), freePort(t)
	p.start(server, "kube-controller-manager", p.args("kube-controller-manager", fmt.Sprintf("--secure-port=%d", manager))...)
	p.start(server, "kube-scheduler", p.args("kube-scheduler", fmt.Sprintf("--secure-port=%d", sched))...)
	p.eventually("kube-controller-manager is healthy", healthz(manager))
	p.eventually("kube-scheduler is healthy", healthz(sched))
	p.measured(map[string]int{"kube-apiserver": int(p.in.Tenant.Port()), "kube-controller-manager": manager, "kube-scheduler": sched})

	token := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-abcdef", Namespace: metav1.NamespaceSystem},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
			"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
		},
	}
	if err := c.Create(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	p.eventually("cluster-info is signed", func(ctx context.Context) error {
		var info corev1.ConfigMap
		if err := c.Get(ctx, client.ObjectKey{Namespace: metav1.NamespacePublic, Name: "cluster-info"}, &info); err != nil {
			return err
		}
		if info.Data["jws-kubeconfig-abcdef"] == "" {
			return fmt.Errorf("keys %v", info.Data)
		}
		return nil
	})
	p.configureAgain(c)
	p.joinerReads("kube-system", "kubeadm-config", "kubelet-config", "kube-proxy")
}

// pod stands in for a pod of the Deployment.
type pod struct {
	*testing.T
	in       desired.Input
	dir      string
	etcdPort int
}

func newPod(t *testing.T) *pod {
	p := &pod{T: t, dir: t.TempDir(), etcdPort: freePort(t), in: throughGateway()}
	port := int32(freePort(t)) //nolint:gosec // ports fit
	local := endpoint.Server{Host: "127.0.0.1", Port: port}
	p.in.Tenant.Spec.NetworkProfile.Port = port
	p.in.Endpoint = endpoint.Endpoint{
		Service: local, Client: local, Worker: local, Published: local, Gateway: true,
		InCluster: endpoint.Server{Host: "10.0.0.100", Port: 21034},
	}
	p.in.Storage = desired.Storage{Endpoints: []string{fmt.Sprintf("127.0.0.1:%d", p.etcdPort)}, Schema: "demo"}
	p.issue()
	return p
}

func (p *pod) issue() {
	p.Helper()
	now := time.Now()
	sans, err := pki.ServingSANs(p.in.Tenant, p.in.Endpoint)
	p.must(err)
	certs, err := pki.Issue(pki.Input{SANs: sans, Konnectivity: true, Metrics: true, Now: now})
	p.must(err)
	p.in.Secrets = certs.Data
	caCert, caKey := certs.Authority()
	confs, err := kubeconfig.Issue(kubeconfig.Input{
		CACert: caCert, CAKey: caKey, Cluster: "demo", Endpoint: p.in.Endpoint, LocalPort: p.in.Tenant.Port(), Now: now,
		KonnectivityCert: certs.Data[pki.Konnectivity]["tls.crt"], KonnectivityKey: certs.Data[pki.Konnectivity]["tls.key"],
	})
	p.must(err)
	for name, data := range confs.Data {
		p.in.Secrets[name] = data
	}
	// The datastore has an authority of its own.
	store, err := pki.Issue(pki.Input{Now: now})
	p.must(err)
	storeCert, storeKey := store.Authority()
	authority, err := pki.ParseAuthority(storeCert, storeKey)
	p.must(err)
	cert, key, err := authority.Sign(pki.Leaf{CommonName: "demo", Usage: x509.ExtKeyUsageClientAuth}, now)
	p.must(err)
	p.in.Secrets[pki.DataStore] = map[string][]byte{"ca.crt": storeCert, "server.crt": cert, "server.key": key}
	cert, key, err = authority.Sign(pki.Leaf{CommonName: "etcd", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Usage: x509.ExtKeyUsageServerAuth}, now)
	p.must(err)
	p.write("etcd/ca.crt", storeCert)
	p.write("etcd/server.crt", cert)
	p.write("etcd/server.key", key)
}

func (p *pod) etcdArgs() []string {
	url := fmt.Sprintf("https://127.0.0.1:%d", p.etcdPort)
	file := func(name string) string { return filepath.Join(p.dir, "etcd", name) }
	return []string{
		"--data-dir=" + file("data"), "--listen-client-urls=" + url, "--advertise-client-urls=" + url, "--listen-peer-urls=http://127.0.0.1:0",
		"--client-cert-auth", "--trusted-ca-file=" + file("ca.crt"), "--cert-file=" + file("server.crt"), "--key-file=" + file("server.key"), "--unsafe-no-fsync",
	}
}

// args are a container's arguments, with the paths of files that are written as the
// container's volumes say.
func (p *pod) args(name string, extra ...string) []string {
	p.Helper()
	spec := desired.Deployment(p.in).Spec.Template.Spec
	for _, c := range append(spec.Containers, spec.InitContainers...) {
		if c.Name != name {
			continue
		}
		args := strings.Join(c.Args, "\n")
		for _, m := range c.VolumeMounts {
			p.mount(spec.Volumes, m, filepath.Join(name, m.MountPath))
			args = strings.ReplaceAll(args, m.MountPath, filepath.Join(p.dir, name, m.MountPath))
		}
		return append(strings.Split(args, "\n"), extra...)
	}
	p.Fatalf("no container %s", name)
	return nil
}

func (p *pod) mount(volumes []corev1.Volume, m corev1.VolumeMount, to string) {
	for _, v := range volumes {
		switch {
		case v.Name != m.Name:
		case v.Secret != nil:
			for key, data := range p.secret(v.Secret.SecretName) {
				p.write(filepath.Join(to, key), data)
			}
		case v.Projected != nil:
			for _, source := range v.Projected.Sources {
				for _, item := range source.Secret.Items {
					p.write(filepath.Join(to, item.Path), p.secret(source.Secret.Name)[item.Key])
				}
			}
		case v.ConfigMap != nil:
			for _, object := range desired.Workload(p.in) {
				if config, ok := object.(*corev1.ConfigMap); ok && config.Name == v.ConfigMap.Name {
					for key, data := range config.Data {
						p.write(filepath.Join(to, key), []byte(data))
					}
				}
			}
		}
	}
}

func (p *pod) secret(name string) map[string][]byte {
	return p.in.Secrets[strings.TrimPrefix(name, p.in.Tenant.Name+"-")]
}

func (p *pod) write(name string, data []byte) {
	p.Helper()
	if len(data) == 0 {
		p.Fatalf("%s would be empty", name)
	}
	path := filepath.Join(p.dir, name)
	p.must(os.MkdirAll(filepath.Dir(path), 0o700))
	p.must(os.WriteFile(path, data, 0o600))
}

// start runs a program under another name until the test ends, and shows its log if the test failed.
func (p *pod) start(path, name string, args ...string) {
	p.Helper()
	log, err := os.Create(filepath.Join(p.dir, name+".log"))
	p.must(err)
	cmd := exec.Command(path, args...)
	cmd.Args[0] = name
	cmd.Stdout, cmd.Stderr = log, log
	p.must(cmd.Start())
	p.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if !p.Failed() {
			return
		}
		data, _ := os.ReadFile(log.Name())
		p.Logf("last words of %s:\n%s", name, data[max(0, len(data)-2000):])
	})
}

func (p *pod) eventually(what string, check func(context.Context) error) {
	p.Helper()
	var last error
	err := wait.PollUntilContextTimeout(p.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		p.Fatalf("%s: never: %v", what, last)
	}
}

func (p *pod) client() client.Client {
	p.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(p.in.Secrets[kubeconfig.Admin][kubeconfig.SuperAdminConf])
	p.must(err)
	var c client.Client
	p.eventually("kube-apiserver answers", func(context.Context) (err error) {
		c, err = client.New(config, client.Options{Scheme: scheme.Scheme})
		return err
	})
	return c
}

// objects are new at each call, since applying changes them.
func (p *pod) objects() []client.Object {
	p.Helper()
	caCert := p.in.Secrets[pki.CA]["ca.crt"]
	documents, err := kubeadm.Objects(kubeadm.Input{Tenant: p.in.Tenant, Endpoint: p.in.Endpoint, CACert: caCert})
	p.must(err)
	extras, err := addons.Objects(addons.Input{Tenant: p.in.Tenant, Endpoint: p.in.Endpoint})
	p.must(err)
	return append(documents, extras...)
}

func (p *pod) configure(c client.Client) {
	p.Helper()
	w := &apply.Writer{Client: c, Owner: "test"}
	p.eventually("the tenant is configured", func(ctx context.Context) error {
		_, err := w.All(ctx, p.objects())
		return err
	})
}

func (p *pod) configureAgain(c client.Client) {
	p.Helper()
	for _, object := range p.objects() {
		changed, err := (&apply.Writer{Client: c, Owner: "test"}).Apply(p.Context(), object)
		p.must(err)
		if changed {
			p.Errorf("%T %s was written again without need", object, client.ObjectKeyFromObject(object))
		}
	}
}

// settles applies the workloads of all tenants of the golden files, each over the
// one before, and expects that a second time writes nothing. No controller runs
// yet that would miss the owner.
func (p *pod) settles(c client.Client) {
	p.Helper()
	p.must(c.Create(p.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.in.Tenant.Namespace}}))
	w := &apply.Writer{Client: c, Owner: "test"}
	for _, in := range []func() desired.Input{input, throughGateway, everything, input} {
		for _, object := range desired.Workload(in()) {
			_, err := w.Apply(p.Context(), object)
			p.must(err)
		}
		for _, object := range desired.Workload(in()) {
			changed, err := w.Apply(p.Context(), object)
			p.must(err)
			if changed {
				p.Errorf("%T %s was written again without need", object, client.ObjectKeyFromObject(object))
			}
		}
	}
}

// joinerReads asks for ConfigMaps with a bootstrap token, as kubeadm does.
func (p *pod) joinerReads(namespace string, names ...string) {
	p.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(p.in.Secrets[kubeconfig.Admin][kubeconfig.AdminConf])
	p.must(err)
	config.CertData, config.KeyData, config.BearerToken = nil, nil, "abcdef.0123456789abcdef"
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	p.must(err)
	for _, name := range names {
		p.eventually("a joining node reads "+name, func(ctx context.Context) error {
			return c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &corev1.ConfigMap{})
		})
	}
}

func (p *pod) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func healthz(port int) func(context.Context) error {
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // as the kubelet probes
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/healthz", port), nil)
		if err != nil {
			return err
		}
		response, err := insecure.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", response.Status)
		}
		return nil
	}
}

// measured reads what Prometheus reads, with the certificate that it has, and tries to read more.
func (p *pod) measured(ports map[string]int) {
	p.Helper()
	identity, err := tls.X509KeyPair(p.in.Secrets[pki.Metrics]["tls.crt"], p.in.Secrets[pki.Metrics]["tls.key"])
	p.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.in.Secrets[pki.Metrics]["ca.crt"])
	for name, port := range ports {
		config := &tls.Config{Certificates: []tls.Certificate{identity}, InsecureSkipVerify: true} //nolint:gosec // they sign for themselves
		paths := map[string]int{"/metrics": http.StatusOK, "/configz": http.StatusForbidden}
		if name == "kube-apiserver" {
			config = &tls.Config{Certificates: []tls.Certificate{identity}, RootCAs: roots, ServerName: "kubernetes"}
			paths = map[string]int{"/metrics": http.StatusOK, "/api/v1/secrets": http.StatusForbidden, "/api/v1/namespaces/kube-system/configmaps": http.StatusForbidden, "/debug/pprof/": http.StatusForbidden}
		}
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		for path, want := range paths {
			p.eventually(fmt.Sprintf("%s answers %s by %d", name, path, want), func(ctx context.Context) error {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d%s", port, path), nil)
				if err != nil {
					return err
				}
				response, err := c.Do(request)
				if err != nil {
					return err
				}
				defer response.Body.Close()
				if response.StatusCode != want {
					return fmt.Errorf("status %s", response.Status)
				}
				return nil
			})
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
