// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The API server of a tenant is scaled to zero and back. Meanwhile its clients get an alert, many at once, too, and afterwards they find
// what was there, without a change of the gateway.
func TestSleepingTenantWakesWithItsData(t *testing.T) {
	w := newWorld(t)
	startEmbedded(t, w)
	c := w.newCluster(t, startEtcd(t), "c1")
	port := c.serve(t)
	customer := c.clients(t, c.Hostname, w.public())
	until(t, "the gateway knows the tenant", func() bool { _, err := customer.Discovery().ServerVersion(); return err == nil })
	mark := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "mark"}}
	_, err := customer.CoreV1().Namespaces().Create(t.Context(), mark, metav1.CreateOptions{})
	must(t, err)

	c.end(t, port)
	refused := func(err error) bool { return err != nil && strings.Contains(err.Error(), "tls: internal error") }
	until(t, "a sleeping tenant's customer gets an alert", func() bool {
		_, err := c.clients(t, c.Hostname, w.public()).Discovery().ServerVersion()
		return refused(err)
	})
	var flood sync.WaitGroup
	for range 8 {
		flood.Go(func() {
			for range 64 {
				if _, got := connect(t, visit{to: w.public(), name: c.Hostname}); got != "" {
					t.Errorf("a sleeping tenant answers %q", got)
				}
			}
		})
	}
	flood.Wait()

	c.serve(t)
	until(t, "the customer is served again", func() bool {
		_, err := c.clients(t, c.Hostname, w.public()).CoreV1().Namespaces().Get(t.Context(), mark.Name, metav1.GetOptions{})
		return err == nil
	})
}
