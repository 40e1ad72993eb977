// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/cert"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/tenant"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const name = "customer1"

var key = types.NamespacedName{Namespace: system, Name: name}

// TestLife follows one tenant, in one world, since starting one takes longer
// than everything that happens in it.
func TestLife(t *testing.T) {
	w, life := start(t), t
	w.create(t, manifest(t, "customer1.yaml"))

	t.Run("waits for its DataStore", func(t *testing.T) {
		w.tenant(t, name, kamajiv1alpha1.StorageReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.DataStoreMissingReason)
		if n := len(w.objects(t)); n != 0 {
			t.Errorf("%d objects exist already", n)
		}
	})
	t.Run("DataStore without authentication", func(t *testing.T) {
		w.dataStore(t, "default", w.etcd.Config, nil)
		w.store(t, "default", false, kamajiv1alpha1.DataStoreAuthDisabledReason)
		w.tenant(t, name, kamajiv1alpha1.StorageReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.DataStoreNotReadyReason)
	})
	t.Run("objects", func(t *testing.T) {
		w.annotate(t, &kamajiv1alpha1.DataStore{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, kamajiv1alpha1.EnableEtcdAuthAnnotation, "true")
		w.store(t, "default", true, phase.ReasonDone)
		tn := w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
		w.checkObjects(t, tn)
	})
	t.Run("becomes Ready", func(t *testing.T) {
		service := &corev1.Service{}
		if err := w.client.Get(t.Context(), key, service); err != nil {
			t.Fatal(err)
		}
		w.kubelet.run(life, w.client, w.deployment(t, name), net.JoinHostPort(service.Spec.ClusterIP, "6443"))
		w.pods(t, name, 1)
		tn := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
		w.checkReady(t, tn)
		w.checkInside(t, service.Spec.ClusterIP)
	})
	t.Run("a second pass writes nothing", w.settled)
	t.Run("a wiped status comes back", w.wiped)
	t.Run("what was removed comes back", w.drift)
	t.Run("paused", w.paused)
	t.Run("unsupported version", w.version)
	t.Run("deletion", w.deletion)
	t.Run("through a gateway", w.gateway)
	t.Run("an object of somebody else", w.foreign)
	t.Run("another's schema", w.taken)
	t.Run("deletion without the store", w.orphan)
}

// objects are all objects of the tenant in the management cluster, as kind/name
// to resourceVersion.
func (w *world) objects(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, list := range desired.Kinds() {
		if err := w.client.List(t.Context(), list, client.InNamespace(system), client.MatchingLabels{kamajiv1alpha1.NameLabel: name}); err != nil {
			t.Fatal(err)
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			o := item.(client.Object)
			out[fmt.Sprintf("%T/%s", o, o.GetName())] = o.GetResourceVersion()
		}
	}
	return out
}

func (w *world) checkObjects(t *testing.T, tn *kamajiv1alpha1.TenantControlPlane) {
	t.Helper()
	want := []string{"*v1.ConfigMap/customer1-kubeadmconfig", "*v1.Deployment/customer1", "*v1.Service/customer1"}
	for _, suffix := range []string{
		"admin-kubeconfig", "api-server-certificate", "api-server-kubelet-client-certificate", "ca", "controller-manager-kubeconfig",
		"datastore-certificate", "datastore-config", "front-proxy-ca-certificate", "front-proxy-client-certificate", "sa-certificate", "scheduler-kubeconfig",
	} {
		want = append(want, "*v1.Secret/customer1-"+suffix)
	}
	slices.Sort(want)
	var have []string
	for o := range w.objects(t) {
		have = append(have, o)
	}
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("objects (-want +have):\n%s", diff)
	}
	s := tn.Status
	if s.ControlPlaneEndpoint == "" || s.Storage.DataStoreName != "default" || s.Storage.Setup.Schema != string(tn.UID) ||
		s.Certificates.CA.SecretName != "customer1-ca" || s.Certificates.APIServer.Checksum == "" ||
		s.KubeConfig.Admin.SecretName != "customer1-admin-kubeconfig" || s.KubeadmConfig.ConfigmapName != "customer1-kubeadmconfig" ||
		s.Kubernetes.Deployment.Name != name || s.Kubernetes.Service.Port != 6443 || *s.Kubernetes.Version.Status != kamajiv1alpha1.PhaseProvisioning {
		text, _ := json.MarshalIndent(s, "", " ")
		t.Errorf("status: %s", text)
	}
	if !slices.Contains(tn.Finalizers, kamajiv1alpha1.DataStoreCleanupFinalizer) {
		t.Errorf("finalizers: %v", tn.Finalizers)
	}
	if w.deployment(t, name).Labels["customer"] != name {
		t.Error("additionalMetadata did not reach the Deployment")
	}
}

