// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

var _ = Describe("A tenant moves between kinds of DataStores", Ordered, Label("full"), func() {
	log := progress.New(GinkgoWriter)
	l := quickstart.New(log)
	t := tenant{name: "mover", version: quickstart.Version, dataStore: "default", replicas: 1}
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		for _, addon := range []string{"postgres", "mariadb"} {
			Expect(lab.Provide(ctx, log, addon)).To(Succeed())
		}
		for _, name := range []string{"postgres", "postgres-2", "mariadb"} {
			Expect(l.Condition(ctx, "", "datastore", name, "Ready")).To(Succeed())
		}
		create(ctx, l, t)
		_, err := inTenant(ctx, l, t.name, "create", "configmap", "first", "--from-literal=value=default")
		Expect(err).NotTo(HaveOccurred())
		_, err = l.Kubectl(ctx, "-n", quickstart.Namespace, "annotate", "tenantcontrolplane", t.name, "kamaji.clastix.io/delete-migration-source=true")
		Expect(err).NotTo(HaveOccurred())
	})
	AfterAll(func(ctx SpecContext) { remove(ctx, l, t.name) })
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	DescribeTable("and finds what it wrote", func(ctx SpecContext, to string) {
		before, err := inTenant(ctx, l, t.name, "get", "configmap", "first", "-o", "jsonpath={.metadata.uid}")
		Expect(err).NotTo(HaveOccurred())
		change(ctx, l, t.name, `{"spec":{"dataStore":"`+to+`"}}`)
		Expect(quickstart.Until(ctx, "the move to "+to, func() error {
			state, err := field(ctx, l, t.name, `{.status.storage.dataStoreName} {.status.conditions[?(@.type=="Ready")].status}: {.status.conditions[?(@.type=="Migrating")].message}`)
			if err == nil && !strings.HasPrefix(state, to+" True") {
				err = fmt.Errorf("it is %q", state)
			}
			return err
		})).To(Succeed())
		Expect(settled(ctx, l, t.name, t.version)).To(Succeed())
		after, err := inTenant(ctx, l, t.name, "get", "configmap", "first", "-o", "jsonpath={.metadata.uid}")
		Expect(err).NotTo(HaveOccurred())
		Expect(after).To(Equal(before))
		_, err = inTenant(ctx, l, t.name, "create", "configmap", "in-"+to)
		Expect(err).NotTo(HaveOccurred())
	},
		Entry("etcd to PostgreSQL", "postgres"),
		Entry("PostgreSQL to PostgreSQL", "postgres-2"),
		Entry("PostgreSQL to MariaDB", "mariadb"),
		Entry("MariaDB to etcd", "default"),
	)
})
