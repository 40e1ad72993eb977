// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/provider"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

const awakeUntil = `{.metadata.annotations.kamaji\.clastix\.io/awake-until}`

var _ = Describe("A control plane that sleeps", Ordered, Label("scenario"), func() {
	l := quickstart.New(progress.New(GinkgoWriter))
	sleeper := tenant{name: "sleeper", version: quickstart.Version, dataStore: "default", replicas: 1}
	BeforeAll(func(ctx SpecContext) {
		Expect(l.Prepare(ctx)).To(Succeed())
		create(ctx, l, sleeper)
		change(ctx, l, sleeper.name, `{"spec": {"controlPlane": {"deployment": {"replicas": 0}, "kamajiGateway": {"wake": {"for": "1h"}}}}}`)
		Expect(asleep(ctx, l, sleeper.name)).To(Succeed())
	})
	AfterAll(func(ctx SpecContext) { remove(ctx, l, sleeper.name) })
	JustAfterEach(func(ctx SpecContext) {
		if CurrentSpecReport().Failed() {
			l.Explain(ctx)
		}
	})

	It("answers strangers, and sleeps on", func(ctx SpecContext) {
		host, err := field(ctx, l, sleeper.name, "{.status.kamajiGateway.hostname}")
		Expect(err).NotTo(HaveOccurred())
		port, err := field(ctx, l, sleeper.name, "{.status.kamajiGateway.port}")
		Expect(err).NotTo(HaveOccurred())
		for range 20 {
			Expect(stranger(ctx, net.JoinHostPort(l.Public.String(), port), host)).To(Equal(http.StatusUnauthorized))
		}
		Expect(field(ctx, l, sleeper.name, awakeUntil)).To(BeEmpty())
		Expect(pods(ctx, l, sleeper.name)).To(BeEmpty())
	})

	It("is woken by its customer's request", func(ctx SpecContext) {
		kubeconfig, err := adminKubeconfig(ctx, l, sleeper.name)
		Expect(err).NotTo(HaveOccurred())
		Expect(quickstart.Until(ctx, "an answer", func() error { return provider.ProbeAPI(ctx, kubeconfig) })).To(Succeed())
		Expect(field(ctx, l, sleeper.name, awakeUntil)).NotTo(BeEmpty())
		events, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "events", "--field-selector", "involvedObject.name="+sleeper.name+",reason=Woken", "-o", "jsonpath={.items[*].message}")
		Expect(err).NotTo(HaveOccurred())
		Expect(events).To(ContainSubstring("kubernetes-"))
	})

	It("goes back to sleep when its time is over", func(ctx SpecContext) {
		_, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "annotate", "--overwrite", "tenantcontrolplane", sleeper.name,
			"kamaji.clastix.io/awake-until="+time.Now().UTC().Format(time.RFC3339))
		Expect(err).NotTo(HaveOccurred())
		Expect(asleep(ctx, l, sleeper.name)).To(Succeed())
	})
})

// asleep waits until a tenant says that it sleeps, and runs nothing.
func asleep(ctx context.Context, l *quickstart.Lab, name string) error {
	return quickstart.Until(ctx, name+" to sleep", func() error {
		status, err := field(ctx, l, name, "{.status.kubernetesResources.version.status}")
		if err != nil {
			return err
		}
		left, err := pods(ctx, l, name)
		if err == nil && (status != "Sleeping" || left != "") {
			err = fmt.Errorf("%s is %s, its pods: %q", name, status, left)
		}
		return err
	})
}

func pods(ctx context.Context, l *quickstart.Lab, name string) (string, error) {
	return l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "pods", "-l", "kamaji.clastix.io/name="+name, "-o", "name")
}

// stranger asks by the host name of a tenant, without credentials, and returns the status.
func stranger(ctx context.Context, address, host string) (int, error) {
	insecure := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a stranger has no authority to verify with
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	defer insecure.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/api", nil)
	if err != nil {
		return 0, err
	}
	response, err := insecure.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}
