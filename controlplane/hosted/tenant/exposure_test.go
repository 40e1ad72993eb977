// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// TestExposure takes one tenant through the ways in which it can be reached, and
// wants certificate and kubeconfig to follow each.
func TestExposure(t *testing.T) {
	w, life := start(t), t
	w.dataStore(t, "default", w.etcd.Config, map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"})
	w.create(t, manifest(t, "customer1.yaml"))
	w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)

	t.Run("ClusterIP to LoadBalancer", func(t *testing.T) {
		w.change(t, func(s *kamajiv1alpha1.TenantControlPlaneSpec) {
			s.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeLoadBalancer
			s.ControlPlane.Service.AllocateLoadBalancerNodePorts = ptr.To(false)
			s.NetworkProfile.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
			s.NetworkProfile.LoadBalancerClass = ptr.To("example.com/lb")
		})
		w.tenant(t, name, kamajiv1alpha1.AddressReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.AddressPendingReason)
		w.balance(t, corev1.LoadBalancerIngress{IP: "192.0.2.4"})
		w.reached(t, "192.0.2.4:6443")
		// The status is written last; no Event tells of an address that was gone before.
		w.eventually(t, func(ctx context.Context) string {
			tenant := &kamajiv1alpha1.TenantControlPlane{}
			if err := w.client.Get(ctx, key, tenant); err != nil {
				return err.Error()
			}
			if address := tenant.Status.ControlPlaneEndpoint; address != "192.0.2.4:6443" {
				return "the status has " + address
			}
			return ""
		})
		spec := w.service(t).Spec
		if *spec.AllocateLoadBalancerNodePorts || *spec.LoadBalancerClass != "example.com/lb" || !slices.Equal(spec.LoadBalancerSourceRanges, []string{"198.51.100.0/24"}) {
			t.Errorf("the Service has %+v", spec)
		}
	})
	t.Run("the load balancer's address changes", func(t *testing.T) {
		w.balance(t, corev1.LoadBalancerIngress{IP: "192.0.2.5"})
		w.reached(t, "192.0.2.5:6443")
		w.eventually(t, func(ctx context.Context) string {
			var events eventsv1.EventList
			if err := w.client.List(ctx, &events, client.InNamespace(system)); err != nil {
				return err.Error()
			}
			for _, e := range events.Items {
				if e.Reason == "EndpointChanged" && strings.Contains(e.Note, "192.0.2.4:6443 to 192.0.2.5:6443") {
					return ""
				}
			}
			return "no Event tells of the change"
		})
	})
	t.Run("source ranges are cleared", func(t *testing.T) {
		w.change(t, func(s *kamajiv1alpha1.TenantControlPlaneSpec) { s.NetworkProfile.LoadBalancerSourceRanges = nil })
		w.eventually(t, func(context.Context) string {
			if ranges := w.service(t).Spec.LoadBalancerSourceRanges; len(ranges) > 0 {
				return fmt.Sprintf("they are still %v", ranges)
			}
			return ""
		})
	})
	t.Run("a load balancer with a name only", func(t *testing.T) {
		w.balance(t, corev1.LoadBalancerIngress{Hostname: "lb.example.com"})
		w.tenant(t, name, kamajiv1alpha1.AddressReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.UnsupportedExposureReason)
		w.change(t, func(s *kamajiv1alpha1.TenantControlPlaneSpec) { s.NetworkProfile.AdvertiseAddress = "192.0.2.99" })
		w.reached(t, "192.0.2.99:6443")
	})
	t.Run("Ingress", func(t *testing.T) {
		w.change(t, func(s *kamajiv1alpha1.TenantControlPlaneSpec) {
			s.NetworkProfile.AdvertiseAddress, s.NetworkProfile.LoadBalancerClass, s.ControlPlane.Service.AllocateLoadBalancerNodePorts = "", nil, nil
			s.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
			s.ControlPlane.Ingress = &kamajiv1alpha1.IngressSpec{Hostname: "customer1.example.com:443", IngressClassName: "nginx"}
		})
		w.reached(t, "customer1.example.com:443")
		// The address is told before the workload is made.
		w.eventually(t, func(ctx context.Context) string {
			ingress := &networkingv1.Ingress{}
			if err := w.client.Get(ctx, key, ingress); err != nil || ingress.Spec.Rules[0].Host != "customer1.example.com" {
				return fmt.Sprintf("Ingress %+v (%v)", ingress.Spec, err)
			}
			return ""
		})
	})
	t.Run("TLSRoute, without the Gateway API", func(t *testing.T) {
		w.change(t, func(s *kamajiv1alpha1.TenantControlPlaneSpec) {
			s.ControlPlane.Ingress = nil
			s.ControlPlane.Gateway = &kamajiv1alpha1.GatewaySpec{
				Hostname: "customer1.example.org", GatewayParentRefs: []gatewayv1.ParentReference{{Name: "edge", Port: ptr.To[int32](8443)}},
			}
			s.Addons.Konnectivity = &kamajiv1alpha1.KonnectivitySpec{KonnectivityServerSpec: kamajiv1alpha1.KonnectivityServerSpec{Port: 8132}}
		})
		w.tenant(t, name, kamajiv1alpha1.AddressReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.GatewayAPIMissingReason)
	})
	t.Run("TLSRoute", func(t *testing.T) {
		admin := rest.CopyConfig(w.manager.GetConfig()) // the manager has no right to install them
		admin.Impersonate = rest.ImpersonationConfig{}
		if _, err := envtest.InstallCRDs(admin, envtest.CRDInstallOptions{Paths: []string{testenv.GatewayAPICRDs(t)}}); err != nil {
			t.Fatal(err)
		}
		w.reached(t, "customer1.example.org:8443")
		w.eventually(t, func(ctx context.Context) string {
			if err := w.client.Get(ctx, key, &networkingv1.Ingress{}); !apierrors.IsNotFound(err) {
				return fmt.Sprintf("the Ingress is still there: %v", err)
			}
			return ""
		})
		w.kubelet.run(life, w.client, w.deployment(t, name), w.address(t, name))
		w.pods(t, name, 1)
		w.routes(t)
	})
	t.Run("a second pass writes nothing", func(t *testing.T) { w.settled(t, name) })
	t.Run("ClusterIP again", func(t *testing.T) {
		w.change(t, func(s *kamajiv1alpha1.TenantControlPlaneSpec) {
			s.ControlPlane.Gateway, s.Addons.Konnectivity = nil, nil
		})
		w.eventually(t, func(ctx context.Context) string {
			var routes gatewayv1.TLSRouteList
			if err := w.client.List(ctx, &routes); err != nil || len(routes.Items) > 0 {
				return fmt.Sprintf("%d routes are left (%v)", len(routes.Items), err)
			}
			return ""
		})
		w.reached(t, w.address(t, name))
		w.eventually(t, func(context.Context) string {
			tn := w.tenant(t, name, kamajiv1alpha1.AddressReadyCondition, metav1.ConditionTrue, phase.ReasonDone)
			if tn.Status.Kubernetes.Gateway != nil || tn.Status.Addons.Konnectivity.Gateway != nil {
				return fmt.Sprintf("the status still has routes: %+v", tn.Status.Kubernetes.Gateway)
			}
			return ""
		})
	})
	t.Run("TLSRoute for customers, KamajiGateway for nodes", func(t *testing.T) {
		w.change(t, func(s *kamajiv1alpha1.TenantControlPlaneSpec) {
			s.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", Exposure: kamajiv1alpha1.GatewayExposurePrivate}
			s.ControlPlane.Gateway = &kamajiv1alpha1.GatewaySpec{
				Hostname: "customer1.example.net", GatewayParentRefs: []gatewayv1.ParentReference{{Name: "edge", Port: ptr.To[int32](8443)}},
			}
			s.Addons.Konnectivity = &kamajiv1alpha1.KonnectivitySpec{KonnectivityServerSpec: kamajiv1alpha1.KonnectivityServerSpec{Port: 8132}}
		})
		w.tenant(t, name, kamajiv1alpha1.AddressReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.GatewayPendingReason)
		w.allocate(t, &kamajiv1alpha1.KamajiGatewayStatus{Name: "default", Hostname: "customer1.k8s.example.com", PrivateAddress: "10.0.0.100", Port: 6443, TenantPort: 21034})
		w.reached(t, "customer1.example.net:8443")
		w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
		w.pods(t, name, 2)
		tn := w.tenant(t, name, kamajiv1alpha1.RoutedCondition, metav1.ConditionFalse, kamajiv1alpha1.RoutePendingReason)
		if tn.Status.ControlPlaneEndpoint != "customer1.k8s.example.com:6443" {
			t.Errorf("nodes are told %s", tn.Status.ControlPlaneEndpoint)
		}
		w.accept(t, name)
		w.tenant(t, name, kamajiv1alpha1.RoutedCondition, metav1.ConditionTrue, phase.ReasonDone)
		if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: system, Name: name + "-konnectivity"}, &gatewayv1.TLSRoute{}); !apierrors.IsNotFound(err) {
			t.Errorf("agents, which use the KamajiGateway, have a route, too: %v", err)
		}
	})
}

