// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

var _ = Describe("Upgrade across two minors", Ordered, Label("scenario"), func() {
	log := progress.New(GinkgoWriter)
	l := quickstart.New(log)
	t := tenant{name: "upgrade", version: binaries.Earlier["1.34"], dataStore: "default", replicas: 2}
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		for _, minor := range []string{"1.34", "1.35"} {
			Expect(lab.Provide(ctx, log, binaries.EarlierModule(minor))).To(Succeed())
		}
		create(ctx, l, t)
	})
	AfterAll(func(ctx SpecContext) { remove(ctx, l, t.name) })
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	It("goes through the minor between, and no request fails", func(ctx SpecContext) {
		kubeconfig, err := adminKubeconfig(ctx, l, t.name)
		Expect(err).NotTo(HaveOccurred())
		customer := startCustomer(ctx, kubeconfig)
		change(ctx, l, t.name, `{"spec":{"kubernetes":{"version":"`+quickstart.Version+`"}}}`)
		seen := map[string]bool{}
		Expect(quickstart.Until(ctx, "the upgrade", func() error {
			version, err := field(ctx, l, t.name, "{.status.kubernetesResources.version.version}")
			seen[version] = true
			if err == nil && version != quickstart.Version {
				err = fmt.Errorf("it runs %s", version)
			}
			return err
		})).To(Succeed())
		Expect(settled(ctx, l, t.name, quickstart.Version)).To(Succeed())
		Expect(customer.failed()).To(BeEmpty(), "%d requests", customer.asked)
		Expect(seen).To(HaveKey(binaries.Earlier["1.35"]))
	})

	It("refuses to go back", func(ctx SpecContext) {
		_, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "patch", "tenantcontrolplane", t.name, "--type=merge", "-p", `{"spec":{"kubernetes":{"version":"v1.35.0"}}}`)
		Expect(err).To(MatchError(ContainSubstring("older minor")))
	})
})
