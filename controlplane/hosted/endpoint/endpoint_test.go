// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	inService := Server{Host: "demo.tenants.svc", Port: 6443}
	named := Server{Host: "demo.k8s.example.com", Port: 6443}
	private := Server{Host: "10.0.0.100", Port: 21034}
	ip := Server{Host: "10.96.7.7", Port: 6443}
	through := Endpoint{
		Service: inService, Client: Server{Host: "203.0.113.10", Port: 6443, ServerName: "demo.k8s.example.com"},
		Worker: named, InCluster: private, Published: named, Gateway: true,
		Names: []string{"demo.k8s.example.com"}, Addresses: []string{"10.0.0.100", "203.0.113.10", "10.96.7.7"},
	}
	byPort := through
	byPort.Worker = private
	hidden := through
	hidden.Client.Host, hidden.Addresses = "10.0.0.100", []string{"10.0.0.100", "10.96.7.7"}
	ownAddress := through
	ownAddress.InCluster = Server{Host: "10.255.0.7", Port: 6443}
	ownAddress.Worker = ownAddress.InCluster
	ownAddress.Addresses = []string{"10.0.0.100", "203.0.113.10", "10.255.0.7", "10.96.7.7"}

	cases := []struct {
		name    string
		tenant  *kamajiv1alpha1.TenantControlPlane
		service *corev1.Service
		want    Endpoint
	}{
		{"gateway", gateway(nil), service("10.96.7.7"), through},
		{"gateway by tenant port", gateway(func(t *kamajiv1alpha1.TenantControlPlane) {
			t.Spec.ControlPlane.KamajiGateway.WorkerEndpoint = kamajiv1alpha1.WorkerEndpointTenantPort
		}), service("10.96.7.7"), byPort},
		{"gateway, private only", gateway(func(t *kamajiv1alpha1.TenantControlPlane) { t.Status.KamajiGateway.PublicAddress = "" }), service("10.96.7.7"), hidden},
		{"gateway with an address for each tenant", gateway(func(t *kamajiv1alpha1.TenantControlPlane) {
			t.Status.KamajiGateway.TenantAddress = "10.255.0.7"
			t.Spec.ControlPlane.KamajiGateway.WorkerEndpoint = kamajiv1alpha1.WorkerEndpointTenantPort
		}), service("10.96.7.7"), ownAddress},
		{"ClusterIP", tenant(kamajiv1alpha1.ServiceTypeClusterIP), service("10.96.7.7"), Endpoint{
			Service: inService, Client: ip, Worker: ip, InCluster: ip, Published: ip, Addresses: []string{"10.96.7.7", "10.96.7.7"},
		}},
		{"LoadBalancer", tenant(kamajiv1alpha1.ServiceTypeLoadBalancer), service("10.96.7.7", corev1.LoadBalancerIngress{IP: "192.0.2.4"}), Endpoint{
			Service: inService, Client: Server{Host: "192.0.2.4", Port: 6443}, Worker: Server{Host: "192.0.2.4", Port: 6443},
			InCluster: Server{Host: "192.0.2.4", Port: 6443}, Published: Server{Host: "192.0.2.4", Port: 6443}, Addresses: []string{"10.96.7.7", "192.0.2.4"},
		}},
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
	withGatewayAPI := tenant(kamajiv1alpha1.ServiceTypeClusterIP)
	withGatewayAPI.Spec.ControlPlane.Gateway = &kamajiv1alpha1.GatewaySpec{GatewayParentRefs: []gatewayv1.ParentReference{{Name: "x"}}}
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
		{"Gateway API", withGatewayAPI, service("10.96.7.7"), true},
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
