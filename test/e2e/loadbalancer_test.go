// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/provider"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cluster"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// balanced is a tenant with a load balancer of its own, and no gateway.
const balanced = `
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata:
  name: balanced
  namespace: ` + quickstart.Namespace + `
spec:
  dataStore: default
  controlPlane:
    deployment: {replicas: 1}
    service: {serviceType: LoadBalancer}
  kubernetes:
    version: ` + quickstart.Version + `
    kubelet: {}
`

var _ = Describe("A load balancer for each tenant", Ordered, Label("full"), func() {
	log := progress.New(GinkgoWriter)
	l := quickstart.New(log)
	const name = "balanced"
	var first []byte
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		Expect(lab.Provide(ctx, log, "metallb")).To(Succeed())
	})
	AfterAll(func(ctx SpecContext) { remove(ctx, l, name) })
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	It("publishes the address that the load balancer gave", func(ctx SpecContext) {
		Expect(l.Apply(ctx, l.Kubeconfig, balanced)).To(Succeed())
		Expect(settled(ctx, l, name, quickstart.Version)).To(Succeed())
		var err error
		first, err = adminKubeconfig(ctx, l, name)
		Expect(err).NotTo(HaveOccurred())
		lowest, highest, err := cluster.BalancedAddresses(ctx)
		Expect(err).NotTo(HaveOccurred())
		address := serverOf(first)
		Expect(address.Compare(lowest)).To(BeNumerically(">=", 0), "%s", address)
		Expect(address.Compare(highest)).To(BeNumerically("<=", 0), "%s", address)
	})

	It("lets in who is in the source ranges, and everybody once they are cleared", func(ctx SpecContext) {
		change(ctx, l, name, `{"spec":{"networkProfile":{"loadBalancerSourceRanges":["203.0.113.0/24"]}}}`)
		Expect(quickstart.Until(ctx, "strangers to be kept out", func() error {
			if provider.ProbeAPI(ctx, first) == nil {
				return errors.New("the tenant answers a stranger")
			}
			return nil
		})).To(Succeed())
		change(ctx, l, name, `{"spec":{"networkProfile":{"loadBalancerSourceRanges":null}}}`)
		Expect(quickstart.Until(ctx, "everybody to be let in", func() error { return provider.ProbeAPI(ctx, first) })).To(Succeed())
	})

	It("follows to another address, with certificate and kubeconfigs", func(ctx SpecContext) {
		_, other, err := cluster.BalancedAddresses(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(serverOf(first)).NotTo(Equal(other))
		change(ctx, l, name, `{"spec":{"controlPlane":{"service":{"additionalMetadata":{"annotations":{"metallb.io/loadBalancerIPs":"`+other.String()+`"}}}}}}`)
		Expect(quickstart.Until(ctx, "a kubeconfig for "+other.String(), func() error {
			now, err := adminKubeconfig(ctx, l, name)
			if err != nil {
				return err
			}
			if address := serverOf(now); address != other {
				return fmt.Errorf("it is for %s", address)
			}
			// It verifies the certificate, which has to name the new address.
			return provider.ProbeAPI(ctx, now)
		})).To(Succeed())
		Expect(settled(ctx, l, name, quickstart.Version)).To(Succeed())
		Expect(provider.ProbeAPI(ctx, first)).NotTo(Succeed(), "the former address still answers")
	})
})

// serverOf is the address in a kubeconfig.
func serverOf(kubeconfig []byte) netip.Addr {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	host, _, err := net.SplitHostPort(config.Host[len("https://"):])
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	address, err := netip.ParseAddr(host)
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return address
}
