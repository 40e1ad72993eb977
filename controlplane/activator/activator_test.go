// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

func TestActivator(t *testing.T) {
	w := newWorld(t)
	mine, other := w.tenant(t, "mine").known(t), w.tenant(t, "other").known(t)
	for name, test := range map[string]func(*testing.T, *tenant, *tenant){
		"nobody wakes anything":           nobody,
		"a flood wakes nothing":           flood,
		"parts of the cluster don't wake": machines,
		"names":                           names,
		"the public certificate":          publicCertificate,
		"what is shut stays shut":         shutStays,
		"the object of another's Secrets": foreignSecrets,
	} {
		t.Run(name, func(t *testing.T) { test(t, mine, other) })
	}
	t.Run("a customer wakes the tenant once", func(t *testing.T) { customer(t, mine, other) })
	t.Run("a token wakes as well", func(t *testing.T) { token(t, w) })
}

// nobody has what it takes, each in its own way.
func nobody(t *testing.T, mine, other *tenant) {
	before := mine.current(t)
	bearer := func(token string) map[string]string { return map[string]string{"Authorization": "Bearer " + token} }
	for what, a := range map[string]ask{
		"no credentials":                  {},
		"another tenant's administrator":  {certificate: other.admin(t)},
		"a certificate that has expired":  {certificate: mine.certificate(t, pki.Leaf{CommonName: "kubernetes-admin"}, time.Now().Add(-2*pki.LeafValidity))},
		"a made-up token":                 {header: bearer("abc.def.ghi")},
		"a bootstrap token":               {header: bearer("abcdef.0123456789abcdef")},
		"another tenant's token":          {header: bearer(other.token(t, time.Now().Add(time.Hour)))},
		"a token that has expired":        {header: bearer(mine.token(t, time.Now().Add(-time.Hour)))},
		"a password":                      {header: map[string]string{"Authorization": "Basic YWRtaW46YWRtaW4="}},
		"headers of a front proxy":        {header: map[string]string{"X-Remote-User": "kubernetes-admin", "X-Remote-Group": "system:masters"}},
		"an impersonator":                 {header: map[string]string{"Impersonate-User": "kubernetes-admin"}},
		"another's certificate and token": {certificate: other.admin(t), header: bearer(other.token(t, time.Now().Add(time.Hour)))},
	} {
		if response := mine.expect(t, what, a, http.StatusUnauthorized); response.Header.Get("Retry-After") != "" {
			t.Errorf("%s is told to come again", what)
		}
	}
	mine.untouched(t, before)
}

// flood is what somebody without credentials can do.
func flood(t *testing.T, mine, _ *tenant) {
	before := mine.current(t)
	var crowd sync.WaitGroup
	var mu sync.Mutex
	answered, turnedAway := 0, 0
	for range 25 {
		crowd.Go(func() {
			for range 20 {
				response, _, err := mine.do(t, ask{})
				mu.Lock()
				switch {
				case err != nil:
					turnedAway++
				case response.StatusCode == http.StatusUnauthorized:
					answered++
				default:
					t.Errorf("answered %d", response.StatusCode)
				}
				mu.Unlock()
			}
		})
	}
	crowd.Wait()
	t.Logf("of 500 connections %d were answered and %d turned away", answered, turnedAway)
	mine.untouched(t, before)
	// Whoever stays silent is let go of.
	c, err := net.Dial("tcp", mine.address)
	must(t, err)
	defer func() { _ = c.Close() }()
	must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a silent connection: %v", err)
	}
}

// machines are known, and wake nothing.
func machines(t *testing.T, mine, _ *tenant) {
	before := mine.current(t)
	for what, a := range map[string]ask{
		"a kubelet":   {certificate: mine.certificate(t, pki.Leaf{CommonName: "system:node:worker-1", Organization: []string{"system:nodes"}}, time.Now())},
		"Cluster API": {certificate: mine.admin(t), header: map[string]string{"User-Agent": "manager/v1.14.2 cluster-cache (linux/amd64) cluster.x-k8s.io/abcdef"}},
	} {
		if response := mine.expect(t, what, a, http.StatusServiceUnavailable); response.Header.Get("Retry-After") != "" {
			t.Errorf("%s is told to come again soon", what)
		}
	}
	mine.untouched(t, before)
}

func names(t *testing.T, mine, _ *tenant) {
	before := mine.current(t)
	mine.expect(t, "a name in capitals", ask{name: strings.ToUpper(mine.host)}, http.StatusUnauthorized)
	for _, name := range []string{"nobody.k8s.example.com", "127.0.0.1", "kubernetes.default.svc"} {
		if _, _, err := mine.do(t, ask{name: name, certificate: mine.admin(t)}); err == nil {
			t.Errorf("%q is answered", name)
		}
	}
	old := &tls.Config{ServerName: mine.host, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true}
	if c, err := tls.Dial("tcp", mine.address, old); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	// Two gateways may give the same name to different tenants.
	first, second := mine.world.tenant(t, "twice").known(t), mine.world.tenant(t, "again")
	second.object.Status.KamajiGateway.Hostname, second.object.Status.KamajiGateway.Name = first.host, "another"
	must(t, mine.client.Status().Update(t.Context(), second.object))
	eventually(t, func() error {
		if _, _, err := first.do(t, ask{certificate: first.admin(t), header: map[string]string{"User-Agent": " cluster.x-k8s.io/"}}); err == nil {
			return fmt.Errorf("a name of two tenants is answered")
		}
		return nil
	})
	mine.untouched(t, before)
}

