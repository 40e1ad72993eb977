// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// world is a management cluster with one Cluster and its KamajiControlPlane; the test plays the engine.
type world struct {
	*testing.T
	client.Client
	reconciler *Reconciler
	key        client.ObjectKey
	probe      error
}

// TestReconciler runs every scenario against one API server, each in a namespace of its own.
func TestReconciler(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, clusterv1.AddToScheme, kamajiv1alpha1.AddToScheme, controlplanev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	crds := filepath.Join("config", "controlplane", "crd", "bases")
	config, c := testenv.Start(t, scheme,
		filepath.Join(crds, "controlplane.cluster.x-k8s.io_kamajicontrolplanes.yaml"),
		filepath.Join(crds, "kamaji.clastix.io_tenantcontrolplanes.yaml"),
		filepath.Join(testenv.ClusterAPICRDs(t), "cluster.x-k8s.io_clusters.yaml"))
	manager := testenv.AsManager(t, config, c, filepath.Join("config", "controlplane", "rbac", "role.yaml"))
	for name, scenario := range map[string]func(*world){
		"life":     lifeOfAControlPlane,
		"pause":    pauseAndMoveTouchNothing,
		"deletion": deletionWaitsForTheTenant,
		"foreign":  foreignTenantIsNotTaken,
		"early":    startsBeforeItIsOwned,
		"rejected": rejectedChangeKeepsWhatRuns,
		"lagging":  deletionDoubtsTheCache,
	} {
		t.Run(name, func(t *testing.T) { scenario(newWorld(t, c, manager, name)) })
	}
}

// newWorld makes a namespace with a Cluster and its control plane. The reconciler has the rights of an installed manager.
func newWorld(t *testing.T, c, manager client.Client, namespace string) *world {
	t.Helper()
	w := &world{T: t, Client: c, key: client.ObjectKey{Namespace: namespace, Name: "demo"}, probe: errors.New("connection refused")}
	w.must(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	w.reconciler = &Reconciler{
		Client: manager, Live: manager, Recorder: events.NewFakeRecorder(100),
		Probe: func(context.Context, []byte) error { return w.probe },
	}
	owner := cluster()
	owner.Namespace = namespace
	owner.Spec.ControlPlaneRef = clusterv1.ContractVersionedObjectReference{APIGroup: controlplanev1.GroupVersion.Group, Kind: "KamajiControlPlane", Name: "demo"}
	w.must(c.Create(t.Context(), owner))
	kcp := controlPlane()
	kcp.UID, kcp.Namespace = "", namespace
	kcp.OwnerReferences = []metav1.OwnerReference{
		{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "x"},
		{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: "demo", UID: owner.UID},
	}
	w.must(c.Create(t.Context(), kcp))
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) reconcile() ctrl.Result {
	w.Helper()
	result, err := w.reconciler.Reconcile(w.Context(), ctrl.Request{NamespacedName: w.key})
	w.must(err)
	return result
}

func (w *world) kcp() *controlplanev1.KamajiControlPlane {
	w.Helper()
	kcp := &controlplanev1.KamajiControlPlane{}
	w.must(w.Get(w.Context(), w.key, kcp))
	return kcp
}

func (w *world) wantCondition(kind, status, reason string) {
	w.Helper()
	c := meta.FindStatusCondition(w.kcp().Status.Conditions, kind)
	if c == nil || string(c.Status) != status || c.Reason != reason {
		w.Errorf("condition %s is %+v, want %s/%s", kind, c, status, reason)
	}
}

// engine plays the engine: address, Secrets and pods of the tenant.
func (w *world) engine(endpoint string) {
	w.Helper()
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	w.must(w.Get(w.Context(), w.key, tenant))
	tenant.Status.ControlPlaneEndpoint = endpoint
	tenant.Status.Kubernetes.Version = kamajiv1alpha1.KubernetesVersionStatus{Version: "v1.36.3", Status: ptr.To(kamajiv1alpha1.PhaseReady)}
	tenant.Status.Kubernetes.Deployment.Replicas, tenant.Status.Kubernetes.Deployment.ReadyReplicas = 1, 1
	tenant.Status.Kubernetes.Deployment.UpdatedReplicas, tenant.Status.Kubernetes.Deployment.AvailableReplicas = 1, 1
	w.must(w.Status().Update(w.Context(), tenant))
	owner := *metav1.NewControllerRef(tenant, kamajiv1alpha1.GroupVersion.WithKind("TenantControlPlane"))
	for name, data := range map[string]map[string][]byte{
		"demo-ca":               {"tls.crt": []byte("certificate"), "tls.key": []byte("key")},
		"demo-admin-kubeconfig": {"admin.conf": []byte("kubeconfig")},
	} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.key.Namespace, OwnerReferences: []metav1.OwnerReference{owner}}, Data: data}
		if err := w.Create(w.Context(), secret); !apierrors.IsAlreadyExists(err) {
			w.must(err)
		}
	}
}

