// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func tenant(serviceType kamajiv1alpha1.ServiceType) *kamajiv1alpha1.TenantControlPlane {
	t := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "tenants"}}
	t.Spec.ControlPlane.Service.ServiceType = serviceType
	return t
}

func service(clusterIP string, ingress ...corev1.LoadBalancerIngress) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: clusterIP, ClusterIPs: []string{clusterIP}}}
	s.Status.LoadBalancer.Ingress = ingress
	return s
}

func dualStack() *corev1.Service {
	return &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.7.7", ClusterIPs: []string{"10.96.7.7", "fd00::7"}}}
}

func with(serviceType kamajiv1alpha1.ServiceType, change func(*kamajiv1alpha1.TenantControlPlaneSpec)) *kamajiv1alpha1.TenantControlPlane {
	t := tenant(serviceType)
	change(&t.Spec)
	return t
}

// everywhere is an endpoint that everybody reaches at one address.
func everywhere(host string, addresses ...string) Endpoint {
	at := Server{Host: host, Port: 6443}
	return Endpoint{Service: Server{Host: "demo.tenants.svc", Port: 6443}, Client: at, Worker: at, InCluster: at, Published: at, Addresses: addresses}
}

func gateway(change func(*kamajiv1alpha1.TenantControlPlane)) *kamajiv1alpha1.TenantControlPlane {
	t := tenant(kamajiv1alpha1.ServiceTypeClusterIP)
	t.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default"}
	t.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{
		Name: "default", Hostname: "demo.k8s.example.com", PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.100", Port: 6443, TenantPort: 21034,
	}
	if change != nil {
		change(t)
	}
	return t
}

