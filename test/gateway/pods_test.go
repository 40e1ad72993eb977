// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Real clients of three tenants, each with an authority of its own, dial what pods dial, and reach the API server of their own tenant
// or a certificate that they refuse.
func TestPodsReachTheirOwnAPIServer(t *testing.T) {
	w := newWorld(t)
	etcd := startEtcd(t)
	startEmbedded(t, w)
	clusters := []*cluster{w.newCluster(t, etcd, "c1"), w.newCluster(t, etcd, "c2"), w.newCluster(t, etcd, "c3")}
	var starting sync.WaitGroup
	for _, c := range clusters {
		starting.Go(func() { c.serve(t) })
	}
	starting.Wait()
	for _, c := range clusters {
		until(t, "the gateway knows "+c.Name, func() bool {
			_, err := c.pod(t, inCluster).Discovery().ServerVersion()
			return err == nil
		})
		mark := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "mark-of-" + c.Name}}
		if _, err := c.pod(t, inCluster).CoreV1().Namespaces().Create(t.Context(), mark, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clusters {
		// By address a client sends no server name, by this name all tenants' clients send the same.
		for _, host := range []string{inCluster, inCluster + ":443", "kubernetes.default.svc", "kubernetes.default"} {
			got, err := c.pod(t, host).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Errorf("a pod of %s that dials %s: %v", c.Name, host, err)
				continue
			}
			marks := 0
			for _, ns := range got.Items {
				if ns.Name == "mark-of-"+c.Name {
					marks++
				} else if len(ns.Name) > 8 && ns.Name[:8] == "mark-of-" {
					t.Errorf("a pod of %s sees %s", c.Name, ns.Name)
				}
			}
			if marks != 1 {
				t.Errorf("a pod of %s that dials %s doesn't see its own tenant", c.Name, host)
			}
		}
		for _, other := range clusters {
			if other == c {
				continue
			}
			for _, host := range []string{inCluster, "kubernetes.default.svc"} {
				_, err := c.clients(t, host, w.own(other.Tenant)).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
				if !unknownAuthority(err) {
					t.Errorf("a pod of %s at the port of %s: %v, want an unknown authority", c.Name, other.Name, err)
				}
			}
		}
		// Customers, by name.
		if _, err := c.clients(t, c.Hostname, w.public()).Discovery().ServerVersion(); err != nil {
			t.Errorf("a customer of %s: %v", c.Name, err)
		}
	}
}
