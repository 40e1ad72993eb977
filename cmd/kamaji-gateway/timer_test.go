// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

const system = "kamaji-system"

// What the timer runs, taken from its unit, against a real API server with the rights that the documentation gives: it brings the
// certificate and its successor, and nothing that another gateway may have.
func TestTheTimerBringsTheCertificate(t *testing.T) {
	config, admin := testenv.Start(t, clientgoscheme.Scheme)
	secret := secretOf(t, "edge", 1)
	for _, o := range append(rights("edge"), secret, secretOf(t, "core", 2)) {
		if err := admin.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	token, err := clients.CoreV1().ServiceAccounts(system).CreateToken(t.Context(), "kamaji-gateway-edge", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	kubeconfig, files := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "tls")
	if err := os.Mkdir(files, 0o750); err != nil { // the unit's ExecStartPre does it
		t.Fatal(err)
	}
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:  map[string]*clientcmdapi.Cluster{"management": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"edge": {Token: token.Status.Token}},
		Contexts:  map[string]*clientcmdapi.Context{"edge": {Cluster: "management", AuthInfo: "edge"}}, CurrentContext: "edge",
	}, kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	run := func(gateway string) error {
		t.Helper()
		if err := command([]string{"certificates", "--gateway", gateway, "--kubeconfig", kubeconfig, "--tls-dir", files, "--systemd", dir}, &bytes.Buffer{}); err != nil {
			t.Fatal(err)
		}
		unit, err := os.ReadFile(filepath.Join(dir, certificatesName+".service"))
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(unit), "\nExecStart=")
		line, _, _ = strings.Cut(line, "\n")
		return command(strings.Fields(line)[1:], &bytes.Buffer{})
	}
	serial := func() int64 {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(filepath.Join(files, "tls.crt"), filepath.Join(files, "tls.key"))
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	if err := run("edge"); err != nil || serial() != 1 {
		t.Errorf("the first run: %v, serial %d", err, serial())
	}
	secret.Data = secretOf(t, "edge", 3).Data // cert-manager renews it
	if err := admin.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if err := run("edge"); err != nil || serial() != 3 {
		t.Errorf("after a renewal: %v, serial %d", err, serial())
	}
	if err := run("core"); err == nil || !strings.Contains(err.Error(), "forbidden") || serial() != 3 {
		t.Errorf("the Secret of another gateway: %v, serial %d", err, serial())
	}
}

// rights are what docs/gateway.md has the administrator of the management cluster create for a machine outside.
func rights(gateway string) []client.Object {
	meta := metav1.ObjectMeta{Namespace: system, Name: "kamaji-gateway-" + gateway}
	return []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}},
		&corev1.ServiceAccount{ObjectMeta: meta},
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{meta.Name + "-xds"}, Verbs: []string{"get"},
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: system, Name: meta.Name}},
		},
	}
}

// secretOf is what cert-manager makes for a gateway, with its own authority.
func secretOf(t *testing.T, gateway string, serial int64) *corev1.Secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := url.Parse(route.Identity(gateway))
	if err != nil {
		t.Fatal(err)
	}
	self := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{identity},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, self, self, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "kamaji-gateway-" + gateway + "-xds"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"ca.crt": cert, "tls.crt": cert, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})},
	}
}
