// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// patience is the longest that anything may take on a busy machine.
const patience = 2 * time.Minute

// world is a management cluster without nodes.
type world struct {
	*testing.T
	client.Client
}

// TestLife takes a Cluster's control plane from its creation to its deletion, with the rights of both ways to install the manager.
func TestLife(t *testing.T) {
	for name, c := range map[string]struct {
		folder string
		// everywhere tells whether the manager serves all namespaces.
		everywhere bool
	}{
		"all namespaces": {"config/controlplane/default", true},
		"one namespace":  {"config/controlplane/namespaced", false},
	} {
		t.Run(name, func(t *testing.T) { life(t, c.folder, c.everywhere) })
	}
}

func life(t *testing.T, folder string, everywhere bool) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), clusterv1.AddToScheme(scheme), kamajiv1alpha1.AddToScheme(scheme), controlplanev1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	config, c := testenv.Start(t, scheme, "config/controlplane/crd/bases", "controlplane/gateway/testdata/certificate-crd.yaml",
		"controlplane/hosted/tenant/testdata/podmonitor-crd.yaml",
		testenv.ClusterAPICRDs(t)+"/cluster.x-k8s.io_clusters.yaml", testenv.GatewayAPICRDs(t))
	w := &world{t, c}
	create(t, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenants}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team-b"}})
	args := install(t, c, folder)
	access := kubeconfig(t, config, c)
	m := start(t, access, args...)
	running := true
	t.Cleanup(func() {
		if running {
			m.stop(t)
		}
	})

	w.stores()
	create(t, c, &controlplanev1.KamajiGateway{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: controlplanev1.KamajiGatewaySpec{
		Domain: "k8s.example.com", PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.100",
	}})
	create(t, c, &kamajiv1alpha1.KubeconfigGenerator{ObjectMeta: metav1.ObjectMeta{Name: "robots"}, Spec: kamajiv1alpha1.KubeconfigGeneratorSpec{
		User: kamajiv1alpha1.CompoundValue{StringValue: "robot"},
	}})
	kcp := w.controlPlane(tenants)
	other := w.controlPlane("team-b")

	w.eventually("the workload", func(ctx context.Context) error { return w.serve(ctx, tenants) })
	w.eventually("the generated kubeconfig", func(ctx context.Context) error {
		return c.Get(ctx, client.ObjectKey{Namespace: tenants, Name: "demo-robots"}, &corev1.Secret{})
	})
	w.eventually("the published kubeconfig", func(ctx context.Context) error {
		return c.Get(ctx, client.ObjectKey{Namespace: tenants, Name: "demo-kubeconfig"}, &corev1.Secret{})
	})
	w.eventually("the tenant to be asked", func(ctx context.Context) error { return w.waits(ctx, kamajiv1alpha1.TenantConfiguredCondition) })
	w.present("the policy", &networkingv1.NetworkPolicy{}, true)
	w.present("the monitor", monitor(), true)
	w.eventually("the condition of the monitor", func(ctx context.Context) error {
		tenant := &kamajiv1alpha1.TenantControlPlane{}
		if err := c.Get(ctx, client.ObjectKeyFromObject(kcp), tenant); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(tenant.Status.Conditions, kamajiv1alpha1.MonitoredCondition) {
			return fmt.Errorf("conditions %+v", tenant.Status.Conditions)
		}
		return nil
	})
	if everywhere {
		w.eventually("the other namespace", func(ctx context.Context) error { return w.serve(ctx, "team-b") })
	} else if err := c.Get(t.Context(), client.ObjectKeyFromObject(other), other); err != nil || len(other.Finalizers)+len(other.Status.Conditions) > 0 {
		t.Errorf("the control plane in another namespace: %v, %v, %v", other.Finalizers, other.Status.Conditions, err)
	}

	w.present("the budget", &policyv1.PodDisruptionBudget{}, false)
	before := kcp.DeepCopy()
	kcp.Spec.Replicas, kcp.Spec.Monitoring = ptr.To[int32](2), nil
	if err := c.Patch(t.Context(), kcp, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	w.present("the budget of two", &policyv1.PodDisruptionBudget{}, true)
	w.present("the monitor that nobody wants any more", monitor(), false)
	m.stop(t)
	m = start(t, access, append(args, "--network-policies=false")...)
	w.present("the policy that is off", &networkingv1.NetworkPolicy{}, false)

	for _, o := range []client.Object{kcp, other} {
		if everywhere || o.GetNamespace() == tenants {
			w.end(o)
		}
	}
	m.stop(t)
	running = false
}

// monitor is an empty object of a kind that has no types here.
func monitor() client.Object {
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(desired.PodMonitorKind)
	return out
}