func (w *world) checkReady(t *testing.T, tn *kamajiv1alpha1.TenantControlPlane) {
	t.Helper()
	s := tn.Status
	if *s.Kubernetes.Version.Status != kamajiv1alpha1.PhaseReady || s.Kubernetes.Version.Version != "v1.31.0" || s.ObservedGeneration != tn.Generation {
		t.Errorf("version %v, observedGeneration %d", s.Kubernetes.Version, s.ObservedGeneration)
	}
	if w.etcd.Keys("/"+s.Storage.Setup.Schema+"/") < 50 {
		t.Error("the tenant keeps its state elsewhere")
	}
}

// checkInside acts as the customer, whose kubeconfig has no more rights than a
// ClusterRoleBinding gives it.
func (w *world) checkInside(t *testing.T, clusterIP string) {
	t.Helper()
	secret := &corev1.Secret{}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: name + "-admin-kubeconfig"}, secret); err != nil {
		t.Fatal(err)
	}
	pool := &remote.Pool{Dial: w.kubelet.dial}
	customer, err := pool.Tenant(key, secret.Data["admin.svc"], net.JoinHostPort(clusterIP, "6443"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []client.Object{
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubeadm-config"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubelet-config"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "cluster-info"}},
		&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}}, //nolint:staticcheck // what old clients read
		&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}},
	} {
		if err := customer.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Errorf("as the customer: %v", err)
		}
		if slice, ok := o.(*discoveryv1.EndpointSlice); ok && (len(slice.Endpoints) != 1 || slice.Endpoints[0].Addresses[0] != clusterIP) {
			t.Errorf("default/kubernetes leads to %v", slice.Endpoints)
		}
	}
}

// settled runs a pass of an engine that remembers nothing.
func (w *world) settled(t *testing.T) {
	before, tenantBefore := w.objects(t), w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	inside := w.inside(t)
	if _, err := w.engine().Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	after := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	if diff := cmp.Diff(before, w.objects(t)); diff != "" {
		t.Errorf("written in the management cluster:\n%s", diff)
	}
	if diff := cmp.Diff(inside, w.inside(t)); diff != "" {
		t.Errorf("written in the tenant:\n%s", diff)
	}
	if tenantBefore.ResourceVersion != after.ResourceVersion {
		t.Errorf("the status was patched:\n%s", cmp.Diff(tenantBefore, after))
	}
}

// inside are the objects in the tenant that the engine manages.
func (w *world) inside(t *testing.T) map[string]string {
	t.Helper()
	service, secret := &corev1.Service{}, &corev1.Secret{}
	if err := w.client.Get(t.Context(), key, service); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: name + "-admin-kubeconfig"}, secret); err != nil {
		t.Fatal(err)
	}
	pool := &remote.Pool{Dial: w.kubelet.dial}
	tn, err := pool.Tenant(key, secret.Data["super-admin.svc"], net.JoinHostPort(service.Spec.ClusterIP, "6443"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, list := range []client.ObjectList{&corev1.ConfigMapList{}, &discoveryv1.EndpointSliceList{}, &corev1.EndpointsList{}} { //nolint:staticcheck // as above
		if err := tn.Client.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			o := item.(client.Object)
			out[fmt.Sprintf("%T/%s/%s", o, o.GetNamespace(), o.GetName())] = o.GetResourceVersion()
		}
	}
	return out
}

