// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// gateway plays the gateway's part: it allocates, and the engine goes on.
func (w *world) gateway(t *testing.T) {
	tn := manifest(t, "customer1.yaml")
	tn.Name = "routed"
	tn.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", AdditionalHostnames: []string{"api.customer.example"}}
	tn.Spec.Kubernetes.Version = "v1.36.3"
	tn.Spec.Addons.CoreDNS, tn.Spec.Addons.KubeProxy = &kamajiv1alpha1.AddonSpec{}, &kamajiv1alpha1.AddonSpec{}
	tn.Spec.Addons.Konnectivity = &kamajiv1alpha1.KonnectivitySpec{KonnectivityServerSpec: kamajiv1alpha1.KonnectivityServerSpec{Port: 8132}}
	w.create(t, tn)
	tn = w.tenant(t, tn.Name, kamajiv1alpha1.AddressReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.GatewayPendingReason)
	after := tn.DeepCopy()
	after.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{
		Name: "default", Hostname: "routed.k8s.example.com", AdditionalHostnames: []string{"api.customer.example"},
		PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.100", Port: 6443, TenantPort: 31001,
	}
	if err := w.client.Status().Patch(t.Context(), after, client.MergeFrom(tn)); err != nil {
		t.Fatal(err)
	}
	tn = w.tenant(t, tn.Name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	if tn.Status.ControlPlaneEndpoint != "routed.k8s.example.com:6443" || tn.Status.KamajiGateway == nil {
		t.Errorf("endpoint %q, gateway %+v", tn.Status.ControlPlaneEndpoint, tn.Status.KamajiGateway)
	}
	secret := &corev1.Secret{}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: tn.Name + "-api-server-certificate"}, secret); err != nil {
		t.Fatal(err)
	}
	certificates, err := cert.ParseCertsPEM(secret.Data["apiserver.crt"])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"routed.k8s.example.com", "api.customer.example", "203.0.113.10", "10.0.0.100", "10.96.0.1", "routed.kamaji-system.svc"} {
		if err := certificates[0].VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if tn.Status.Addons.Konnectivity.Certificate.SecretName == "" || tn.Status.Addons.Konnectivity.ConfigMap.Name == "" {
		t.Errorf("konnectivity: %+v", tn.Status.Addons.Konnectivity)
	}
	w.kubelet.run(t, w.client, w.deployment(t, tn.Name), w.address(t, tn.Name))
	w.pods(t, tn.Name, 2)
	tn = w.tenant(t, tn.Name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	if a := tn.Status.Addons; !a.CoreDNS.Enabled || !a.KubeProxy.Enabled || !a.Konnectivity.Enabled || a.Konnectivity.Agent.Name == "" {
		t.Errorf("addons: %+v", a)
	}
	if d := w.deployment(t, tn.Name); d.Generation != 1 {
		t.Errorf("the Deployment was written %d times", d.Generation)
	}
	w.settled(t, tn.Name)
	w.rotates(t, tn.Name, []string{"konnectivity-kubeconfig"}, []string{"konnectivity-certificate"})
	w.withoutAddons(t, tn.Name)
}

// withoutAddons takes the addons off again, and expects nothing of them to stay.
func (w *world) withoutAddons(t *testing.T, name string) {
	t.Helper()
	inside := w.access(t, name, "super-admin.svc")
	corefile := &corev1.ConfigMap{}
	if err := inside.Get(t.Context(), types.NamespacedName{Namespace: "kube-system", Name: "coredns"}, corefile); err != nil {
		t.Fatal(err)
	}
	tn := &kamajiv1alpha1.TenantControlPlane{}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: name}, tn); err != nil {
		t.Fatal(err)
	}
	after := tn.DeepCopy()
	after.Spec.Addons = kamajiv1alpha1.AddonsSpec{}
	if err := w.client.Patch(t.Context(), after, client.MergeFrom(tn)); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, func(context.Context) string {
		if d := w.deployment(t, name); d.Generation == d.Status.ObservedGeneration {
			return "the konnectivity server still runs"
		}
		return ""
	})
	w.pods(t, name, 2)
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(tn), tn); err != nil {
			return err.Error()
		}
		if a := tn.Status.Addons; a.CoreDNS.Enabled || a.KubeProxy.Enabled || a.Konnectivity.Enabled || tn.Status.ObservedGeneration != tn.Generation {
			return fmt.Sprintf("addons: %+v", a)
		}
		return ""
	})
	left := versions(t, inside, []client.ObjectList{&appsv1.DaemonSetList{}, &appsv1.DeploymentList{}}, client.InNamespace("kube-system"))
	for _, secret := range []string{"konnectivity-certificate", "konnectivity-kubeconfig"} {
		if _, ok := w.objects(t, name)["*v1.Secret/"+system+"/"+name+"-"+secret]; ok {
			t.Errorf("Secret %s is left", secret)
		}
	}
	if len(left) != 0 {
		t.Errorf("left in the tenant: %v", left)
	}
}

func (w *world) taken(t *testing.T) {
	victim, thief := manifest(t, "customer1.yaml"), manifest(t, "customer1.yaml")
	victim.Name, victim.Spec.DataStoreSchema = "victim", "shared"
	w.create(t, victim)
	w.tenant(t, victim.Name, kamajiv1alpha1.StorageReadyCondition, metav1.ConditionTrue, phase.ReasonDone)
	thief.Name, thief.Spec.DataStoreSchema = "thief", "shared"
	w.create(t, thief)
	w.tenant(t, thief.Name, kamajiv1alpha1.StorageReadyCondition, metav1.ConditionFalse, string(storage.ReasonTaken))
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: "thief"}, &appsv1.Deployment{}); !apierrors.IsNotFound(err) {
		t.Errorf("the thief runs: %v", err)
	}
}