// allocate does what the gateway does for a tenant that names it.
func (w *world) allocate(t *testing.T, status *kamajiv1alpha1.KamajiGatewayStatus) {
	t.Helper()
	tn := &kamajiv1alpha1.TenantControlPlane{}
	if err := w.client.Get(t.Context(), key, tn); err != nil {
		t.Fatal(err)
	}
	before := tn.DeepCopy()
	tn.Status.KamajiGateway = status
	if err := w.client.Status().Patch(t.Context(), tn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// accept does what the controller of a Gateway does for a route that it takes.
func (w *world) accept(t *testing.T, route string) {
	t.Helper()
	r := &gatewayv1.TLSRoute{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: system, Name: route}, r); err != nil {
		t.Fatal(err)
	}
	r.Status.Parents = []gatewayv1.RouteParentStatus{{
		ParentRef: r.Spec.ParentRefs[0], ControllerName: "example.com/gateway",
		Conditions: []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", LastTransitionTime: metav1.Now()}},
	}}
	if err := w.client.Status().Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// routes acts as the Gateway's owner, then as its controller.
func (w *world) routes(t *testing.T) {
	t.Helper()
	w.tenant(t, name, kamajiv1alpha1.RoutedCondition, metav1.ConditionFalse, kamajiv1alpha1.RoutePendingReason)
	listener := func(name gatewayv1.SectionName, port int32, mode gatewayv1.TLSModeType) gatewayv1.Listener {
		tls := &gatewayv1.ListenerTLSConfig{Mode: ptr.To(mode)}
		if mode == gatewayv1.TLSModeTerminate {
			tls.CertificateRefs = []gatewayv1.SecretObjectReference{{Name: "x"}}
		}
		return gatewayv1.Listener{Name: name, Port: port, Protocol: gatewayv1.TLSProtocolType, TLS: tls}
	}
	gateway := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "edge"}, Spec: gatewayv1.GatewaySpec{
		GatewayClassName: "test", Listeners: []gatewayv1.Listener{
			listener("kube-apiserver", 8443, gatewayv1.TLSModeTerminate), listener("konnectivity-server", 8132, gatewayv1.TLSModePassthrough),
		},
	}}
	w.create(t, gateway)
	tn := w.tenant(t, name, kamajiv1alpha1.RoutedCondition, metav1.ConditionFalse, kamajiv1alpha1.RouteRejectedReason)
	if c := meta.FindStatusCondition(tn.Status.Conditions, kamajiv1alpha1.RoutedCondition); !strings.Contains(c.Message, "Passthrough") {
		t.Errorf("the message names no cure: %s", c.Message)
	}
	// Only a watch of Gateways can tell of this.
	before := gateway.DeepCopy()
	gateway.Spec.Listeners[0] = listener("kube-apiserver", 8443, gatewayv1.TLSModePassthrough)
	if err := w.client.Patch(t.Context(), gateway, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	w.tenant(t, name, kamajiv1alpha1.RoutedCondition, metav1.ConditionFalse, kamajiv1alpha1.RoutePendingReason)
	for _, suffix := range []string{"", "-konnectivity"} {
		w.accept(t, name+suffix)
	}
	tn = w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	status, konnectivity := tn.Status.Kubernetes.Gateway, tn.Status.Addons.Konnectivity.Gateway
	if status == nil || status.RouteRef.Name != name || len(status.Parents) != 1 || len(status.AccessPoints) != 1 || status.AccessPoints[0].URLs[0] != "https://customer1.example.org:8443" {
		t.Errorf("status.kubernetesResources.gateway is %+v", status)
	}
	if konnectivity == nil || konnectivity.RouteRef.Name != name+"-konnectivity" || konnectivity.AccessPoints[0].Port != 8132 {
		t.Errorf("status.addons.konnectivity.gateway is %+v", konnectivity)
	}
}

// change edits the tenant's spec.
func (w *world) change(t *testing.T, edit func(*kamajiv1alpha1.TenantControlPlaneSpec)) {
	t.Helper()
	tn := &kamajiv1alpha1.TenantControlPlane{}
	if err := w.client.Get(t.Context(), key, tn); err != nil {
		t.Fatal(err)
	}
	before := tn.DeepCopy()
	edit(&tn.Spec)
	if err := w.client.Patch(t.Context(), tn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

func (w *world) service(t *testing.T) *corev1.Service {
	t.Helper()
	out := &corev1.Service{}
	if err := w.client.Get(t.Context(), key, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// balance does what a load balancer's controller reports.
func (w *world) balance(t *testing.T, ingress corev1.LoadBalancerIngress) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		service := &corev1.Service{}
		if err := w.client.Get(ctx, key, service); err != nil {
			return err.Error()
		}
		if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
			return "the Service is of type " + string(service.Spec.Type)
		}
		service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{ingress}
		if err := w.client.Status().Update(ctx, service); err != nil {
			return err.Error()
		}
		return ""
	})
}

// reached waits until clients are led to an address, and its host is one that the
// serving certificate is for.
func (w *world) reached(t *testing.T, address string) {
	t.Helper()
	host := address[:strings.LastIndex(address, ":")]
	w.eventually(t, func(ctx context.Context) string {
		admin, serving := &corev1.Secret{}, &corev1.Secret{}
		for secret, suffix := range map[*corev1.Secret]string{admin: "-admin-kubeconfig", serving: "-api-server-certificate"} {
			if err := w.client.Get(ctx, client.ObjectKey{Namespace: system, Name: name + suffix}, secret); err != nil {
				return err.Error()
			}
		}
		config, err := clientcmd.RESTConfigFromKubeConfig(admin.Data["admin.conf"])
		if err != nil {
			return err.Error()
		}
		if config.Host != "https://"+address {
			return "admin.conf leads to " + config.Host
		}
		block, _ := pem.Decode(serving.Data["apiserver.crt"])
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err.Error()
		}
		if err := certificate.VerifyHostname(host); err != nil {
			return err.Error()
		}
		return ""
	})
}