func (w *world) wiped(t *testing.T) {
	tn := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	before := w.objects(t)
	wiped := tn.DeepCopy()
	wiped.Status = kamajiv1alpha1.TenantControlPlaneStatus{}
	if err := w.client.Status().Update(t.Context(), wiped); err != nil {
		t.Fatal(err)
	}
	again := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	if diff := cmp.Diff(before, w.objects(t)); diff != "" {
		t.Errorf("rebuilding the status has written:\n%s", diff)
	}
	if again.Status.Storage.Setup.Schema != tn.Status.Storage.Setup.Schema || again.Status.ControlPlaneEndpoint != tn.Status.ControlPlaneEndpoint {
		t.Error("the status differs from before")
	}
}

func (w *world) drift(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name + "-scheduler-kubeconfig"}}
	if err := w.client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(secret), secret); err != nil {
			return err.Error()
		}
		return ""
	})
	// The new kubeconfig rolls the pods.
	w.eventually(t, func(ctx context.Context) string {
		d := w.deployment(t, name)
		if d.Generation == d.Status.ObservedGeneration {
			return "the Deployment was not rolled"
		}
		return ""
	})
	w.pods(t, name, 2)
	w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
}

func (w *world) paused(t *testing.T) {
	tn := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}}
	w.annotate(t, tn, kamajiv1alpha1.PausedAnnotation, "")
	w.eventually(t, func(ctx context.Context) string {
		// The cache that the engine reads from must know of the pause.
		cached := &kamajiv1alpha1.TenantControlPlane{}
		if err := w.manager.GetClient().Get(ctx, key, cached); err != nil {
			return err.Error()
		}
		if _, ok := cached.Annotations[kamajiv1alpha1.PausedAnnotation]; !ok {
			return "not paused"
		}
		return ""
	})
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name + "-scheduler-kubeconfig"}}
	if err := w.client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if _, err := w.engine().Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); !apierrors.IsNotFound(err) {
		t.Errorf("a paused tenant was reconciled: %v", err)
	}
	base := &kamajiv1alpha1.TenantControlPlane{}
	if err := w.client.Get(t.Context(), key, base); err != nil {
		t.Fatal(err)
	}
	resumed := base.DeepCopy()
	delete(resumed.Annotations, kamajiv1alpha1.PausedAnnotation)
	if err := w.client.Patch(t.Context(), resumed, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(secret), secret); err != nil {
			return err.Error()
		}
		return ""
	})
	w.eventually(t, func(context.Context) string {
		if d := w.deployment(t, name); d.Generation == d.Status.ObservedGeneration {
			return "the Deployment was not rolled"
		}
		return ""
	})
	w.pods(t, name, 2)
	w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
}

func (w *world) version(t *testing.T) {
	set := func(version string) {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		if err := w.client.Get(t.Context(), key, tn); err != nil {
			t.Fatal(err)
		}
		after := tn.DeepCopy()
		after.Spec.Kubernetes.Version = version
		if err := w.client.Patch(t.Context(), after, client.MergeFrom(tn)); err != nil {
			t.Fatal(err)
		}
	}
	set("v1.34.0")
	tn := w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.InvalidVersionReason)
	if c := meta.FindStatusCondition(tn.Status.Conditions, phase.Ready); !strings.Contains(c.Message, "1.32") {
		t.Errorf("the message names no cure: %s", c.Message)
	}
	set("1.31.0")
	w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
}

