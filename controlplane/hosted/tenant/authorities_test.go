// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// caller polls an API server without a pause, on a new connection each time, and keeps what went wrong.
type caller struct {
	stop   func()
	done   sync.WaitGroup
	calls  int
	failed []error
}

func call(t *testing.T, config func() (*rest.Config, error)) *caller {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &caller{stop: cancel}
	t.Cleanup(cancel)
	c.done.Go(func() {
		for ctx.Err() == nil {
			if err := once(ctx, config); err != nil && ctx.Err() == nil {
				c.failed = append(c.failed, err)
			}
			c.calls++
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond): // its rate, nothing waits for it
			}
		}
	})
	return c
}

func once(ctx context.Context, config func() (*rest.Config, error)) error {
	c, err := config()
	if err != nil {
		return err
	}
	c = rest.CopyConfig(c)
	c.Timeout = 20 * time.Second
	transport, err := rest.HTTPClientFor(c)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Host+"/api/v1/namespaces/default", http.NoBody)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := transport.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

// end stops the caller and fails the test for each call that has failed.
func (c *caller) end(t *testing.T, who string) {
	t.Helper()
	c.stop()
	c.done.Wait()
	if c.calls == 0 || len(c.failed) > 0 {
		t.Errorf("%s: %d of %d calls failed, the first by %v", who, len(c.failed), c.calls, errors.Join(c.failed...))
	}
}

// caller returns how a kubeconfig in a Secret reaches the tenant, past the Service that only a cluster has. The Secret is
// read each time it is used.
func (w *world) caller(t *testing.T, key string) func() (*rest.Config, error) {
	t.Helper()
	ctx, address := t.Context(), w.address(t, name)
	return func() (*rest.Config, error) {
		secret := &corev1.Secret{}
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: system, Name: name + "-admin-kubeconfig"}, secret); err != nil {
			return nil, err
		}
		config, err := clientcmd.RESTConfigFromKubeConfig(secret.Data[key])
		if err != nil {
			return nil, err
		}
		config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return w.kubelet.dial(ctx, network, address)
		}
		return config, nil
	}
}

// frozen is a caller that keeps what it has now.
func (w *world) frozen(t *testing.T, key string) func() (*rest.Config, error) {
	t.Helper()
	config, err := w.caller(t, key)()
	if err != nil {
		t.Fatal(err)
	}
	return func() (*rest.Config, error) { return config, nil }
}

// phaseOf waits until a Secret is in a phase of its rotation, and the Deployment of it.
func (w *world) phaseOf(t *testing.T, suffix string, want pki.Phase) {
	t.Helper()
	w.eventually(t, func(context.Context) string {
		if got := pki.PhaseOf(w.secret(t, name+"-"+suffix).Data); got != want {
			tn := w.tenant(t, name, kamajiv1alpha1.StorageReadyCondition, metav1.ConditionTrue, phase.ReasonDone)
			return fmt.Sprintf("%s is in phase %q, not %q: %+v", suffix, got, want, tn.Status.Conditions)
		}
		return ""
	})
}

// rolled waits for the change of the Deployment that a step makes, and does it.
func (w *world) rolled(t, life *testing.T) {
	t.Helper()
	w.eventually(t, func(context.Context) string {
		if d := w.deployment(t, name); d.Generation == d.Status.ObservedGeneration {
			return "the Deployment was not rolled"
		}
		return ""
	})
	w.kubelet.roll(t, life, w.client, w.deployment(t, name), w.address(t, name))
	w.pods(t, name, 2)
}

// authorities replaces all three at once, under load.
func (w *world) authorities(t, life *testing.T) {
	former := w.secret(t, name+"-ca")
	before := w.frozen(t, "admin.svc")
	tenant := w.access(t, name, "super-admin.svc")
	if err := tenant.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker"}}); err != nil {
		t.Fatal(err)
	}
	bearer := w.bearer(t, tenant)
	old, latest, token := call(t, before), call(t, w.caller(t, "admin.svc")), call(t, bearer)

	suffixes := []string{"ca", "front-proxy-ca-certificate", "sa-certificate"}
	for _, suffix := range suffixes {
		w.annotate(t, w.secret(t, name+"-"+suffix), kamajiv1alpha1.RotateAnnotation, "")
	}
	for _, suffix := range suffixes {
		w.phaseOf(t, suffix, pki.Trusting)
		if _, err := time.Parse(time.RFC3339, w.secret(t, name+"-"+suffix).Annotations[kamajiv1alpha1.RotateAnnotation]); err != nil {
			t.Errorf("%s: %v", suffix, err)
		}
	}
	w.rolled(t, life)
	for _, suffix := range suffixes {
		w.phaseOf(t, suffix, pki.Retiring)
	}
	w.rolled(t, life)
	w.phaseOf(t, "front-proxy-ca-certificate", pki.Settled)
	w.rolled(t, life)

	w.rotating(t, "worker")
	w.eventually(t, func(context.Context) string {
		if w.secret(t, name+"-ca").Annotations[kamajiv1alpha1.RetiringSinceAnnotation] == "" {
			return "it isn't written down since when the next authority is in use"
		}
		return ""
	})
	w.wiped(t)
	w.rotating(t, "worker")
	// A renewed certificate is no proof, one that a joining node has got is.
	w.certify(t, tenant, "renewal", "system:node:worker", "worker")
	w.nudge(t, "renewal")
	w.rotating(t, "worker")
	if got := pki.PhaseOf(w.secret(t, name+"-ca").Data); got != pki.Retiring {
		t.Errorf("a renewed certificate ended the rotation: %q", got)
	}
	old.end(t, "a client with what it had before")
	w.certify(t, tenant, "join", "system:bootstrap:abcdef", "worker")
	w.nudge(t, "join")
	w.phaseOf(t, "ca", pki.Settled)
	w.phaseOf(t, "sa-certificate", pki.Retiring)
	token.end(t, "a pod with a token from before")
	w.rolled(t, life)
	w.tokens(t, w.access(t, name, "super-admin.svc"), bearer) // tenant trusts the former authority only
	w.phaseOf(t, "sa-certificate", pki.Settled)
	w.rolled(t, life)
	latest.end(t, "a client with what it is given")
	w.wound(t, before, former)
}