func TestResolve(t *testing.T) {
	const (
		clusterIP    = kamajiv1alpha1.ServiceTypeClusterIP
		nodePort     = kamajiv1alpha1.ServiceTypeNodePort
		loadBalancer = kamajiv1alpha1.ServiceTypeLoadBalancer
	)
	type spec = *kamajiv1alpha1.TenantControlPlaneSpec
	inService := Server{Host: "demo.tenants.svc", Port: 6443}
	named := Server{Host: "demo.k8s.example.com", Port: 6443}
	private := Server{Host: "10.0.0.100", Port: 21034}
	through := Endpoint{
		Service: inService, Client: Server{Host: "203.0.113.10", Port: 6443, ServerName: "demo.k8s.example.com"},
		Worker: named, InCluster: private, Published: named, Gateway: true,
		Names: []string{"demo.k8s.example.com"}, Addresses: []string{"10.0.0.100", "203.0.113.10", "10.96.7.7"},
	}
	byPort := through
	byPort.Worker, byPort.Tunnel = private, private
	hidden := through
	hidden.Client.Host, hidden.Addresses = "10.0.0.100", []string{"10.0.0.100", "10.96.7.7"}
	ownAddress := through
	ownAddress.InCluster = Server{Host: "10.255.0.7", Port: 6443}
	ownAddress.Worker = ownAddress.InCluster
	ownAddress.Addresses = []string{"10.0.0.100", "203.0.113.10", "10.255.0.7", "10.96.7.7"}

	beside := hidden
	beside.Client, beside.Tunnel, beside.Names = Server{Host: "demo.example.com", Port: 443}, named, []string{"demo.k8s.example.com", "demo.example.com"}

	advertised := everywhere("192.0.2.99", "10.96.7.7", "192.0.2.99", "192.0.2.4")
	advertised.Published.Host, advertised.Tunnel = "192.0.2.4", Server{Host: "192.0.2.99", Port: 8132}
	onlyName := everywhere("192.0.2.99", "10.96.7.7", "192.0.2.99")
	onlyName.Published.Host, onlyName.Names = "lb.example.com", []string{"lb.example.com"}
	ingress := Endpoint{
		Service: inService, Client: Server{Host: "demo.example.com", Port: 443}, Worker: Server{Host: "demo.example.com", Port: 443},
		Published: Server{Host: "demo.example.com", Port: 443}, InCluster: Server{Host: "10.96.7.7", Port: 6443}, Tunnel: Server{Host: "10.96.7.7", Port: 8132},
		Names: []string{"demo.example.com"}, Addresses: []string{"10.96.7.7"},
	}
	route := ingress
	route.Tunnel = Server{Host: "demo.example.com", Port: 8132}
	pastRoute := route
	pastRoute.InCluster, pastRoute.Addresses = Server{Host: "192.0.2.99", Port: 6443}, []string{"10.96.7.7", "192.0.2.99"}
	publish := func(s spec) {
		s.ControlPlane.Gateway = &kamajiv1alpha1.GatewaySpec{
			Hostname: "demo.example.com", GatewayParentRefs: []gatewayv1.ParentReference{{Name: "x", Port: ptr.To[int32](443)}},
		}
		s.Addons.Konnectivity = &kamajiv1alpha1.KonnectivitySpec{}
	}

	cases := []struct {
		name    string
		tenant  *kamajiv1alpha1.TenantControlPlane
		service *corev1.Service
		want    Endpoint
	}{
		{"KamajiGateway", gateway(nil), service("10.96.7.7"), through},
		{"KamajiGateway by tenant port", gateway(func(t *kamajiv1alpha1.TenantControlPlane) {
			t.Spec.ControlPlane.KamajiGateway.WorkerEndpoint = kamajiv1alpha1.WorkerEndpointTenantPort
			t.Spec.Addons.Konnectivity = &kamajiv1alpha1.KonnectivitySpec{}
		}), service("10.96.7.7"), byPort},
		{"gateway, private only", gateway(func(t *kamajiv1alpha1.TenantControlPlane) { t.Status.KamajiGateway.PublicAddress = "" }), service("10.96.7.7"), hidden},
		{"gateway for nodes, TLSRoute for customers", gateway(func(t *kamajiv1alpha1.TenantControlPlane) {
			t.Status.KamajiGateway.PublicAddress = ""
			publish(&t.Spec)
		}), service("10.96.7.7"), beside},
		{"gateway with an address for each tenant", gateway(func(t *kamajiv1alpha1.TenantControlPlane) {
			t.Status.KamajiGateway.TenantAddress = "10.255.0.7"
			t.Spec.ControlPlane.KamajiGateway.WorkerEndpoint = kamajiv1alpha1.WorkerEndpointTenantPort
		}), service("10.96.7.7"), ownAddress},

		{"ClusterIP", tenant(clusterIP), service("10.96.7.7"), everywhere("10.96.7.7", "10.96.7.7")},
		{"ClusterIP, two families, IPv4 first", tenant(clusterIP), dualStack(), everywhere("10.96.7.7", "10.96.7.7", "fd00::7")},
		{"ClusterIP, two families, IPv6 first", with(clusterIP, func(s spec) {
			s.NetworkProfile.ServiceCIDRs = []string{"fd00:1::/112", "10.96.0.0/16"}
		}), dualStack(), everywhere("fd00::7", "10.96.7.7", "fd00::7")},

		{"NodePort", with(nodePort, func(s spec) { s.NetworkProfile.Address = "192.0.2.1" }), service("10.96.7.7"), everywhere("192.0.2.1", "10.96.7.7", "192.0.2.1")},

		{"LoadBalancer", tenant(loadBalancer), service("10.96.7.7", corev1.LoadBalancerIngress{IP: "192.0.2.4"}), everywhere("192.0.2.4", "10.96.7.7", "192.0.2.4")},
		{"LoadBalancer after ClusterIP", tenant(loadBalancer), service("10.96.7.7", corev1.LoadBalancerIngress{IP: "192.0.2.5"}), everywhere("192.0.2.5", "10.96.7.7", "192.0.2.5")},
		{"LoadBalancer of the other family first", tenant(loadBalancer), service("10.96.7.7", corev1.LoadBalancerIngress{IP: "fd00::4"}, corev1.LoadBalancerIngress{IP: "192.0.2.4"}),
			everywhere("192.0.2.4", "10.96.7.7", "192.0.2.4", "fd00::4")},
		{"LoadBalancer, nodes elsewhere", with(loadBalancer, func(s spec) {
			s.NetworkProfile.AdvertiseAddress, s.Addons.Konnectivity = "192.0.2.99", &kamajiv1alpha1.KonnectivitySpec{}
		}), service("10.96.7.7", corev1.LoadBalancerIngress{IP: "192.0.2.4"}), advertised},
		{"LoadBalancer with a name", with(loadBalancer, func(s spec) { s.NetworkProfile.AdvertiseAddress = "192.0.2.99" }),
			service("10.96.7.7", corev1.LoadBalancerIngress{Hostname: "lb.example.com"}), onlyName},

		{"Ingress", with(clusterIP, func(s spec) {
			s.ControlPlane.Ingress = &kamajiv1alpha1.IngressSpec{Hostname: "demo.example.com:443"}
			s.Addons.Konnectivity = &kamajiv1alpha1.KonnectivitySpec{}
		}), service("10.96.7.7"), ingress},
		{"TLSRoute", with(clusterIP, publish), service("10.96.7.7"), route},
		{"TLSRoute, pods past it", with(nodePort, func(s spec) {
			publish(s)
			s.NetworkProfile.AdvertiseAddress = "192.0.2.99"
		}), service("10.96.7.7"), pastRoute},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Resolve(tc.tenant, tc.service)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestResolveNotYet(t *testing.T) {
	named := service("10.96.7.7", corev1.LoadBalancerIngress{Hostname: "lb.example.com"})
	const clusterIP = kamajiv1alpha1.ServiceTypeClusterIP
	type spec = *kamajiv1alpha1.TenantControlPlaneSpec
	route := func(hostname gatewayv1.Hostname, parents ...gatewayv1.ParentReference) *kamajiv1alpha1.TenantControlPlane {
		return with(clusterIP, func(s spec) {
			s.ControlPlane.Gateway = &kamajiv1alpha1.GatewaySpec{Hostname: hostname, GatewayParentRefs: parents}
		})
	}
	ingress := func(serviceType kamajiv1alpha1.ServiceType, hostname string) *kamajiv1alpha1.TenantControlPlane {
		return with(serviceType, func(s spec) { s.ControlPlane.Ingress = &kamajiv1alpha1.IngressSpec{Hostname: hostname} })
	}
	parent := gatewayv1.ParentReference{Name: "x"}
	cases := []struct {
		name    string
		tenant  *kamajiv1alpha1.TenantControlPlane
		service *corev1.Service
		fatal   bool
	}{
		{"no service", tenant(kamajiv1alpha1.ServiceTypeClusterIP), nil, false},
		{"no cluster IP", tenant(kamajiv1alpha1.ServiceTypeClusterIP), service(""), false},
		{"no load balancer", tenant(kamajiv1alpha1.ServiceTypeLoadBalancer), service("10.96.7.7"), false},
		{"load balancer without an IP", tenant(kamajiv1alpha1.ServiceTypeLoadBalancer), named, true},
		{"node port", tenant(kamajiv1alpha1.ServiceTypeNodePort), service("10.96.7.7"), true},
		{"TLSRoute without a name", route("", parent), service("10.96.7.7"), true},
		{"TLSRoute with a wildcard", route("*.example.com", parent), service("10.96.7.7"), true},
		{"TLSRoute without a Gateway", route("a.example.com"), service("10.96.7.7"), true},
		{"TLSRoute, no Service yet", route("a.example.com", parent), nil, false},
		{"Ingress without a name", ingress(clusterIP, ""), service("10.96.7.7"), true},
		{"Ingress with an address", ingress(clusterIP, "192.0.2.1"), service("10.96.7.7"), true},
		{"Ingress with a bad port", ingress(clusterIP, "a.example.com:70000"), service("10.96.7.7"), true},
		{"Ingress, no way for pods", ingress(kamajiv1alpha1.ServiceTypeNodePort, "a.example.com"), service("10.96.7.7"), true},
		{"Ingress, only a name for pods", ingress(kamajiv1alpha1.ServiceTypeLoadBalancer, "a.example.com"), named, true},
		{"Ingress, load balancer pending", ingress(kamajiv1alpha1.ServiceTypeLoadBalancer, "a.example.com"), service("10.96.7.7"), false},
		{"pods of the other family", with(clusterIP, func(s spec) { s.NetworkProfile.ServiceCIDRs = []string{"fd00:1::/112"} }), service("10.96.7.7"), true},
		{"gateway silent", gateway(func(t *kamajiv1alpha1.TenantControlPlane) { t.Status.KamajiGateway = nil }), nil, false},
		{"another gateway before", gateway(func(t *kamajiv1alpha1.TenantControlPlane) { t.Status.KamajiGateway.Name = "old" }), nil, false},
		{"another name before", gateway(func(t *kamajiv1alpha1.TenantControlPlane) {
			t.Spec.ControlPlane.KamajiGateway.Hostname = "new.k8s.example.com"
		}), nil, false},
		{"no tenant port", gateway(func(t *kamajiv1alpha1.TenantControlPlane) { t.Status.KamajiGateway.TenantPort = 0 }), nil, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Resolve(tc.tenant, tc.service)
			if err == nil || phase.IsFatal(err) != tc.fatal {
				t.Errorf("error %v, fatal %t; want fatal %t", err, phase.IsFatal(err), tc.fatal)
			}
		})
	}
}