func (w *world) deletion(t *testing.T) {
	tn := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	w.eventually(t, func(ctx context.Context) string {
		store := &kamajiv1alpha1.DataStore{}
		if err := w.client.Get(ctx, types.NamespacedName{Name: "default"}, store); err != nil {
			return err.Error()
		}
		if diff := cmp.Diff([]string{key.String()}, store.Status.UsedBy); diff != "" {
			return "usedBy: " + diff
		}
		return ""
	})
	if err := w.client.Delete(t.Context(), tn); err != nil {
		t.Fatal(err)
	}
	w.tenant(t, name, kamajiv1alpha1.DeletingCondition, metav1.ConditionTrue, "StoppingPods")
	if w.etcd.Keys("/"+tn.Status.Storage.Setup.Schema+"/") == 0 {
		t.Error("the data is gone before the pods")
	}
	w.collect(t, name)
	w.gone(t, tn)
	if n := w.etcd.Keys("/" + tn.Status.Storage.Setup.Schema + "/"); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	w.eventually(t, func(ctx context.Context) string {
		store := &kamajiv1alpha1.DataStore{}
		if err := w.client.Get(ctx, types.NamespacedName{Name: "default"}, store); err != nil {
			return err.Error()
		}
		if len(store.Status.UsedBy) != 0 {
			return fmt.Sprintf("usedBy: %v", store.Status.UsedBy)
		}
		return ""
	})
}

// gateway plays the gateway's part: it allocates, and the engine goes on.
func (w *world) gateway(t *testing.T) {
	tn := manifest(t, "customer1.yaml")
	tn.Name = "routed"
	tn.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", AdditionalHostnames: []string{"api.customer.example"}}
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
}

// foreign is a Secret that somebody else has made under a name that is needed.
func (w *world) foreign(t *testing.T) {
	other := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "late-ca"}, Data: map[string][]byte{"precious": []byte("x")}}
	tn := manifest(t, "customer1.yaml")
	tn.Name = "late"
	w.create(t, other, tn)
	w.tenant(t, tn.Name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.ForeignObjectReason)
	if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(other), other); err != nil || string(other.Data["precious"]) != "x" || len(other.Data) != 1 {
		t.Errorf("the Secret was touched: %v %v", other.Data, err)
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

func (w *world) orphan(t *testing.T) {
	second := manifest(t, "customer1.yaml")
	second.Name = "customer2"
	w.create(t, second)
	w.tenant(t, second.Name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	w.etcd.Stop()
	if err := w.client.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	w.collect(t, second.Name)
	stuck := w.tenant(t, second.Name, kamajiv1alpha1.DeletingCondition, metav1.ConditionTrue, kamajiv1alpha1.DataStoreUnreachableReason)
	if c := meta.FindStatusCondition(stuck.Status.Conditions, kamajiv1alpha1.DeletingCondition); !strings.Contains(c.Message, tenant.OrphanAnnotation) {
		t.Errorf("the message names no way out: %s", c.Message)
	}
	w.annotate(t, stuck, tenant.OrphanAnnotation, "true")
	w.gone(t, stuck)
}

func (w *world) gone(t *testing.T, tn *kamajiv1alpha1.TenantControlPlane) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		err := w.client.Get(ctx, client.ObjectKeyFromObject(tn), &kamajiv1alpha1.TenantControlPlane{})
		if !apierrors.IsNotFound(err) {
			return fmt.Sprintf("still there: %v", err)
		}
		return ""
	})
}

func (w *world) annotate(t *testing.T, o client.Object, annotation, value string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, annotation, value)
	if err := w.client.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

// store waits for a DataStore to be ready or not, for a reason.
func (w *world) store(t *testing.T, name string, ready bool, reason string) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		store := &kamajiv1alpha1.DataStore{}
		if err := w.client.Get(ctx, types.NamespacedName{Name: name}, store); err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(store.Status.Conditions, phase.Ready)
		if c == nil || c.Reason != reason || store.Status.Ready != ready {
			return fmt.Sprintf("want ready=%v %s, have %v %+v", ready, reason, store.Status.Ready, store.Status.Conditions)
		}
		return ""
	})
}