// stores makes the DataStore default, an etcd.
func (w *world) stores() {
	w.Helper()
	config := storagetest.StartEtcd(w.T).Config
	ref := func(secret, key string) kamajiv1alpha1.ContentRef {
		return kamajiv1alpha1.ContentRef{SecretRef: &kamajiv1alpha1.SecretReference{Namespace: system, Name: secret, KeyPath: key}}
	}
	for name, data := range map[string]map[string][]byte{
		"etcd-ca": {"tls.crt": config.CA, "tls.key": config.CAKey}, "etcd-root": {"tls.crt": config.Certificate, "tls.key": config.Key},
	} {
		create(w.T, w.Client, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}, Type: corev1.SecretTypeTLS, Data: data})
	}
	create(w.T, w.Client, &kamajiv1alpha1.DataStore{
		ObjectMeta: metav1.ObjectMeta{Name: "default", Annotations: map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"}},
		Spec: kamajiv1alpha1.DataStoreSpec{
			Driver: kamajiv1alpha1.DriverEtcd, Endpoints: config.Endpoints,
			TLSConfig: &kamajiv1alpha1.TLSConfig{
				CertificateAuthority: kamajiv1alpha1.CertKeyPair{Certificate: ref("etcd-ca", "tls.crt"), PrivateKey: ptr.To(ref("etcd-ca", "tls.key"))},
				ClientCertificate:    &kamajiv1alpha1.ClientCertificate{Certificate: ref("etcd-root", "tls.crt"), PrivateKey: ref("etcd-root", "tls.key")},
			},
		},
	})
}

// controlPlane makes a Cluster with its KamajiControlPlane, demo.
func (w *world) controlPlane(namespace string) *controlplanev1.KamajiControlPlane {
	w.Helper()
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo"}}
	cluster.Spec.ControlPlaneRef = clusterv1.ContractVersionedObjectReference{APIGroup: controlplanev1.GroupVersion.Group, Kind: "KamajiControlPlane", Name: "demo"}
	create(w.T, w.Client, cluster)
	kcp := &controlplanev1.KamajiControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: "demo", UID: cluster.UID},
	}}}
	kcp.Spec.Version, kcp.Spec.Replicas = "v1.36.3", ptr.To[int32](1)
	kcp.Spec.Monitoring = &kamajiv1alpha1.MonitoringSpec{}
	kcp.Spec.Network.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default"}
	if namespace != tenants {
		kcp.Spec.Network.KamajiGateway.Hostname = namespace + ".k8s.example.com"
	}
	create(w.T, w.Client, kcp)
	return kcp
}

func (w *world) eventually(what string, check func(context.Context) error) {
	w.Helper()
	var last error
	err := wait.PollUntilContextTimeout(w.Context(), 200*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		if err := check(ctx); ctx.Err() == nil {
			last = err
		}
		return last == nil, nil
	})
	if err != nil {
		w.Fatalf("waiting for %s: %v", what, last)
	}
}

// serve does what the Deployment controller would report once pods run.
func (w *world) serve(ctx context.Context, namespace string) error {
	d := &appsv1.Deployment{}
	if err := w.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "demo"}, d); err != nil {
		tenant := &kamajiv1alpha1.TenantControlPlane{}
		return fmt.Errorf("%w, tenant: %v, %+v", err, w.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "demo"}, tenant), tenant.Status.Conditions)
	}
	n := *d.Spec.Replicas
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
	return w.Status().Update(ctx, d)
}

// waits is nil when the step before a condition was done: the tenant's API server, which nobody runs here, is waited for.
func (w *world) waits(ctx context.Context, condition string) error {
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	if err := w.Get(ctx, client.ObjectKey{Namespace: tenants, Name: "demo"}, tenant); err != nil {
		return err
	}
	c := meta.FindStatusCondition(tenant.Status.Conditions, condition)
	if c == nil || c.Reason != kamajiv1alpha1.TenantUnreachableReason {
		return fmt.Errorf("conditions %+v", tenant.Status.Conditions)
	}
	return nil
}

// present waits until an object of the tenant's name is there, or isn't.
func (w *world) present(what string, o client.Object, want bool) {
	w.Helper()
	w.eventually(what, func(ctx context.Context) error {
		err := w.Get(ctx, client.ObjectKey{Namespace: tenants, Name: "demo"}, o)
		if apierrors.IsNotFound(err) && !want {
			return nil
		}
		if err == nil && !want {
			return fmt.Errorf("it is there: %v", o.GetOwnerReferences())
		}
		return err
	})
}

// end deletes a control plane, and lets go of its Deployment as the garbage collector does when the pods are gone.
func (w *world) end(kcp client.Object) {
	w.Helper()
	if err := w.Delete(w.Context(), kcp); err != nil {
		w.Fatal(err)
	}
	w.eventually("the Deployment to go", func(ctx context.Context) error {
		d := &appsv1.Deployment{}
		if err := w.Get(ctx, client.ObjectKeyFromObject(kcp), d); err != nil {
			return client.IgnoreNotFound(err)
		}
		if d.DeletionTimestamp.IsZero() {
			return errors.New("it is not being deleted")
		}
		d.Finalizers = slices.DeleteFunc(d.Finalizers, func(f string) bool { return f == metav1.FinalizerDeleteDependents })
		return w.Update(ctx, d)
	})
	w.eventually("the control plane to go", func(ctx context.Context) error {
		if err := w.Get(ctx, client.ObjectKeyFromObject(kcp), kcp); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there, %v", err)
		}
		return nil
	})
}
