// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// inCluster is the address of the Service default/kubernetes, for which clients send no server name.
const inCluster = "10.96.0.1"

// advertised stands for the gateway's private address where Kubernetes takes no loopback address. Clients here are led to the real one.
const advertised = "192.0.2.5"

// program is a process of the test, of which the output is shown when it fails.
type program struct {
	name string
	*exec.Cmd
	done chan struct{}
}

// start runs a program until the test ends.
func start(t testing.TB, binary string, args ...string) *program {
	t.Helper()
	p := &program{name: filepath.Base(binary), Cmd: exec.Command(binary, args...), done: make(chan struct{})}
	log := filepath.Join(t.TempDir(), p.name+".log")
	file, err := os.Create(log)
	must(t, err)
	p.Stdout, p.Stderr = file, file
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, p.Start())
	go func() { _ = p.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		_ = file.Close()
		if t.Failed() {
			t.Logf("%s %q:\n%s", p.name, args, tail(log))
		}
	})
	return p
}

// tail is the end of a file.
func tail(path string) string {
	const end = 4000
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-end):])
}

// stop ends a program as Kubernetes ends a pod, and waits.
func (p *program) stop(t testing.TB) {
	t.Helper()
	must(t, p.Process.Signal(syscall.SIGTERM))
	<-p.done
}

func asset(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(testenv.Assets(), name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no %s in %q: run `make test`, or `go run ./test/lab assets` once", name, testenv.Assets())
	}
	return path
}

// startEtcd returns the URL of a datastore that API servers share, each tenant with a prefix.
func startEtcd(t testing.TB) string {
	t.Helper()
	client, peer := "http://127.0.0.1:"+strconv.Itoa(int(freePort(t))), "http://127.0.0.1:"+strconv.Itoa(int(freePort(t)))
	start(t, asset(t, "etcd"), "--data-dir="+t.TempDir(), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--unsafe-no-fsync", "--log-level=warn")
	until(t, "etcd is healthy", func() bool {
		resp, err := http.Get(client + "/health")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == http.StatusOK
	})
	return client
}

// cluster is a tenant with real API servers behind the gateway and the certificates that the engine gives it.
type cluster struct {
	w *world
	route.Tenant
	etcd     string
	object   *kamajiv1alpha1.TenantControlPlane
	endpoint endpoint.Endpoint
	pki      pki.Result
	// dir holds the files of pki.
	dir string
	// flags are further ones of its API servers.
	flags []string

	mu      sync.Mutex
	servers map[uint16]*program
	serving []route.Endpoint
	// tunnels are its konnectivity servers.
	tunnels []route.Endpoint
}

func (w *world) newCluster(t testing.TB, etcd, name string) *cluster {
	t.Helper()
	c := &cluster{
		w: w, etcd: etcd, dir: t.TempDir(), servers: map[uint16]*program{},
		Tenant: route.Tenant{Namespace: "tenants", Name: name, Gateway: w.gateway.Name, Hostname: name + ".k8s.example.com", Port: freePort(t)},
	}
	c.object = &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name}}
	c.object.Spec.Kubernetes.Version = "v1.36.3"
	at := endpoint.Server{Host: advertised, Port: int32(c.Port)}
	c.endpoint = endpoint.Endpoint{
		Worker: at, InCluster: at, Client: endpoint.Server{Host: c.Hostname, Port: int32(w.gateway.Port)}, Gateway: true,
		Names: []string{c.Hostname}, Addresses: []string{advertised, w.gateway.PrivateAddress.String()},
	}
	sans, err := pki.ServingSANs(c.object, c.endpoint)
	must(t, err)
	c.pki, err = pki.Issue(pki.Input{SANs: sans, Konnectivity: true, Now: time.Now()})
	must(t, err)
	for _, files := range c.pki.Data {
		for name, data := range files {
			must(t, os.WriteFile(filepath.Join(c.dir, name), data, 0o600))
		}
	}
	return c
}