func lifeOfAControlPlane(w *world) {

	w.reconcile()
	kcp := w.kcp()
	if !slices.Contains(kcp.Finalizers, controlplanev1.KamajiControlPlaneFinalizer) {
		w.Errorf("no finalizer before the first side effect: %v", kcp.Finalizers)
	}
	if !ptr.Deref(kcp.Status.ExternalManagedControlPlane, false) {
		w.Error("externalManagedControlPlane is not set by the first patch")
	}

	w.reconcile()
	w.wantCondition(controlplanev1.EndpointReadyCondition, "False", "AddressPending")
	w.engine("demo.k8s.example.com:40443")
	if result := w.reconcile(); result.RequeueAfter == 0 {
		w.Error("an unanswering API server is not tried again")
	}
	w.wantCondition(controlplanev1.InitializedCondition, "False", "NotAnswering")
	kcp = w.kcp()
	if got := kcp.Spec.ControlPlaneEndpoint; got.Host != "demo.k8s.example.com" || got.Port != 40443 {
		w.Errorf("endpoint = %v", got)
	}
	if ptr.Deref(kcp.Status.Initialization.ControlPlaneInitialized, false) {
		w.Error("initialized without an answer of the API server")
	}

	w.probe = nil
	w.reconcile()
	w.wantCondition(clusterv1.AvailableCondition, "True", clusterv1.AvailableReason)
	published := &corev1.Secret{}
	w.must(w.Get(w.Context(), client.ObjectKey{Namespace: w.key.Namespace, Name: "demo-kubeconfig"}, published))
	if published.Type != clusterv1.ClusterSecretType || published.Labels[clusterv1.ClusterNameLabel] != "demo" || string(published.Data["value"]) != "kubeconfig" {
		w.Errorf("published kubeconfig is %+v", published)
	}
	authority := &corev1.Secret{}
	w.must(w.Get(w.Context(), client.ObjectKey{Namespace: w.key.Namespace, Name: "demo-ca"}, authority))
	if authority.Labels[clusterv1.ClusterNameLabel] != "demo" || string(authority.Data["tls.key"]) != "key" {
		w.Errorf("shared CA is %+v", authority)
	}

	steady := w.kcp().ResourceVersion
	w.reconcile()
	if got := w.kcp().ResourceVersion; got != steady {
		w.Errorf("an idle pass wrote: resourceVersion %s, was %s", got, steady)
	}

	w.probe = errors.New("gone again")
	kcp = w.kcp()
	kcp.Status = controlplanev1.KamajiControlPlaneStatus{Initialization: kcp.Status.Initialization}
	w.must(w.Status().Update(w.Context(), kcp))
	w.reconcile()
	w.wantCondition(controlplanev1.InitializedCondition, "True", "Done")

	w.engine("moved.example.com:6443")
	w.reconcile()
	w.wantCondition(controlplanev1.EndpointReadyCondition, "False", "EndpointChanged")
}

