// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

const namespace = "tenants"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is an activator on an API server, with the rights of an installed manager.
type world struct {
	client  client.Client
	address string
}

// tenant is a sleeping one with the certificates that the engine gives it.
type tenant struct {
	*world
	host   string
	object *kamajiv1alpha1.TenantControlPlane
	pki    pki.Result
}

func newWorld(t *testing.T) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, kamajiv1alpha1.AddToScheme(scheme))
	config, c := testenv.Start(t, scheme, "config/controlplane/crd/bases")
	testenv.AsManager(t, config, c, "config/controlplane/rbac/role.yaml")
	must(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	config = rest.CopyConfig(config)
	config.Impersonate.UserName = testenv.ManagerUser
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}})
	must(t, err)
	must(t, indexHosts(t.Context(), mgr.GetFieldIndexer()))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := New(mgr.GetClient(), mgr.GetCache(), mgr.GetEventRecorder("test"), Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- mgr.Start(ctx) }()
	go func() { done <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("ended: %v", err)
			}
		}
	})
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the cache did not come up")
	}
	return &world{client: c, address: listener.Addr().String()}
}

func (w *world) tenant(t *testing.T, name string, edit ...func(*kamajiv1alpha1.TenantControlPlane)) *tenant {
	t.Helper()
	n := &tenant{world: w, host: name + ".k8s.example.com"}
	n.object = &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	n.object.Spec.Kubernetes.Version = "v1.36.3"
	n.object.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](0)
	n.object.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
	n.object.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", Wake: &kamajiv1alpha1.WakeSpec{}}
	for _, change := range edit {
		change(n.object)
	}
	must(t, w.client.Create(t.Context(), n.object))
	n.object.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{
		Name: "default", Hostname: n.host, AdditionalHostnames: n.object.Spec.ControlPlane.KamajiGateway.AdditionalHostnames, Port: 6443, TenantPort: 20001,
	}
	must(t, w.client.Status().Update(t.Context(), n.object))
	var err error
	n.pki, err = pki.Issue(pki.Input{SANs: pki.SANs{DNSNames: []string{n.host}}, Now: time.Now()})
	must(t, err)
	for _, suffix := range []string{pki.CA, pki.APIServer, pki.ServiceAccount} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name + "-" + suffix,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(n.object, kamajiv1alpha1.GroupVersion.WithKind("TenantControlPlane"))},
		}, Data: n.pki.Data[suffix]}
		must(t, w.client.Create(t.Context(), secret))
	}
	return n
}

// certificate is one of a client of the tenant.
func (n *tenant) certificate(t testing.TB, leaf pki.Leaf, at time.Time) *tls.Certificate {
	t.Helper()
	authority, err := pki.ParseAuthority(n.pki.Authority())
	must(t, err)
	leaf.Usage = x509.ExtKeyUsageClientAuth
	certPEM, keyPEM, err := authority.Sign(leaf, at)
	must(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	must(t, err)
	return &pair
}

func (n *tenant) admin(t testing.TB) *tls.Certificate {
	t.Helper()
	return n.certificate(t, pki.Leaf{CommonName: "kubernetes-admin", Organization: []string{"kubeadm:cluster-admins"}}, time.Now())
}

// ask is a request to a tenant.
type ask struct {
	certificate *tls.Certificate
	header      map[string]string
	// name is another than the tenant's own.
	name string
	// roots, if not those of the tenant's authority.
	roots *x509.CertPool
}

func (n *tenant) do(t testing.TB, a ask) (*http.Response, metav1.Status, error) {
	t.Helper()
	config := &tls.Config{ServerName: n.host, RootCAs: a.roots}
	if a.name != "" {
		config.ServerName = a.name
	}
	if config.RootCAs == nil {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(n.pki.Data[pki.CA]["ca.crt"])
	}
	if a.certificate != nil {
		config.Certificates = []tls.Certificate{*a.certificate}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+n.address+"/api/v1/namespaces/kube-system/secrets", http.NoBody)
	must(t, err)
	for name, value := range a.header {
		request.Header.Set(name, value)
	}
	response, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(request)
	if err != nil {
		return nil, metav1.Status{}, err
	}
	defer func() { _ = response.Body.Close() }()
	var status metav1.Status
	must(t, json.NewDecoder(response.Body).Decode(&status))
	return response, status, nil
}

// expect is do for a request that gets an answer, with a code.
func (n *tenant) expect(t testing.TB, what string, a ask, code int) *http.Response {
	t.Helper()
	response, status, err := n.do(t, a)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if response.StatusCode != code || int(status.Code) != code || status.Kind != "Status" || status.Status != metav1.StatusFailure || status.Message == "" {
		t.Errorf("%s: got %d with %+v, want %d", what, response.StatusCode, status, code)
	}
	if !response.Close || response.ProtoMajor != 1 {
		t.Errorf("%s: the connection stays open, by %s", what, response.Proto)
	}
	return response
}

// current is the object as stored.
func (n *tenant) current(t testing.TB) *kamajiv1alpha1.TenantControlPlane {
	t.Helper()
	out := &kamajiv1alpha1.TenantControlPlane{}
	must(t, n.client.Get(t.Context(), client.ObjectKeyFromObject(n.object), out))
	return out
}

// untouched fails the test when the object was written since it was read.
func (n *tenant) untouched(t testing.TB, before *kamajiv1alpha1.TenantControlPlane) {
	t.Helper()
	if now := n.current(t); now.ResourceVersion != before.ResourceVersion {
		t.Errorf("%s was written: annotations %v", n.object.Name, now.Annotations)
	}
}

// known waits until the activator has heard of a tenant.
func (n *tenant) known(t *testing.T) *tenant {
	t.Helper()
	eventually(t, func() error { _, _, err := n.do(t, ask{}); return err })
	return n
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		t.Fatal(last)
	}
}

// token is one of a ServiceAccount of the tenant.
func (n *tenant) token(t testing.TB, until time.Time) string {
	t.Helper()
	block, _ := pem.Decode(n.pki.Data[pki.ServiceAccount]["sa.key"])
	key, err := x509.ParseECPrivateKey(block.Bytes)
	must(t, err)
	input := encode(t, map[string]any{"alg": "ES256", "kid": pki.TokenKeyID(n.pki.Data[pki.ServiceAccount]["sa.pub"])}) + "." + encode(t, map[string]any{
		"iss": issuer, "aud": []string{issuer}, "sub": "system:serviceaccount:ci:deployer", "exp": until.Unix(),
		"kubernetes.io": map[string]any{"namespace": "ci", "serviceaccount": map[string]any{"name": "deployer", "uid": "42"}},
	})
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	must(t, err)
	return input + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// issuer of tokens where the user names no other.
const issuer = "https://kubernetes.default.svc.cluster.local"

func encode(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return base64.RawURLEncoding.EncodeToString(data)
}