// serve starts an API server more, and has the gateway know it once it is ready.
func (c *cluster) serve(t testing.TB) uint16 {
	t.Helper()
	port := freePort(t)
	file := func(name string) string { return filepath.Join(c.dir, name) }
	server := start(t, asset(t, "kube-apiserver"), append([]string{
		"--etcd-servers=" + c.etcd, "--etcd-prefix=/" + c.Name, "--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(int(port)),
		"--advertise-address=" + advertised, "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC", "--enable-bootstrap-token-auth=true", "--client-ca-file=" + file(pki.ClientsFile),
		"--tls-cert-file=" + file("apiserver.crt"), "--tls-private-key-file=" + file("apiserver.key"), "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + file("sa.pub"), "--service-account-signing-key-file=" + file("sa.key"), "--shutdown-delay-duration=2s",
		"--profiling=false", "--cert-dir=" + t.TempDir(),
	}, c.flags...)...)
	admin := c.admin(t, port)
	until(t, c.Name+" has an API server more", func() bool {
		_, err := admin.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context())
		return err == nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[port] = server
	c.serving = append(c.serving, route.Endpoint{Address: netip.MustParseAddr("127.0.0.1"), Port: port})
	c.publish(t)
	return port
}

// end stops an API server as a rolling update does: the gateway hears of it first.
func (c *cluster) end(t testing.TB, port uint16) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest []route.Endpoint
	for i, e := range c.serving {
		if e.Port == port {
			c.serving[i].Draining = true
		} else {
			rest = append(rest, e)
		}
	}
	c.publish(t)
	c.servers[port].stop(t)
	delete(c.servers, port)
	c.serving = rest
	c.publish(t)
}

func (c *cluster) publish(t testing.TB) {
	t.Helper()
	c.w.set(t, c.Tenant, route.Backends{route.PortAPIServer: c.serving, route.PortKonnectivity: c.tunnels})
}

// config is a client of the tenant, with a certificate of its authority. It is told host, and connects to a fixed address, as kube-proxy
// does for it.
func (c *cluster) config(t testing.TB, host string, at netip.AddrPort, user string, groups ...string) *rest.Config {
	t.Helper()
	ca, key := c.pki.Authority()
	authority, err := pki.ParseAuthority(ca, key)
	must(t, err)
	certPEM, keyPEM, err := authority.Sign(pki.Leaf{CommonName: user, Organization: groups, Usage: x509.ExtKeyUsageClientAuth}, time.Now())
	must(t, err)
	return &rest.Config{
		Host: "https://" + host, TLSClientConfig: rest.TLSClientConfig{CAData: ca, CertData: certPEM, KeyData: keyPEM}, QPS: -1, Timeout: 30 * time.Second,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, at.String())
		},
	}
}

func (c *cluster) clients(t testing.TB, host string, at netip.AddrPort) *kubernetes.Clientset {
	t.Helper()
	clients, err := kubernetes.NewForConfig(c.config(t, host, at, "admin", "system:masters"))
	must(t, err)
	return clients
}

// admin is a client of one API server, past the gateway.
func (c *cluster) admin(t testing.TB, port uint16) *kubernetes.Clientset {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	return c.clients(t, at.String(), at)
}

// metrics are those of one API server.
func (c *cluster) metrics(t testing.TB, port uint16) string {
	t.Helper()
	data, err := c.admin(t, port).Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	must(t, err)
	return string(data)
}

// kubeconfig is a file for components of the control plane, which reach one API server past the gateway.
func (c *cluster) kubeconfig(t testing.TB, port uint16) string {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	config := c.config(t, at.String(), at, "admin", "system:masters")
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:  map[string]*clientcmdapi.Cluster{"": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"": {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
		Contexts:  map[string]*clientcmdapi.Context{"": {}},
	}, path))
	return path
}

// pod is a client as pods are: it dials the Service default/kubernetes, which leads to the tenant's own port.
func (c *cluster) pod(t testing.TB, host string) *kubernetes.Clientset {
	t.Helper()
	return c.clients(t, host, c.w.own(c.Tenant))
}

// unknownAuthority tells whether a client refused a server because another authority vouches for it.
func unknownAuthority(err error) bool {
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &unknown)
}
