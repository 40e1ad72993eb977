// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeadm"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// The bootstrap token of the tests.
const (
	tokenID     = "abcdef"
	tokenSecret = "0123456789abcdef"
)

// Real kubeadm and kubelet join a tenant through the private address, by its host name as well as by its own port: they read
// cluster-info without credentials, verify it with the token and the pinned authority, and end up with a certificate and a kubeconfig
// that leads back to the private address.
func TestKubeadmJoinsThroughThePrivateAddress(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("kubeadm writes to /etc and needs root, to be given a root directory of its own")
	}
	programs, err := binaries.Build(t.Context(), progress.New(t.Output()), "kubernetes")
	must(t, err)
	w := newWorld(t)
	etcd := startEtcd(t)
	startEmbedded(t, w)
	for _, way := range []struct {
		name   string
		server func(c *cluster) endpoint.Server
	}{
		{"HostsPin", func(c *cluster) endpoint.Server {
			return endpoint.Server{Host: c.Hostname, Port: int32(w.gateway.Port)}
		}},
		{"TenantPort", func(c *cluster) endpoint.Server {
			return endpoint.Server{Host: w.gateway.PrivateAddress.String(), Port: int32(c.Port)}
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			c := w.newCluster(t, etcd, "join-"+strings.ToLower(way.name))
			c.endpoint.Worker = way.server(c)
			c.initialize(t, programs.Path("kubernetes"))
			anonymousDiscovery(t, c)
			m := newMachine(t, programs.Path("kubernetes"), fmt.Sprintf("%s %s\n", w.gateway.PrivateAddress, c.Hostname))
			join := func(pin string) (string, error) {
				return m.run("kubeadm", "join", "phase", "kubelet-start", c.endpoint.Worker.HostPort(), "--token="+tokenID+"."+tokenSecret,
					"--discovery-token-ca-cert-hash="+pin, "--node-name=w1", "--cri-socket=unix:///run/none.sock")
			}
			other, _ := w.newCluster(t, etcd, "other-"+strings.ToLower(way.name)).pki.Authority()
			if out, err := join(fingerprint(t, other)); err == nil || !strings.Contains(out, "public key") {
				t.Errorf("kubeadm with the authority of another tenant: %v, want it to be refused:\n%s", err, out)
			}
			ca, _ := c.pki.Authority()
			if out, err := join(fingerprint(t, ca)); err != nil {
				t.Fatalf("kubeadm: %v:\n%s", err, out)
			}
			m.bootstrapKubelet(t)
			kubelet, err := clientcmd.LoadFromFile(m.path("etc/kubernetes/kubelet.conf"))
			must(t, err)
			if got := kubelet.Clusters[kubelet.Contexts[kubelet.CurrentContext].Cluster].Server; got != c.endpoint.Worker.URL() {
				t.Errorf("the kubelet is led to %s, want %s", got, c.endpoint.Worker.URL())
			}
			nodeWorks(t, c, m)
		})
	}
}

// initialize starts the tenant's API server, the controllers that joining needs, and writes what the engine writes for kubeadm.
func (c *cluster) initialize(t *testing.T, kubernetes string) {
	t.Helper()
	port := c.serve(t)
	direct := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	config := c.config(t, direct.String(), direct, "admin", "system:masters")
	ca, key := c.pki.Authority()
	for name, data := range map[string][]byte{"signing.crt": ca, "signing.key": key} {
		must(t, os.WriteFile(filepath.Join(c.dir, name), data, 0o600))
	}
	start(t, kubernetes, "kube-controller-manager", "--kubeconfig="+c.kubeconfig(t, port), "--controllers=bootstrap-signer-controller,certificatesigningrequest-approving-controller,certificatesigningrequest-signing-controller",
		"--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port="+text(freePort(t)), "--cert-dir="+t.TempDir(),
		"--cluster-signing-cert-file="+filepath.Join(c.dir, "signing.crt"), "--cluster-signing-key-file="+filepath.Join(c.dir, "signing.key"))
	documents, err := kubeadm.Objects(kubeadm.Input{Tenant: c.object, Endpoint: c.endpoint, CACert: ca})
	must(t, err)
	writer, err := ctrlclient.New(config, ctrlclient.Options{})
	must(t, err)
	documents = append(documents, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: bootstrapapi.BootstrapTokenSecretPrefix + tokenID, Namespace: metav1.NamespaceSystem},
		Type:       bootstrapapi.SecretTypeBootstrapToken,
		StringData: map[string]string{
			bootstrapapi.BootstrapTokenIDKey: tokenID, bootstrapapi.BootstrapTokenSecretKey: tokenSecret,
			bootstrapapi.BootstrapTokenUsageSigningKey: "true", bootstrapapi.BootstrapTokenUsageAuthentication: "true",
			bootstrapapi.BootstrapTokenExtraGroupsKey: kubeadm.Bootstrappers().Name,
		},
	})
	for _, o := range documents {
		until(t, "the namespace of "+o.GetName()+" is there", func() bool {
			err := writer.Create(t.Context(), o)
			return err == nil || apierrors.IsAlreadyExists(err)
		})
	}
}

