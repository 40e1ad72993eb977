// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/activator"
	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// tokenIssuer is that of the API servers here.
const tokenIssuer = "https://kubernetes.default.svc"

// sleeper is a cluster that its own clients can wake, and the management cluster that has its TenantControlPlane. The test does what the
// engine does with the annotation.
type sleeper struct {
	*cluster
	management ctrlclient.Client
}

// newSleeper starts the activator and makes a cluster that sleeps.
func (w *world) newSleeper(t *testing.T, name string) *sleeper {
	t.Helper()
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, kamajiv1alpha1.AddToScheme(scheme))
	config, management := testenv.Start(t, scheme, "config/controlplane/crd/bases")
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}})
	must(t, err)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	must(t, activator.SetupWithManager(t.Context(), mgr, activator.Options{Address: at.String()}))
	must(t, w.state.SetActivator([]route.Endpoint{{Address: at.Addr(), Port: at.Port()}}))
	run(t, mgr.Start)
	s := &sleeper{cluster: w.newCluster(t, startEtcd(t), name), management: management}
	s.Wake = true
	must(t, management.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}}))
	s.object.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
	s.object.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: w.gateway.Name, Wake: &kamajiv1alpha1.WakeSpec{}}
	s.object.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](0)
	s.object.Spec.ControlPlane.Deployment.ExtraArgs = &kamajiv1alpha1.ControlPlaneExtraArgs{APIServer: []string{"--service-account-issuer=" + tokenIssuer}}
	must(t, management.Create(t.Context(), s.object))
	s.object.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{Name: w.gateway.Name, Hostname: s.Hostname, Port: int32(w.gateway.Port), TenantPort: int32(s.Port)}
	must(t, management.Status().Update(t.Context(), s.object))
	for suffix, data := range s.pki.Data {
		must(t, management.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: name + "-" + suffix,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.object, kamajiv1alpha1.GroupVersion.WithKind("TenantControlPlane"))},
		}, Data: data}))
	}
	return s
}

// wanted is whether the control plane is to run.
func (s *sleeper) wanted(t *testing.T) bool {
	t.Helper()
	object := &kamajiv1alpha1.TenantControlPlane{}
	must(t, s.management.Get(t.Context(), ctrlclient.ObjectKeyFromObject(s.object), object))
	return object.ReplicasAt(time.Now()) > 0
}

// sleep ends the API server, and takes the annotation off as if its time were over.
func (s *sleeper) sleep(t *testing.T, port uint16) {
	t.Helper()
	s.end(t, port)
	object := &kamajiv1alpha1.TenantControlPlane{}
	must(t, s.management.Get(t.Context(), ctrlclient.ObjectKeyFromObject(s.object), object))
	delete(object.Annotations, kamajiv1alpha1.AwakeUntilAnnotation)
	must(t, s.management.Update(t.Context(), object))
	until(t, "connections lead to the activator", func() bool {
		code, err := s.anonymous(t, nil)
		return err == nil && code == http.StatusUnauthorized
	})
}

// anonymous is a request through the public listener, with a certificate or without, and the code that answers it.
func (s *sleeper) anonymous(t *testing.T, certificates []tls.Certificate) (int, error) {
	t.Helper()
	config := &tls.Config{ServerName: s.Hostname, Certificates: certificates, InsecureSkipVerify: true} // who answers is not the question here
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: config}
	c, err := dialer.DialContext(t.Context(), "tcp", s.w.public().String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	must(t, c.SetDeadline(time.Now().Add(patience)))
	if _, err := io.WriteString(c, "GET /api HTTP/1.1\r\nHost: "+s.Hostname+"\r\n\r\n"); err != nil {
		return 0, err
	}
	line := make([]byte, 12)
	if _, err := io.ReadFull(c, line); err != nil {
		return 0, err
	}
	code := 0
	_, err = fmt.Sscanf(string(line), "HTTP/1.1 %d", &code)
	return code, err
}

// woken has a client use the sleeping cluster, once and as patient as it is by itself. It returns the port of the API server that was started.
func (s *sleeper) woken(t *testing.T, who string, use func(context.Context) error) uint16 {
	t.Helper()
	if s.wanted(t) {
		t.Fatalf("%s: the cluster does not sleep", who)
	}
	began, used := time.Now(), make(chan error, 1)
	go func() { used <- use(t.Context()) }()
	until(t, who+" wakes the cluster", func() bool { return s.wanted(t) })
	asked := time.Since(began)
	port := s.serve(t)
	served := time.Since(began)
	if err := <-used; err != nil {
		t.Fatalf("%s: %v", who, err)
	}
	t.Logf("%s: woken after %.2f s, the API server was ready after %.1f s, the client was answered after %.1f s", who, asked.Seconds(), served.Seconds(), time.Since(began).Seconds())
	return port
}

