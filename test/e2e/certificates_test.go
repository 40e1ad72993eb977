// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/provider"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

var _ = Describe("Certificates replaced under load", Ordered, Label("scenario"), func() {
	l := quickstart.New(progress.New(GinkgoWriter))
	t := tenant{name: "certificates", version: quickstart.Version, dataStore: "default", replicas: 2}
	var before []byte
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		create(ctx, l, t)
		var err error
		before, err = adminKubeconfig(ctx, l, t.name)
		Expect(err).NotTo(HaveOccurred())
	})
	AfterAll(func(ctx SpecContext) { remove(ctx, l, t.name) })
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	It("certificates and kubeconfigs", func(ctx SpecContext) {
		customer := startCustomer(ctx, before)
		suffixes := []string{"api-server-certificate", "api-server-kubelet-client-certificate", "controller-manager-kubeconfig", "konnectivity-kubeconfig"}
		for _, suffix := range suffixes {
			annotateSecret(ctx, l, t.name+"-"+suffix, "certs.kamaji.clastix.io/rotate=")
		}
		for _, suffix := range suffixes {
			Expect(quickstart.Until(ctx, suffix+" to be rotated", func() error {
				at, err := secretField(ctx, l, t.name+"-"+suffix, `{.metadata.annotations.certs\.kamaji\.clastix\.io/rotate}`)
				if err == nil && at == "" {
					err = fmt.Errorf("%s is not rotated yet", suffix)
				}
				return err
			})).To(Succeed())
		}
		Expect(settled(ctx, l, t.name, t.version)).To(Succeed())
		Expect(customer.failed()).To(BeEmpty(), "%d requests", customer.asked)
	})

	It("the authority, with both trusted in between", func(ctx SpecContext) {
		customer := startCustomer(ctx, before)
		// A tenant without nodes has nobody to wait for, but a customer with an old kubeconfig.
		annotateSecret(ctx, l, t.name+"-ca", "certs.kamaji.clastix.io/retire=hold", "certs.kamaji.clastix.io/rotate=")
		Expect(quickstart.Until(ctx, "the next authority to sign everywhere", func() error {
			message, err := field(ctx, l, t.name, `{.status.conditions[?(@.type=="CertificateAuthorityRotating")].message}`)
			if err == nil && !strings.Contains(message, "it is held") {
				err = fmt.Errorf("the rotation waits: %s", message)
			}
			return err
		})).To(Succeed())
		Expect(customer.failed()).To(BeEmpty(), "%d requests", customer.asked)

		annotateSecret(ctx, l, t.name+"-ca", "certs.kamaji.clastix.io/retire-")
		Expect(settled(ctx, l, t.name, t.version)).To(Succeed())
		after, err := adminKubeconfig(ctx, l, t.name)
		Expect(err).NotTo(HaveOccurred())
		Expect(provider.ProbeAPI(ctx, after)).To(Succeed())
		Expect(provider.ProbeAPI(ctx, before)).NotTo(Succeed(), "what was trusted before still is")
	})
})

func annotateSecret(ctx context.Context, l *quickstart.Lab, name string, annotations ...string) {
	_, err := l.Kubectl(ctx, append([]string{"-n", quickstart.Namespace, "annotate", "--overwrite", "secret", name}, annotations...)...)
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
}

func secretField(ctx context.Context, l *quickstart.Lab, name, path string) (string, error) {
	return l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "secret", name, "-o", "jsonpath="+path)
}
