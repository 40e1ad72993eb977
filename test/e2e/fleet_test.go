// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// fleetSize is more than this machine can boot at once: starts have to be paced.
const fleetSize = 30

var _ = Describe("Many tenants at once", Ordered, Label("scenario"), func() {
	l := quickstart.New(progress.New(GinkgoWriter))
	var names []string
	BeforeAll(func(ctx SpecContext) { Expect(l.Prepare(ctx)).To(Succeed()) })
	AfterAll(func(ctx SpecContext) { remove(ctx, l, names...) })
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	It("all get Ready, and no container restarts", func(ctx SpecContext) {
		var tenants []tenant
		for i := range fleetSize {
			t := tenant{name: fmt.Sprintf("fleet-%02d", i), version: quickstart.Version, dataStore: "default", replicas: 1}
			tenants, names = append(tenants, t), append(names, t.name)
			Expect(l.Apply(ctx, l.Kubeconfig, t.manifest())).To(Succeed())
		}
		for some := 10; some <= fleetSize; some += 10 {
			// A kubectl every 200 ms would take a third of a core from them.
			Expect(quickstart.Every(ctx, 5*time.Second, fmt.Sprintf("%d tenants to be Ready", some), func() error {
				states, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "tenantcontrolplanes", "-o",
					`jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
				if err != nil {
					return err
				}
				ready := 0
				for line := range strings.SplitSeq(states, "\n") {
					if strings.HasPrefix(line, "fleet-") && strings.HasSuffix(line, " True") {
						ready++
					}
				}
				if ready < some {
					return fmt.Errorf("%d are", ready)
				}
				return nil
			})).To(Succeed())
		}
		serve(ctx, l, tenants...)
		restarts, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "pods", "-o", "jsonpath={range .items[*].status.containerStatuses[*]}{.restartCount} {end}")
		Expect(err).NotTo(HaveOccurred())
		Expect(strings.Fields(restarts)).To(HaveEach("0"))
	})

	It("all are deleted, and leave nothing", func(ctx SpecContext) {
		remove(ctx, l, names...)
		Expect(quickstart.Until(ctx, "their objects to be gone", func() error {
			left, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "pods,secrets,configmaps,services,deployments", "-o", "name")
			if err == nil && strings.Contains(left, "/fleet-") {
				err = fmt.Errorf("there are still\n%s", left)
			}
			return err
		})).To(Succeed())
	})
})
