// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
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
		if n := len(w.objects(t, name)); n != 0 {
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
		w.kubelet.run(life, w.client, w.deployment(t, name), w.address(t, name))
		w.pods(t, name, 1)
		tn := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
		w.checkReady(t, tn)
		w.checkInside(t)
	})
	t.Run("what others read has its name", w.kept)
	t.Run("a second pass writes nothing", func(t *testing.T) { w.settled(t, name) })
	t.Run("a steady pass asks nobody", w.steady)
	t.Run("a wiped status comes back", w.wiped)
	t.Run("what was removed comes back", w.drift)
	t.Run("a CA without labels stays", w.unlabelled)
	t.Run("damaged Secrets", w.damaged)
	t.Run("rotation", w.rotation)
	t.Run("rotation of authorities", func(t *testing.T) { w.authorities(t, life) })
	t.Run("an authority put in the place of another", func(t *testing.T) { w.replaced(t, life) })
	t.Run("the user's own authority", w.ownAuthority)
	t.Run("nodes come and go", w.nodes)
	t.Run("paused", w.paused)
	t.Run("a leader that has gone", w.leaders)
	t.Run("scaling", w.scaling)
	t.Run("changes in quick succession", w.pending)
	t.Run("konnectivity on and off", w.tunnel)
	t.Run("upgrades", w.upgrades)
	t.Run("starts are paced", w.paced)
	t.Run("deletion", w.deletion)
	t.Run("deletion with its namespace", w.namespace)
	t.Run("in NATS", w.inNATS)
	t.Run("through a gateway", w.gateway)
	t.Run("objects of somebody else", w.foreign)
	t.Run("another's schema", w.taken)
	t.Run("deletion without the store", w.orphan)
}

func (w *world) checkObjects(t *testing.T, tn *kamajiv1alpha1.TenantControlPlane) {
	t.Helper()
	want := []string{"*v1.ConfigMap/kamaji-system/customer1-kubeadmconfig", "*v1.Deployment/kamaji-system/customer1", "*v1.NetworkPolicy/kamaji-system/customer1", "*v1.PodDisruptionBudget/kamaji-system/customer1", "*v1.Service/kamaji-system/customer1"}
	for _, suffix := range []string{
		"admin-kubeconfig", "api-server-certificate", "api-server-kubelet-client-certificate", "ca", "controller-manager-kubeconfig",
		"datastore-certificate", "datastore-config", "front-proxy-ca-certificate", "front-proxy-client-certificate", "sa-certificate", "scheduler-kubeconfig",
	} {
		want = append(want, "*v1.Secret/kamaji-system/customer1-"+suffix)
	}
	slices.Sort(want)
	var have []string
	for o := range w.objects(t, name) {
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
func (w *world) checkInside(t *testing.T) {
	t.Helper()
	customer := w.access(t, name, "admin.svc")
	for _, o := range []client.Object{
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubeadm-config"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubelet-config"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "cluster-info"}},
		&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}}, //nolint:staticcheck // what old clients read
	} {
		if err := customer.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Errorf("as the customer: %v", err)
		}
	}
	ip, _, _ := net.SplitHostPort(w.address(t, name))
	slice := &discoveryv1.EndpointSlice{}
	err := customer.Get(t.Context(), types.NamespacedName{Namespace: "default", Name: "kubernetes"}, slice)
	if err != nil || len(slice.Endpoints) != 1 || slice.Endpoints[0].Addresses[0] != ip {
		t.Errorf("default/kubernetes leads to %v (%v)", slice.Endpoints, err)
	}
}

func (w *world) wiped(t *testing.T) {
	tn := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	before := w.objects(t, name)
	w.wipe(t)
	again := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	if diff := cmp.Diff(before, w.objects(t, name)); diff != "" {
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
	w.serve(t, name, 2)
}

// unlabelled takes the labels off the authority, so that the cache loses it.
func (w *world) unlabelled(t *testing.T) {
	secret := &corev1.Secret{}
	ca := types.NamespacedName{Namespace: system, Name: name + "-ca"}
	if err := w.client.Get(t.Context(), ca, secret); err != nil {
		t.Fatal(err)
	}
	bare := secret.DeepCopy()
	bare.Labels = nil
	if err := w.client.Patch(t.Context(), bare, client.MergeFrom(secret)); err != nil {
		t.Fatal(err)
	}
	after := &corev1.Secret{}
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, ca, after); err != nil {
			return err.Error()
		}
		if len(after.Labels) == 0 {
			return "the labels are not restored"
		}
		return ""
	})
	if diff := cmp.Diff(secret.Data, after.Data); diff != "" {
		t.Errorf("the authority was replaced: %s", diff)
	}
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
	w.serve(t, name, 2)
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
	pod := w.pod(t, system, name)
	if err := w.client.Delete(t.Context(), tn); err != nil {
		t.Fatal(err)
	}
	w.tenant(t, name, kamajiv1alpha1.DeletingCondition, metav1.ConditionTrue, "StoppingPods")
	w.hurried(t, pod)
	w.ended(t, pod)
	w.collect(t, name)
	left := func(want ...string) {
		t.Helper()
		w.eventually(t, func(context.Context) string {
			return cmp.Diff(want, slices.Sorted(maps.Keys(w.objects(t, name))))
		})
	}
	// A pod that stops is held as before.
	left("*v1.NetworkPolicy/kamaji-system/customer1")
	if w.etcd.Keys("/"+tn.Status.Storage.Setup.Schema+"/") == 0 {
		t.Error("the data is gone before the pods")
	}
	w.stopped(t, pod)
	w.gone(t, tn)
	left()
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