// rotating waits for a condition that names a node.
func (w *world) rotating(t *testing.T, node string) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		if err := w.client.Get(ctx, key, tn); err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(tn.Status.Conditions, kamajiv1alpha1.AuthorityRotatingCondition)
		if c == nil || c.Reason != kamajiv1alpha1.RetiringReason || !strings.Contains(c.Message, node) ||
			*tn.Status.Kubernetes.Version.Status != kamajiv1alpha1.PhaseCertificateAuthorityRotating {
			return fmt.Sprintf("phase %s, condition %+v", *tn.Status.Kubernetes.Version.Status, c)
		}
		return ""
	})
}

// nudge makes a pass happen that would be due within a minute.
func (w *world) nudge(t *testing.T, value string) {
	t.Helper()
	w.annotate(t, &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}}, "example.com/nudge", value)
}

// wound checks the world after a rotation.
func (w *world) wound(t *testing.T, before func() (*rest.Config, error), former *corev1.Secret) {
	t.Helper()
	if err := once(t.Context(), before); err == nil {
		t.Error("what was trusted before still is")
	}
	if bytes.Contains(w.secret(t, name+"-ca").Data["ca.crt"], former.Data["ca.crt"]) {
		t.Error("the former authority is left")
	}
	w.eventually(t, func(ctx context.Context) string {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		if err := w.client.Get(ctx, key, tn); err != nil {
			return err.Error()
		}
		if c := meta.FindStatusCondition(tn.Status.Conditions, kamajiv1alpha1.AuthorityRotatingCondition); c != nil {
			return "still rotating: " + c.Message
		}
		return ""
	})
	w.happened(t, "CertificatesIssued", "NextAuthorityTrusted", "NextAuthoritySigns", "FormerAuthorityRetired")
	w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
}

// happened checks that there are Events of these reasons.
func (w *world) happened(t *testing.T, reasons ...string) {
	t.Helper()
	list := &eventsv1.EventList{}
	if err := w.client.List(t.Context(), list, client.InNamespace(system)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range list.Items {
		seen[e.Reason] = true
	}
	for _, reason := range reasons {
		if !seen[reason] {
			t.Errorf("no Event %s", reason)
		}
	}
}

// bearer is a client with a token of a ServiceAccount that may read.
func (w *world) bearer(t *testing.T, tenant client.Client) func() (*rest.Config, error) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "reader"}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
	}
	for _, o := range []client.Object{account, binding} {
		if err := tenant.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	request := &authenticationv1.TokenRequest{}
	if err := tenant.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	config := w.frozen(t, "admin.svc")
	return func() (*rest.Config, error) {
		with, err := config()
		if err != nil {
			return nil, err
		}
		bare := rest.AnonymousClientConfig(with)
		bare.BearerToken, bare.Dial = request.Status.Token, with.Dial
		return bare, nil
	}
}

// certify makes a request for a node's certificate, and grants it as kube-controller-manager would.
func (w *world) certify(t *testing.T, tenant client.Client, request, user, node string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	subject := pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, private)
	if err != nil {
		t.Fatal(err)
	}
	config, err := w.caller(t, "super-admin.svc")()
	if err != nil {
		t.Fatal(err)
	}
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters", "system:authenticated"}}
	as, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: request},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		},
	}
	if err := as.Create(t.Context(), csr); err != nil {
		t.Fatal(err)
	}
	csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"}}
	if err := tenant.SubResource("approval").Update(t.Context(), csr); err != nil {
		t.Fatal(err)
	}
	ca := w.secret(t, name+"-ca").Data
	authority, err := pki.ParseAuthority(ca[pki.SignerFile], ca["ca.key"])
	if err != nil {
		t.Fatal(err)
	}
	csr.Status.Certificate, _, err = authority.Sign(pki.Leaf{CommonName: subject.CommonName, Organization: subject.Organization, Usage: x509.ExtKeyUsageClientAuth}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := tenant.Status().Update(t.Context(), csr); err != nil {
		t.Fatal(err)
	}
}