func pauseAndMoveTouchNothing(w *world) {
	kcp := w.kcp()
	kcp.Annotations = map[string]string{clusterv1.PausedAnnotation: "true"}
	w.must(w.Update(w.Context(), kcp))
	w.reconcile()
	w.wantCondition(clusterv1.PausedCondition, "True", clusterv1.PausedReason)
	if kcp = w.kcp(); len(kcp.Finalizers) != 0 {
		w.Errorf("a paused control plane got finalizers %v", kcp.Finalizers)
	}

	kcp.Annotations = nil
	w.must(w.Update(w.Context(), kcp))
	w.reconcile()
	w.reconcile()
	w.wantCondition(clusterv1.PausedCondition, "False", clusterv1.NotPausedReason)

	kcp = w.kcp()
	kcp.Annotations = map[string]string{clusterctlv1.DeleteForMoveAnnotation: ""}
	w.must(w.Update(w.Context(), kcp))
	w.must(w.Delete(w.Context(), kcp))
	w.reconcile()
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	w.must(w.Get(w.Context(), w.key, tenant))
	if !tenant.DeletionTimestamp.IsZero() {
		w.Error("a move deleted the TenantControlPlane")
	}
}

func deletionWaitsForTheTenant(w *world) {
	w.reconcile()
	w.reconcile()
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	w.must(w.Get(w.Context(), w.key, tenant))
	tenant.Finalizers = []string{kamajiv1alpha1.DataStoreCleanupFinalizer}
	w.must(w.Update(w.Context(), tenant))

	w.must(w.Delete(w.Context(), w.kcp()))
	w.reconcile()
	w.wantCondition(clusterv1.DeletingCondition, "True", clusterv1.DeletingReason)
	w.must(w.Get(w.Context(), w.key, tenant))
	if tenant.DeletionTimestamp.IsZero() {
		w.Error("the TenantControlPlane is not being deleted")
	}

	tenant.Finalizers = nil
	w.must(w.Update(w.Context(), tenant))
	w.reconcile()
	if err := w.Get(w.Context(), w.key, &controlplanev1.KamajiControlPlane{}); !apierrors.IsNotFound(err) {
		w.Errorf("the control plane is not gone: %v", err)
	}
}

func foreignTenantIsNotTaken(w *world) {
	foreign := tenantFor(cluster(), controlPlane(), nil)
	foreign.Namespace, foreign.OwnerReferences, foreign.Labels = w.key.Namespace, nil, nil
	w.must(w.Create(w.Context(), foreign))
	w.reconcile()
	w.reconcile()
	w.wantCondition(controlplanev1.TenantControlPlaneAppliedCondition, "False", "ForeignObject")
	c := meta.FindStatusCondition(w.kcp().Status.Conditions, "Ready")
	if c == nil || !strings.Contains(c.Message, "TenantControlPlane foreign/demo exists") {
		w.Errorf("Ready is %+v, want it to name the foreign object", c)
	}
	w.must(w.Delete(w.Context(), w.kcp()))
	w.reconcile()
	w.must(w.Get(w.Context(), w.key, foreign))
	if !foreign.DeletionTimestamp.IsZero() {
		w.Error("a foreign TenantControlPlane was deleted")
	}
}

func startsBeforeItIsOwned(w *world) {
	kcp := w.kcp()
	kcp.OwnerReferences = nil
	w.must(w.Update(w.Context(), kcp))
	w.reconcile()
	if kcp = w.kcp(); len(kcp.Finalizers) != 0 {
		w.Error("a control plane that names no Cluster was taken up")
	}
	kcp.Labels = map[string]string{clusterv1.ClusterNameLabel: "demo"}
	w.must(w.Update(w.Context(), kcp))
	w.reconcile()
	w.reconcile()
	w.must(w.Get(w.Context(), w.key, &kamajiv1alpha1.TenantControlPlane{}))
}
