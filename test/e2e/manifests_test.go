// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

var _ = Describe("Manifests that people already have", Ordered, Label("full"), func() {
	log := progress.New(GinkgoWriter)
	l := quickstart.New(log)
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		for _, addon := range []string{"metallb", binaries.EarlierModule("1.31"), binaries.EarlierModule("1.33")} {
			Expect(lab.Provide(ctx, log, addon)).To(Succeed())
		}
	})
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	DescribeTable("apply as they stand and answer", func(ctx SpecContext, file, namespace, name, version string) {
		manifest, err := os.ReadFile(filepath.Join(testenv.Root(), "test", "manifests", "published", file))
		Expect(err).NotTo(HaveOccurred())
		Expect(l.Apply(ctx, l.Kubeconfig, string(manifest))).To(Succeed())
		DeferCleanup(func(ctx SpecContext) {
			_, err := l.Kubectl(ctx, "-n", namespace, "delete", "tenantcontrolplane", name, "--timeout=5m")
			Expect(err).NotTo(HaveOccurred())
		})
		Expect(quickstart.Until(ctx, name+" to be Ready in "+version, func() error { return runs(ctx, l, namespace, name, version) })).To(Succeed())
	},
		Entry("ClusterIP, 1.31.0", "clusterip-1.31.yaml", "kamaji-system", "customer1", "v1.31.0"),
		Entry("LoadBalancer and all addons, 1.33.0", "loadbalancer-1.33.yaml", "default", "my-cluster", "v1.33.0"),
		Entry("internal certificate authorities, 1.33.0", "internal-ca.yaml", "default", "my-cluster", "v1.33.0"),
	)
})

// runs says what keeps a tenant from being Ready, in a version, with a kubeconfig for its address.
func runs(ctx context.Context, l *quickstart.Lab, namespace, name, version string) error {
	state, err := l.Kubectl(ctx, "-n", namespace, "get", "tenantcontrolplane", name, "-o",
		`jsonpath={.status.kubernetesResources.version.version} {.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}`)
	if err != nil {
		return err
	}
	if want := version + " True"; len(state) < len(want) || state[:len(want)] != want {
		return fmt.Errorf("%s is %q, want %q", name, state, want)
	}
	encoded, err := l.Kubectl(ctx, "-n", namespace, "get", "secret", name+"-admin-kubeconfig", "-o", `jsonpath={.data.admin\.conf}`)
	if err != nil {
		return err
	}
	kubeconfig, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	endpoint, err := l.Kubectl(ctx, "-n", namespace, "get", "tenantcontrolplane", name, "-o", "jsonpath={.status.controlPlaneEndpoint}")
	if err != nil {
		return err
	}
	Expect(string(kubeconfig)).To(ContainSubstring("https://" + endpoint))
	return nil
}
