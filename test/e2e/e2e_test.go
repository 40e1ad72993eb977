// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e runs the quickstart's steps as specs on a real management cluster: real kubelets, kubeadm, etcd, TLS and
// Cluster API. Label smoke is what CI runs, label scenario what a tenant has to live through, label full the rest.
package e2e

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

func TestEndToEnd(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "End to end")
}

var _ = Describe("From a bare machine to a tenant with a Ready worker", Ordered, Label("smoke"), func() {
	l := quickstart.New(progress.New(GinkgoWriter))
	for _, step := range quickstart.All() {
		It(step.Name, func(ctx SpecContext) { Expect(step.Run(ctx, l)).To(Succeed()) })
	}
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})
	AfterAll(func(ctx SpecContext) { l.Close(ctx) })
})

var _ = Describe("Bad input", Ordered, Label("full"), func() {
	l := quickstart.New(progress.New(GinkgoWriter))
	for _, step := range quickstart.Mistakes() {
		It(step.Name, func(ctx SpecContext) { Expect(step.Run(ctx, l)).To(Succeed()) })
	}
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})
})

var _ = Describe("A tenant with a worker moves to another etcd and back", Ordered, Label("scenario"), func() {
	l := quickstart.New(progress.New(GinkgoWriter))
	for _, step := range quickstart.Migration() {
		It(step.Name, func(ctx SpecContext) { Expect(step.Run(ctx, l)).To(Succeed()) })
	}
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})
})

var _ = Describe("A tenant with a worker moves from etcd to PostgreSQL, to another PostgreSQL, and back", Ordered, Label("scenario"), func() {
	l := quickstart.New(progress.New(GinkgoWriter))
	for _, step := range quickstart.DatabaseMigration() {
		It(step.Name, func(ctx SpecContext) { Expect(step.Run(ctx, l)).To(Succeed()) })
	}
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})
})
