// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/pem"
	"net"
	"os"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// freeAddress is one on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, lis.Close()) }()
	return lis.Addr().String()
}

// A replica that isn't the leader serves what the API server holds, from the first request on, and follows it.
func TestReplicaThatIsNotLeaderServes(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, kamajiv1alpha1.AddToScheme, v1alpha2.AddToScheme} {
		must(t, add(scheme))
	}
	cfg, c := testenv.Start(t, scheme, "config/controlplane/crd/bases")
	ctx := t.Context()

	// Somebody else leads, for ever.
	must(t, c.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "leader"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To("other"), LeaseDurationSeconds: ptr.To[int32](3600), RenewTime: &metav1.MicroTime{Time: time.Now()},
			AcquireTime: &metav1.MicroTime{Time: time.Now()},
		},
	}))
	must(t, c.Create(ctx, &v1alpha2.KamajiGateway{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec:       v1alpha2.KamajiGatewaySpec{Domain: "k8s.example.com", PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.5"},
	}))
	makeTenant(t, c, "c1", 20001)
	must(t, c.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "activator-abc", Labels: map[string]string{discoveryv1.LabelServiceName: "kamaji-activator"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.9.1"}}, {Addresses: []string{"10.244.9.2"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("activator"), Port: ptr.To[int32](18001)}},
	}))
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "c1-abc", Labels: map[string]string{discoveryv1.LabelServiceName: "c1", kamajiv1alpha1.NameLabel: "c1"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.1"}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("kube-apiserver"), Port: ptr.To[int32](6443)}},
	}
	must(t, c.Create(ctx, slice))

	ca, files, address := newAuthority(t), TLSFilesIn(t.TempDir()), freeAddress(t)
	cert, key := ca.issue(t, serverName, "")
	must(t, os.WriteFile(files.Cert, cert, 0o600))
	must(t, os.WriteFile(files.Key, key, 0o600))
	must(t, os.WriteFile(files.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600))
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, LeaderElection: true, LeaderElectionID: "leader", LeaderElectionNamespace: "default",
	})
	must(t, err)
	_, err = SetupWithManager(ctx, mgr, Options{Address: address, TLS: files, Activator: types.NamespacedName{Namespace: "default", Name: "kamaji-activator"}})
	must(t, err)
	runCtx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(runCtx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	})

	clientCert, clientKey := ca.issue(t, "", "spiffe://kamaji/gateway/default")
	data := dialWhen(t, address, ca.pool, clientCert, clientKey, true)
	data.subscribe("default/node-1", resourcev3.ClusterType, []string{"*"}, nil)
	if got := len(data.recv().GetResources()); got != 6 {
		t.Errorf("at the first request: got %d clusters, want all 6", got)
	}
	data.subscribe("", resourcev3.EndpointType, []string{"default/c1/kube-apiserver"}, nil)
	if got := endpoints(t, data); len(got) != 1 || got[0] != "10.244.0.1" {
		t.Errorf("endpoints: got %v", got)
	}

	slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.244.0.2"}})
	must(t, c.Update(ctx, slice))
	if got := endpoints(t, data); len(got) != 2 {
		t.Errorf("after another pod is ready: got %v", got)
	}
	makeTenant(t, c, "c2", 20002)
	if got := len(data.recv().GetResources()); got != 6 {
		t.Errorf("after another tenant: got %d clusters, want its 6", got)
	}
	must(t, c.Delete(ctx, &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c2"}}))
	if got := len(data.recv().GetRemovedResources()); got != 6 {
		t.Errorf("after it is gone: got %d removals, want its 6 clusters", got)
	}
	waking(t, c, data)
}

// waking has a connection wake a tenant that sleeps: clients of its names go to the activator, and to its API server when that serves.
func waking(t *testing.T, c client.Client, data *follower) {
	t.Helper()
	data.subscribe("", resourcev3.EndpointType, []string{"default/c3/kube-apiserver-or-activator"}, nil)
	for len(data.recv().GetRemovedResources()) == 0 {
		continue // until it says that there is none
	}
	makeTenant(t, c, "c3", 20003, func(tcp *kamajiv1alpha1.TenantControlPlane) {
		tcp.Spec.ControlPlane.KamajiGateway.Wake = &kamajiv1alpha1.WakeSpec{}
	})
	if got := nextEndpoints(t, data); len(got) != 1 || got[0] != "10.244.9.1" {
		t.Errorf("while it sleeps: got %v, want the activator", got)
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "c3-abc", Labels: map[string]string{discoveryv1.LabelServiceName: "c3"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.3"}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("kube-apiserver"), Port: ptr.To[int32](6443)}},
	}
	must(t, c.Create(t.Context(), slice))
	if got := nextEndpoints(t, data); len(got) != 1 || got[0] != "10.244.0.3" {
		t.Errorf("when it is awake: got %v", got)
	}
	must(t, c.Delete(t.Context(), slice))
	if got := nextEndpoints(t, data); len(got) != 1 || got[0] != "10.244.9.1" {
		t.Errorf("when it sleeps again: got %v, want the activator", got)
	}
	activators := &discoveryv1.EndpointSlice{}
	must(t, c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "activator-abc"}, activators))
	activators.Endpoints[1].Conditions.Ready = ptr.To(true)
	must(t, c.Update(t.Context(), activators))
	if got := nextEndpoints(t, data); len(got) != 2 {
		t.Errorf("with another activator: got %v", got)
	}
}

// nextEndpoints passes over responses about clusters.
func nextEndpoints(t *testing.T, f *follower) []string {
	t.Helper()
	for {
		resp := f.recv()
		if resp.GetTypeUrl() == resourcev3.EndpointType {
			return addresses(t, resp)
		}
	}
}

// makeTenant makes a tenant that has an address.
func makeTenant(t *testing.T, c client.Client, name string, port int32, edit ...func(*kamajiv1alpha1.TenantControlPlane)) {
	t.Helper()
	tcp := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	tcp.Spec.Kubernetes.Version = "v1.36.3"
	tcp.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
	tcp.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default"}
	for _, change := range edit {
		change(tcp)
	}
	must(t, c.Create(t.Context(), tcp))
	tcp.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{Name: "default", Hostname: name + ".k8s.example.com", PublicAddress: "203.0.113.10", Port: 6443, TenantPort: port}
	must(t, c.Status().Update(t.Context(), tcp))
}

// endpoints are the addresses in the next response, which must be one assignment.
func endpoints(t *testing.T, f *follower) []string {
	t.Helper()
	return addresses(t, f.recv())
}

// addresses are those in a response, which must be one assignment.
func addresses(t *testing.T, resp *discoveryv3.DeltaDiscoveryResponse) []string {
	t.Helper()
	if resp.GetTypeUrl() != resourcev3.EndpointType || len(resp.GetResources()) != 1 {
		t.Fatalf("got %d resources of %s, want one assignment", len(resp.GetResources()), resp.GetTypeUrl())
	}
	a := &endpointv3.ClusterLoadAssignment{}
	must(t, resp.GetResources()[0].GetResource().UnmarshalTo(a))
	var out []string
	for _, locality := range a.GetEndpoints() {
		for _, e := range locality.GetLbEndpoints() {
			out = append(out, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
		}
	}
	return out
}
