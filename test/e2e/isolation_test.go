// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

var _ = Describe("Control planes are kept apart by network policies", Ordered, Label("full"), func() {
	log := progress.New(GinkgoWriter)
	l := quickstart.New(log)
	a := tenant{name: "isolated-a", version: quickstart.Version, dataStore: "default", replicas: 1}
	b := tenant{name: "isolated-b", version: quickstart.Version, dataStore: "default", replicas: 1}
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		Expect(lab.Provide(ctx, log, "network-policies")).To(Succeed())
		create(ctx, l, a, b)
		for _, t := range []tenant{a, b} {
			kubeconfig, err := adminKubeconfig(ctx, l, t.name)
			Expect(err).NotTo(HaveOccurred())
			Expect(os.WriteFile(l.TenantKubeconfig(t.name), kubeconfig, 0o600)).To(Succeed())
		}
		DeferCleanup(func(ctx SpecContext) { remove(ctx, l, a.name, b.name) })
	})

	It("from pods of other namespaces", func(ctx SpecContext) {
		outsider := podOf(ctx, l, "kube-system", "k8s-app=kube-dns")
		target := podOf(ctx, l, quickstart.Namespace, "kamaji.clastix.io/name="+a.name)
		Expect(outsider.dial(ctx, target.address, 6443)).To(Succeed(), "customers come from anywhere")
		for _, port := range []int{10257, 10259, 8134} {
			Expect(outsider.dial(ctx, target.address, port)).NotTo(Succeed(), "port %d", port)
		}
	})
	It("from the management cluster and each other", func(ctx SpecContext) {
		Expect(podOf(ctx, l, "kube-system", "k8s-app=kube-dns").dial(ctx, managementServer(ctx, l), 6443)).To(Succeed(), "pods without a policy reach it")
		from := podOf(ctx, l, quickstart.Namespace, "kamaji.clastix.io/name="+a.name)
		other := podOf(ctx, l, quickstart.Namespace, "kamaji.clastix.io/name="+b.name)
		Expect(from.dial(ctx, other.address, 10257)).NotTo(Succeed())
		Expect(from.dial(ctx, other.address, 6443)).NotTo(Succeed())
		Expect(from.dial(ctx, managementServer(ctx, l), 6443)).NotTo(Succeed())
	})
	It("also when a tenant names a webhook by its URL", func(ctx SpecContext) {
		other := podOf(ctx, l, quickstart.Namespace, "kamaji.clastix.io/name="+b.name)
		for i, address := range []string{managementServer(ctx, l) + ":6443", other.address + ":6443"} {
			name := fmt.Sprintf("curious-%d", i)
			Expect(l.Apply(ctx, l.TenantKubeconfig(a.name), webhook(name, address))).To(Succeed())
			_, err := l.InTenant(ctx, a.name, "create", "configmap", name)
			Expect(err).To(HaveOccurred(), "the webhook was not called")
			Expect(err.Error()).To(ContainSubstring("failed calling webhook"))
			// A certificate that can't be verified would mean that somebody has answered.
			Expect(err.Error()).NotTo(Or(ContainSubstring("x509"), ContainSubstring("tls:"), ContainSubstring("the server")))
			_, err = l.InTenant(ctx, a.name, "delete", "validatingwebhookconfiguration", name)
			Expect(err).NotTo(HaveOccurred())
		}
	})
	It("and work all the same", func(ctx SpecContext) {
		for _, t := range []tenant{a, b} {
			_, err := l.InTenant(ctx, t.name, "create", "configmap", "works")
			Expect(err).NotTo(HaveOccurred())
			Expect(settled(ctx, l, t.name, t.version)).To(Succeed())
		}
	})
})

// pod is a running pod of the management cluster.
type pod struct{ namespace, name, node, address string }

func podOf(ctx context.Context, l *quickstart.Lab, namespace, selector string) pod {
	out, err := l.Kubectl(ctx, "-n", namespace, "get", "pods", "-l", selector, "--field-selector", "status.phase=Running",
		"-o", "jsonpath={.items[0].metadata.name} {.items[0].spec.nodeName} {.items[0].status.podIP}")
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	fields := strings.Fields(out)
	ExpectWithOffset(1, fields).To(HaveLen(3))
	return pod{namespace, fields[0], fields[1], fields[2]}
}

// dial opens a connection from inside the pod's network. Images of components have no tools, so those of the node are used.
func (p pod) dial(ctx context.Context, host string, port int) error {
	const script = `sandbox=$(crictl pods --namespace "$1" --name "$2" --state ready -q | head -n 1)
pid=$(crictl inspectp --output go-template --template '{{.info.pid}}' "$sandbox") || exit 99
exec nsenter -t "$pid" -n timeout 3 bash -c "exec 3<>/dev/tcp/$3/$4"`
	out, err := command.Output(ctx, "docker", "exec", p.node, "bash", "-c", script, "dial", p.namespace, p.name, host, fmt.Sprint(port))
	if err != nil && strings.Contains(err.Error(), "exit status 99") {
		Fail("the network of " + p.name + " can't be entered: " + err.Error())
	}
	if err != nil {
		return fmt.Errorf("%s to %s:%d: %w %s", p.name, host, port, err, out)
	}
	return nil
}

// managementServer is the address of the management cluster's API server, as pods are led to it.
func managementServer(ctx context.Context, l *quickstart.Lab) string {
	address, err := l.Kubectl(ctx, "-n", "default", "get", "endpointslice", "kubernetes", "-o", "jsonpath={.endpoints[0].addresses[0]}")
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return address
}

// webhook has the tenant's API server ask an address about ConfigMaps of the namespace default.
func webhook(name, address string) string {
	return fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: %[1]s}
webhooks:
- name: %[1]s.example.com
  clientConfig: {url: "https://%[2]s/"}
  admissionReviewVersions: [v1]
  sideEffects: None
  timeoutSeconds: 3
  failurePolicy: Fail
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
`, name, address)
}
