// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/addons"
)

// API servers that share an address are replaced one by one. The engine's EndpointSlice of default/kubernetes never changes meanwhile, and
// every new connection through the gateway is served.
func TestRollingRestartKeepsTheEndpoints(t *testing.T) {
	w := newWorld(t)
	c := w.newCluster(t, startEtcd(t), "c1")
	startEmbedded(t, w)
	var starting sync.WaitGroup
	ports := make([]uint16, 3)
	for i := range ports {
		starting.Go(func() { ports[i] = c.serve(t) })
	}
	starting.Wait()
	objects, err := addons.Objects(addons.Input{Tenant: c.object, Endpoint: c.endpoint})
	must(t, err)
	var slice *discoveryv1.EndpointSlice
	for _, o := range objects {
		if found, ok := o.(*discoveryv1.EndpointSlice); ok {
			slice = found
		}
	}
	pod := c.pod(t, inCluster)
	stored := func(client *kubernetes.Clientset) *discoveryv1.EndpointSlice {
		got, err := client.DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		must(t, err)
		return got
	}
	until(t, "the gateway knows the tenant", func() bool { _, err := pod.Discovery().ServerVersion(); return err == nil })
	if _, err := pod.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := stored(pod)
	visits := visitor(t, c)
	for _, port := range ports {
		c.serve(t)
		c.end(t, port)
		if after := stored(c.pod(t, inCluster)); after.ResourceVersion != before.ResourceVersion {
			t.Errorf("the EndpointSlice was written during a restart: %v, before %v", after.Endpoints, before.Endpoints)
		}
	}
	if n, err := visits(); err != nil || n == 0 {
		t.Errorf("of %d connections through the gateway during the restarts one failed: %v", n, err)
	}
}

// With the reconciler that kube-apiserver has by default a server that stops takes the address off default/kubernetes, though another one
// that shares it goes on. That is why the engine writes these objects itself. The other one puts the address back at its next interval of
// ten seconds. Servers share one lease, too, which a server that starts deletes first: one that stops before it is back changes nothing.
func TestTheDefaultReconcilerTakesASharedAddressAway(t *testing.T) {
	w := newWorld(t)
	c := w.newCluster(t, startEtcd(t), "c1")
	c.flags = []string{"--endpoint-reconciler-type=lease"}
	first, second := c.serve(t), c.serve(t)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), second)
	config := c.config(t, at.String(), at, "admin", "system:masters")
	config.Timeout = 0 // which would be that of the watch, too
	admin, err := kubernetes.NewForConfig(config)
	must(t, err)
	addresses := func(slice *discoveryv1.EndpointSlice) (all []string) {
		for _, e := range slice.Endpoints {
			all = append(all, e.Addresses...)
		}
		return all
	}
	until(t, "the servers have registered", func() bool {
		slice, err := admin.DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		return err == nil && slices.Equal(addresses(slice), []string{advertised}) && c.leased(t)
	})
	changes, err := admin.DiscoveryV1().EndpointSlices("default").Watch(t.Context(), metav1.SingleObject(metav1.ObjectMeta{Name: "kubernetes"}))
	must(t, err)
	defer changes.Stop()
	c.end(t, first)
	empty, lost := false, time.After(time.Minute)
	for {
		select {
		case change := <-changes.ResultChan():
			slice, ok := change.Object.(*discoveryv1.EndpointSlice)
			if !ok {
				t.Fatalf("the slice was empty: %v, and the watch ended: %v", empty, change.Object)
			}
			got := addresses(slice)
			if empty = empty || len(got) == 0; empty && len(got) == 1 {
				return
			}
		case <-lost:
			t.Fatalf("the slice was empty: %v, and is not whole again", empty)
		}
	}
}

// leased tells whether etcd has the lease of the address that the API servers share.
func (c *cluster) leased(t *testing.T) bool {
	t.Helper()
	body, err := json.Marshal(map[string][]byte{"key": []byte("/" + c.Name + "/masterleases/" + advertised)})
	must(t, err)
	resp, err := http.Post(c.etcd+"/v3/kv/range", "application/json", bytes.NewReader(body))
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Count string `json:"count"`
	}
	must(t, json.NewDecoder(resp.Body).Decode(&answer))
	return answer.Count == "1"
}

// visitor asks for the version over a new connection, again and again, until the function that it returns is called.
func visitor(t *testing.T, c *cluster) (end func() (int, error)) {
	config := c.config(t, inCluster, c.w.own(c.Tenant), "visitor")
	secure, err := rest.TLSConfigFor(config)
	must(t, err)
	client := &http.Client{Timeout: config.Timeout, Transport: &http.Transport{TLSClientConfig: secure, DialContext: config.Dial, DisableKeepAlives: true}}
	ctx, cancel := context.WithCancel(t.Context())
	n, failed, done := 0, error(nil), make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil && failed == nil {
			resp, err := client.Get(config.Host + "/version")
			if err == nil {
				_ = resp.Body.Close()
			}
			failed = err
			n++
		}
	}()
	return func() (int, error) { cancel(); <-done; return n, failed }
}
