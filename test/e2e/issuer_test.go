// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// organisation is an authority that cert-manager signs with. Its tenant has both its own authority and a certificate
// for another host name from there.
const organisation = `
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: bootstrap, namespace: ` + quickstart.Namespace + `}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: organisation, namespace: ` + quickstart.Namespace + `}
spec:
  isCA: true
  commonName: organisation
  secretName: organisation
  issuerRef: {name: bootstrap}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: organisation, namespace: ` + quickstart.Namespace + `}
spec: {ca: {secretName: organisation}}
`

const issued = `
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata:
  name: issued
  namespace: ` + quickstart.Namespace + `
spec:
  dataStore: default
  certificates:
    authority: {issuerRef: {name: organisation}}
  controlPlane:
    deployment: {replicas: 1}
    service: {serviceType: ClusterIP}
    kamajiGateway:
      name: default
      additionalHostnames: [` + customerName + `]
      publicCertificate: {issuerRef: {name: organisation}}
  kubernetes:
    version: ` + quickstart.Version + `
    kubelet: {}
`

const customerName = "api.customer.example"

var _ = Describe("Certificates by a real cert-manager", Ordered, Label("full"), func() {
	l := quickstart.New(progress.New(GinkgoWriter))
	const name = "issued"
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		Expect(quickstart.Until(ctx, "cert-manager's webhook", func() error { return l.Apply(ctx, l.Kubeconfig, organisation) })).To(Succeed())
		Expect(l.Apply(ctx, l.Kubeconfig, issued)).To(Succeed())
	})
	AfterAll(func(ctx SpecContext) {
		remove(ctx, l, name)
		for _, object := range []string{"issuer/organisation", "issuer/bootstrap", "certificate/organisation", "secret/organisation"} {
			_, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "delete", "--ignore-not-found", object)
			Expect(err).NotTo(HaveOccurred())
		}
	})
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	It("the tenant's authority is one below the organisation's", func(ctx SpecContext) {
		Expect(settled(ctx, l, name, quickstart.Version)).To(Succeed())
		authority := certificateIn(ctx, l, name+"-ca", `ca\.crt`)
		Expect(authority.IsCA).To(BeTrue())
		Expect(authority.Issuer.CommonName).To(Equal("organisation"))
	})

	It("who trusts the organisation reaches the additional host name", func(ctx SpecContext) {
		roots := x509.NewCertPool()
		roots.AddCert(certificateIn(ctx, l, "organisation", `tls\.crt`))
		Expect(quickstart.Until(ctx, "a handshake with "+customerName, func() error { return handshake(ctx, l, customerName, roots) })).To(Succeed())
	})

	It("a certificate that is issued again is served", func(ctx SpecContext) {
		before := certificateIn(ctx, l, name+"-public-certificate", `tls\.crt`)
		_, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "delete", "secret", name+"-public-certificate")
		Expect(err).NotTo(HaveOccurred())
		Expect(quickstart.Until(ctx, "another certificate for "+customerName, func() error {
			served, err := presented(ctx, l, customerName)
			if err == nil && served.SerialNumber.Cmp(before.SerialNumber) == 0 {
				err = fmt.Errorf("it is still %s", served.SerialNumber)
			}
			return err
		})).To(Succeed())
		Expect(settled(ctx, l, name, quickstart.Version)).To(Succeed())
	})

	It("both go with the tenant", func(ctx SpecContext) {
		remove(ctx, l, name)
		Expect(quickstart.Until(ctx, "its Certificates to be gone", func() error {
			left, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "certificates", "-o", "name")
			if err == nil && strings.Contains(left, "/"+name+"-") {
				err = fmt.Errorf("there are %s", left)
			}
			return err
		})).To(Succeed())
	})
})

// certificateIn is the first certificate in a key of a Secret.
func certificateIn(ctx context.Context, l *quickstart.Lab, secret, key string) *x509.Certificate {
	encoded, err := secretField(ctx, l, secret, "{.data."+key+"}")
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	text, err := base64.StdEncoding.DecodeString(encoded)
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	block, _ := pem.Decode(text)
	ExpectWithOffset(1, block).NotTo(BeNil(), "Secret %s has no certificate in %s", secret, key)
	certificate, err := x509.ParseCertificate(block.Bytes)
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return certificate
}

// handshake verifies who answers for a name at the public address.
func handshake(ctx context.Context, l *quickstart.Lab, name string, roots *x509.CertPool) error {
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12}}
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(l.Public.String(), "6443"))
	if err != nil {
		return err
	}
	return connection.Close()
}

// presented is the certificate that a name is answered with, whoever signed it.
func presented(ctx context.Context, l *quickstart.Lab, name string) (*x509.Certificate, error) {
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}} //nolint:gosec // it is looked at, not trusted
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(l.Public.String(), "6443"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}
