// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/gomega"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/provider"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// tenant is a TenantControlPlane without a Cluster.
type tenant struct {
	name, version, dataStore string
	replicas                 int
}

func (t tenant) manifest() string {
	return fmt.Sprintf(`
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata:
  name: %s
  namespace: %s
spec:
  dataStore: %s
  controlPlane:
    deployment: {replicas: %d}
    service: {serviceType: ClusterIP}
    kamajiGateway: {name: default}
  kubernetes:
    version: %s
    kubelet: {}
  addons:
    coreDNS: {}
    kubeProxy: {}
    # The lab builds one release of it, which serves earlier tenants as well.
    konnectivity: {server: {port: 8132, version: v0.36.0}, agent: {version: v0.36.0}}
`, t.name, quickstart.Namespace, t.dataStore, t.replicas, t.version)
}

// create applies tenants, all before it waits for the first.
func create(ctx context.Context, l *quickstart.Lab, tenants ...tenant) {
	for _, t := range tenants {
		ExpectWithOffset(1, l.Apply(ctx, l.Kubeconfig, t.manifest())).To(Succeed())
	}
	serve(ctx, l, tenants...)
}

// serve waits until all pods of tenants that were applied serve.
func serve(ctx context.Context, l *quickstart.Lab, tenants ...tenant) {
	for _, t := range tenants {
		ExpectWithOffset(1, settled(ctx, l, t.name, t.version)).To(Succeed())
		// Ready means that one pod serves; the Deployment waits for all.
		_, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "rollout", "status", "deployment", t.name, "--timeout", "5m")
		ExpectWithOffset(1, err).NotTo(HaveOccurred())
	}
}

// settled waits until a tenant is Ready in the given version and answers.
func settled(ctx context.Context, l *quickstart.Lab, name, version string) error {
	return quickstart.Until(ctx, name+" to be Ready in "+version, func() error {
		state, err := field(ctx, l, name, `{.status.kubernetesResources.version.version} {.status.conditions[?(@.type=="Ready")].status} {.status.kubernetesResources.version.status}`)
		if err != nil {
			return err
		}
		if state != version+" True Ready" {
			messages, err := field(ctx, l, name, `{range .status.conditions[?(@.status!="True")]}{.type}: {.message}; {end}`)
			return fmt.Errorf("%s is %q: %s %w", name, state, messages, err)
		}
		kubeconfig, err := adminKubeconfig(ctx, l, name)
		if err != nil {
			return err
		}
		return provider.ProbeAPI(ctx, kubeconfig)
	})
}

func field(ctx context.Context, l *quickstart.Lab, name, path string) (string, error) {
	return l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "tenantcontrolplane", name, "-o", "jsonpath="+path)
}

func adminKubeconfig(ctx context.Context, l *quickstart.Lab, name string) ([]byte, error) {
	encoded, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "secret", name+"-admin-kubeconfig", "-o", `jsonpath={.data.admin\.conf}`)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(encoded)
}

func change(ctx context.Context, l *quickstart.Lab, name, patch string) {
	_, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "patch", "tenantcontrolplane", name, "--type=merge", "-p", patch)
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
}

func remove(ctx context.Context, l *quickstart.Lab, names ...string) {
	arguments := append([]string{"-n", quickstart.Namespace, "delete", "tenantcontrolplane", "--ignore-not-found", "--timeout", "5m"}, names...)
	_, err := l.Kubectl(ctx, arguments...)
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
}

// customer asks a tenant's API server every 50 ms, each time over a new connection, as somebody does who must not
// notice what is done to it.
type customer struct {
	stop  context.CancelFunc
	group sync.WaitGroup

	asked    int
	failures []string
}

func startCustomer(ctx context.Context, kubeconfig []byte) *customer {
	asking, stop := context.WithCancel(ctx)
	c := &customer{stop: stop}
	c.group.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for asking.Err() == nil {
			c.asked++
			if err := provider.ProbeAPI(ctx, kubeconfig); err != nil {
				c.failures = append(c.failures, fmt.Sprintf("%s %v", time.Now().UTC().Format(time.RFC3339Nano), err))
			}
			<-tick.C
		}
	})
	return c
}

// failed ends the asking and says what went wrong, empty for nothing.
func (c *customer) failed() string {
	c.stop()
	c.group.Wait()
	return strings.Join(c.failures, "\n")
}