// Clients with a certificate or token of the tenant find it as they left it, and take nothing for it but a slow answer. Whoever can't prove
// who they are, however many they be, wake nothing.
func TestAConnectionWakesASleepingTenant(t *testing.T) {
	w := newWorld(t)
	startEmbedded(t, w)
	s := w.newSleeper(t, "c1")
	const mark = "mark"
	get := func(clients *kubernetes.Clientset) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := clients.CoreV1().Namespaces().Get(ctx, mark, metav1.GetOptions{})
			return err
		}
	}
	port := s.serve(t)
	customer := s.clients(t, s.Hostname, w.public())
	until(t, "the gateway knows the tenant", func() bool { _, err := customer.Discovery().ServerVersion(); return err == nil })
	_, err := customer.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: mark}}, metav1.CreateOptions{})
	must(t, err)
	application := s.application(t, customer, mark)
	s.sleep(t, port)

	s.flood(t)
	stranger := newAuthority(t, "kubernetes").issue(t, pkix.Name{CommonName: "kubernetes-admin", Organization: []string{"system:masters"}}, nil, nil, "")
	if code, err := s.anonymous(t, []tls.Certificate{stranger}); err != nil || code != http.StatusUnauthorized {
		t.Errorf("a certificate of another authority: %d, %v", code, err)
	}
	if s.wanted(t) {
		t.Fatal("it was woken by somebody that nobody knows")
	}
	if _, err := s.pod(t, inCluster).Discovery().ServerVersion(); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("a connection without a name: %v, want a TLS alert", err)
	}

	port = s.woken(t, "client-go with a certificate", get(s.clients(t, s.Hostname, w.public())))
	s.sleep(t, port)
	port = s.woken(t, "client-go with a ServiceAccount token, by the private address", get(application))
	s.sleep(t, port)
	s.woken(t, "kubectl", s.kubectl(t, "get", "namespace", mark, "--output=name"))
}

// flood comes without credentials.
func (s *sleeper) flood(t *testing.T) {
	t.Helper()
	codes := map[int]int{}
	var mu sync.Mutex
	var crowd sync.WaitGroup
	for range 20 {
		crowd.Go(func() {
			for range 25 {
				code, _ := s.anonymous(t, nil)
				mu.Lock()
				codes[code]++
				mu.Unlock()
			}
		})
	}
	crowd.Wait()
	t.Logf("500 connections without credentials, by the code that answered them, 0 for none: %v", codes)
	for code := range codes {
		if code != 0 && code != http.StatusUnauthorized {
			t.Errorf("some were answered %d", code)
		}
	}
}

// application is a client with a token of a ServiceAccount, on the private side.
func (s *sleeper) application(t *testing.T, admin *kubernetes.Clientset, namespace string) *kubernetes.Clientset {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "application"}}
	_, err := admin.CoreV1().ServiceAccounts(namespace).Create(t.Context(), account, metav1.CreateOptions{})
	must(t, err)
	role := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account.Name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account.Name}},
	}
	_, err = admin.RbacV1().ClusterRoleBindings().Create(t.Context(), role, metav1.CreateOptions{})
	must(t, err)
	request, err := admin.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(t, err)
	config := s.config(t, s.Hostname, s.w.private(), "unused")
	config.CertData, config.KeyData, config.BearerToken = nil, nil, request.Status.Token
	clients, err := kubernetes.NewForConfig(rest.CopyConfig(config))
	must(t, err)
	return clients
}

// kubectl is a run of the program with a kubeconfig as a customer has it: the gateway's address, and the tenant's name beside it.
func (s *sleeper) kubectl(t *testing.T, args ...string) func(context.Context) error {
	t.Helper()
	config := s.config(t, s.Hostname, s.w.public(), "kubernetes-admin", "system:masters")
	home := t.TempDir()
	path := filepath.Join(home, "kubeconfig")
	must(t, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"c": {
			Server: "https://" + s.w.public().String(), TLSServerName: s.Hostname, CertificateAuthorityData: s.pki.Data[pki.CA]["ca.crt"],
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, path))
	program := asset(t, "kubectl")
	return func(ctx context.Context) error {
		command := exec.CommandContext(ctx, program, args...)
		command.Env = append(os.Environ(), "KUBECONFIG="+path, "HOME="+home)
		out, err := command.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "namespace/mark" {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}