// certificate is the file with the certificate and key of the kubelet, or "". The link to it has a path of the machine.
func (m *machine) certificate() string {
	target, err := os.Readlink(m.path("var/lib/kubelet/pki/kubelet-client-current.pem"))
	if err != nil {
		return ""
	}
	return m.path(target)
}

// anonymousDiscovery reads cluster-info as kubeadm does before it trusts or can prove anything, through the gateway.
func anonymousDiscovery(t *testing.T, c *cluster) {
	t.Helper()
	anonymous, err := kubernetes.NewForConfig(&rest.Config{Host: c.endpoint.Worker.URL(), Dial: c.config(t, "", c.worker(), "").Dial, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1})
	must(t, err)
	until(t, "cluster-info is signed for the token", func() bool {
		info, err := anonymous.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(t.Context(), bootstrapapi.ConfigMapClusterInfo, metav1.GetOptions{})
		return err == nil && info.Data[bootstrapapi.JWSSignatureKeyPrefix+tokenID] != ""
	})
	if _, err := anonymous.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(t.Context(), "kubeadm-config", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("kubeadm-config without credentials: %v, want Forbidden", err)
	}
}

// worker is where the tenant's workers connect to, after their names are looked up.
func (c *cluster) worker() netip.AddrPort {
	return netip.AddrPortFrom(c.w.gateway.PrivateAddress, uint16(c.endpoint.Worker.Port))
}

// fingerprint is how kubeadm is told an authority.
func fingerprint(t *testing.T, authority []byte) string {
	t.Helper()
	block, _ := pem.Decode(authority)
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// machine is a root directory in which the programs of a node run: what they write to /etc and /var stays there. There is no init
// system in it, so kubeadm starts and stops no kubelet.
type machine struct{ root string }

func newMachine(t *testing.T, kubernetes, hosts string) *machine {
	t.Helper()
	root, err := os.MkdirTemp("", "machine") // the path of a socket in it has little room
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	m := &machine{root: root}
	for _, dir := range []string{"bin", "etc", "tmp", "run", "var/lib/kubelet", "proc"} {
		must(t, os.MkdirAll(m.path(dir), 0o755))
	}
	must(t, os.WriteFile(m.path("etc/hosts"), []byte(hosts), 0o644))
	in, err := os.Open(kubernetes)
	must(t, err)
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(m.path("bin/kubernetes"), os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) command(args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: "/bin/kubernetes", Args: append([]string{"kubernetes"}, args...), Dir: "/", Env: []string{"HOME=/", "PATH=/none"},
		SysProcAttr: &syscall.SysProcAttr{Chroot: m.root, Pdeathsig: syscall.SIGKILL},
	}
}

func (m *machine) run(args ...string) (string, error) {
	out, err := m.command(args...).CombinedOutput()
	return string(out), err
}

// bootstrapKubelet runs a kubelet until it has its kubeconfig and certificate. Its container runtime never answers, so it gets no further.
func (m *machine) bootstrapKubelet(t *testing.T) {
	t.Helper()
	// There are no control groups in the root directory, which the kubelet takes for the first version of them.
	must(t, os.MkdirAll(m.path("etc/kubelet.conf.d"), 0o755))
	must(t, os.WriteFile(m.path("etc/kubelet.conf.d/groups.conf"), []byte(`{"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "failCgroupV1": false}`), 0o644))
	runtime, err := net.Listen("unix", m.path("run/none.sock"))
	must(t, err)
	defer func() { _ = runtime.Close() }()
	kubelet := m.command("kubelet", "--config-dir=/etc/kubelet.conf.d", "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf", "--kubeconfig=/etc/kubernetes/kubelet.conf",
		"--config=/var/lib/kubelet/config.yaml", "--hostname-override=w1", "--cert-dir=/var/lib/kubelet/pki")
	log, err := os.Create(m.path("tmp/kubelet.log"))
	must(t, err)
	kubelet.Stdout, kubelet.Stderr = log, log
	must(t, kubelet.Start())
	defer func() {
		_ = kubelet.Process.Kill()
		_ = kubelet.Wait()
		_ = log.Close()
		if t.Failed() {
			t.Logf("kubelet:\n%s", tail(log.Name()))
		}
	}()
	until(t, "the kubelet has a kubeconfig and a certificate", func() bool {
		_, err := os.Stat(m.path("etc/kubernetes/kubelet.conf"))
		return err == nil && m.certificate() != ""
	})
}

// nodeWorks uses what the kubelet was given through the gateway: it is a node, and no more.
func nodeWorks(t *testing.T, c *cluster, m *machine) {
	t.Helper()
	data, err := os.ReadFile(m.certificate())
	must(t, err)
	config := c.config(t, c.endpoint.Worker.HostPort(), c.worker(), "unused")
	config.CertData, config.KeyData = data, data
	node, err := kubernetes.NewForConfig(config)
	must(t, err)
	if _, err := node.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("the node registers: %v", err)
	}
	if _, err := node.CoreV1().Secrets(metav1.NamespaceSystem).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the node reads all Secrets: %v, want Forbidden", err)
	}
}