func publicCertificate(t *testing.T, mine, _ *tenant) {
	const shop = "shop.customer.example"
	n := mine.world.tenant(t, "public", func(o *kamajiv1alpha1.TenantControlPlane) {
		gateway := o.Spec.ControlPlane.KamajiGateway
		gateway.AdditionalHostnames = []string{shop}
		gateway.PublicCertificate = &kamajiv1alpha1.PublicCertificate{CertificateSource: kamajiv1alpha1.CertificateSource{SecretRef: &kamajiv1alpha1.LocalSecretReference{Name: "bought"}}}
	}).known(t)
	issuer, err := pki.Issue(pki.Input{SANs: pki.SANs{DNSNames: []string{shop}}, Now: time.Now()})
	must(t, err)
	serving := issuer.Data[pki.APIServer]
	must(t, n.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "bought"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: serving["apiserver.crt"], corev1.TLSPrivateKeyKey: serving["apiserver.key"]},
	}))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(issuer.Data[pki.CA]["ca.crt"])
	eventually(t, func() error { _, _, err := n.do(t, ask{name: shop, roots: roots}); return err })
	n.expect(t, "its own name", ask{}, http.StatusUnauthorized)
}

// shutStays is about tenants for which to write the annotation would be of no use.
func shutStays(t *testing.T, mine, _ *tenant) {
	paused := mine.world.tenant(t, "paused", func(o *kamajiv1alpha1.TenantControlPlane) {
		o.Annotations = map[string]string{kamajiv1alpha1.PausedAnnotation: ""}
	}).known(t)
	before := paused.current(t)
	if response := paused.expect(t, "paused", ask{certificate: paused.admin(t)}, http.StatusServiceUnavailable); response.Header.Get("Retry-After") != "" {
		t.Error("a paused tenant's client is told to come again")
	}
	paused.untouched(t, before)
	up := mine.world.tenant(t, "up", func(o *kamajiv1alpha1.TenantControlPlane) { o.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](1) }).known(t)
	before = up.current(t)
	if response := up.expect(t, "starting", ask{certificate: up.admin(t)}, http.StatusServiceUnavailable); response.Header.Get("Retry-After") == "" {
		t.Error("the client of a tenant that starts is not told to come again")
	}
	up.untouched(t, before)
}

// foreignSecrets is a tenant that found Secrets of its names, which somebody else has made.
func foreignSecrets(t *testing.T, mine, _ *tenant) {
	n := mine.world.tenant(t, "foreign").known(t)
	secret := &corev1.Secret{}
	must(t, n.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "foreign-" + pki.CA}, secret))
	secret.OwnerReferences = nil
	must(t, n.client.Update(t.Context(), secret))
	eventually(t, func() error {
		if _, _, err := n.do(t, ask{}); err == nil {
			return fmt.Errorf("it is answered")
		}
		return nil
	})
}

func customer(t *testing.T, mine, other *tenant) {
	before, stranger := mine.current(t), other.current(t)
	began := time.Now()
	// All at once, to one process.
	var crowd sync.WaitGroup
	for range 8 {
		crowd.Go(func() {
			if response := mine.expect(t, "an administrator", ask{certificate: mine.admin(t)}, http.StatusServiceUnavailable); response.Header.Get("Retry-After") != "1" {
				t.Errorf("told to come again after %q", response.Header.Get("Retry-After"))
			}
		})
	}
	crowd.Wait()
	woken := mine.current(t)
	if until := woken.AwakeUntil(); until.Before(began.Add(kamajiv1alpha1.DefaultWakeFor).Truncate(time.Second)) || until.After(time.Now().Add(kamajiv1alpha1.DefaultWakeFor)) {
		t.Errorf("awake until %s", until)
	}
	if woken.Generation != before.Generation || woken.Replicas() != 0 || woken.ReplicasAt(time.Now()) != 1 {
		t.Errorf("generation %d, replicas %d, now %d", woken.Generation, woken.Replicas(), woken.ReplicasAt(time.Now()))
	}
	for _, f := range woken.ManagedFields {
		if strings.Contains(f.FieldsV1.GetRawString(), kamajiv1alpha1.AwakeUntilAnnotation) && f.Manager != FieldOwner {
			t.Errorf("the annotation belongs to %s", f.Manager)
		}
	}
	mine.expect(t, "an administrator again", ask{certificate: mine.admin(t)}, http.StatusServiceUnavailable)
	mine.untouched(t, woken)
	other.untouched(t, stranger)
	eventually(t, func() error {
		var list eventsv1.EventList
		must(t, mine.client.List(t.Context(), &list, client.InNamespace(namespace)))
		told := 0
		for _, e := range list.Items {
			if e.Reason == "Woken" && e.Regarding.Name == mine.object.Name && strings.Contains(e.Note, `woken by "kubernetes-admin" with a client certificate`) {
				told++
			}
		}
		if told != 1 {
			return fmt.Errorf("%d Events tell of it", told)
		}
		return nil
	})
}

func token(t *testing.T, w *world) {
	n := w.tenant(t, "tokens").known(t)
	n.expect(t, "an application", ask{header: map[string]string{"Authorization": "Bearer " + n.token(t, time.Now().Add(time.Hour))}}, http.StatusServiceUnavailable)
	if n.current(t).AwakeUntil().IsZero() {
		t.Error("it is not woken")
	}
}
