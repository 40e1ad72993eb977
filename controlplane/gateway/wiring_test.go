// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

const namespace = "kamaji-system"

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, kamajiv1alpha1.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// world is an API server on which the reconcilers of this package can be run.
type world struct {
	*testing.T
	config *rest.Config
	client client.Client
	// manager has the rights of an installed manager.
	manager client.Client
	ctx     context.Context
}

// TestWiring runs everything that needs an API server on one, each test in an empty world.
func TestWiring(t *testing.T) {
	cfg, c := testenv.Start(t, newScheme(t), "config/controlplane/crd/bases", "controlplane/gateway/testdata/certificate-crd.yaml")
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	// The reconcilers have the rights of an installed manager.
	manager := testenv.AsManager(t, cfg, c, "config/controlplane/rbac/role.yaml")
	managerConfig := rest.CopyConfig(cfg)
	managerConfig.Impersonate.UserName = testenv.ManagerUser
	for name, test := range map[string]func(*world){
		"tenants on a gateway":                tenantsOnAGateway,
		"ports run out":                       portsRunOut,
		"private tenants":                     privateTenants,
		"a lease is freed after a quarantine": leaseIsFreedAfterQuarantine,
		"status of gateways":                  gatewayStatus,
		"the data plane is applied once":      dataPlaneIsAppliedOnce,
		"pods being replaced keep their file": podsBeingReplacedKeepTheirFile,
		"a gateway is held by its tenants":    gatewayIsHeldByItsTenants,
		"validation":                          validation,
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, config: managerConfig, client: c, manager: manager, ctx: t.Context()}
			// Runs after the manager of the test has ended.
			t.Cleanup(func() { empty(t, c) })
			test(w)
		})
	}
}

// change patches an object, whose status a controller may write at the same moment.
func (w *world) change(o client.Object, f func()) {
	w.Helper()
	before, ok := o.DeepCopyObject().(client.Object)
	if !ok {
		w.Fatalf("%T is no object", o)
	}
	f()
	if err := w.client.Patch(w.ctx, o, client.MergeFrom(before)); err != nil {
		w.Fatal(err)
	}
}

// empty removes what tests make; no garbage collector runs here.
func empty(t *testing.T, c client.Client) {
	gateways := &v1alpha2.KamajiGatewayList{}
	if err := c.List(context.Background(), gateways); err != nil {
		t.Errorf("listing gateways: %v", err)
	}
	for i := range gateways.Items {
		g := &gateways.Items[i]
		before := g.DeepCopy()
		g.Finalizers = nil
		if err := c.Patch(context.Background(), g, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			t.Errorf("releasing gateway %s: %v", g.Name, err)
		}
	}
	certificate := &unstructured.Unstructured{}
	certificate.SetGroupVersionKind(certificateKind)
	for _, o := range []client.Object{
		&kamajiv1alpha1.TenantControlPlane{}, &v1alpha2.KamajiGateway{}, &v1alpha2.GatewayPortLease{},
		&appsv1.DaemonSet{}, &corev1.ConfigMap{}, &policyv1.PodDisruptionBudget{}, certificate,
	} {
		options := []client.DeleteAllOfOption{client.InNamespace(namespace)}
		switch o.(type) {
		case *kamajiv1alpha1.TenantControlPlane:
			options = []client.DeleteAllOfOption{client.InNamespace("default")}
		case *v1alpha2.KamajiGateway, *v1alpha2.GatewayPortLease:
			options = nil
		}
		if err := c.DeleteAllOf(context.Background(), o, options...); err != nil {
			t.Errorf("removing every %T: %v", o, err)
		}
	}
}

// run starts a manager, and stops it when the test or the returned function ends it.
func (w *world) run() (stop func()) {
	w.Helper()
	mgr, err := ctrl.NewManager(w.config, ctrl.Options{
		Scheme: newScheme(w.T), Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache: cache.Options{ByObject: CacheByObject(namespace)},
	})
	if err != nil {
		w.Fatal(err)
	}
	options := Options{Namespace: namespace, Image: "example.com/kamaji-gateway:v1", XDSAddress: "kamaji-xds.kamaji-system.svc:18000"}
	if err := SetupWithManager(w.ctx, mgr, options); err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.Errorf("manager: %v", err)
		}
	}
	w.Cleanup(stop)
	return stop
}

func (w *world) create(o client.Object) {
	w.Helper()
	if err := w.client.Create(w.ctx, o); err != nil {
		w.Fatalf("creating %T %s: %v", o, o.GetName(), err)
	}
}

// eventually waits until ok returns "", what is missing otherwise.
func (w *world) eventually(ok func() string) {
	w.Helper()
	missing := ""
	err := wait.PollUntilContextTimeout(w.ctx, 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		missing = ok()
		return missing == "", nil
	})
	if err != nil {
		w.Fatalf("never came true: %s", missing)
	}
}

func (w *world) gateway(name, public, private string, change ...func(*v1alpha2.KamajiGateway)) *v1alpha2.KamajiGateway {
	g := &v1alpha2.KamajiGateway{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha2.KamajiGatewaySpec{Domain: "k8s.example.com", PublicAddress: public, PrivateAddress: private},
	}
	for _, f := range change {
		f(g)
	}
	return g
}

func newTenant(name string, spec *kamajiv1alpha1.KamajiGatewaySpec) *kamajiv1alpha1.TenantControlPlane {
	t := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	t.Spec.Kubernetes.Version = "v1.36.3"
	t.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
	t.Spec.ControlPlane.KamajiGateway = spec
	return t
}

func onGateway(name string) *kamajiv1alpha1.KamajiGatewaySpec {
	return &kamajiv1alpha1.KamajiGatewaySpec{Name: name}
}

func (w *world) tenant(name string) *kamajiv1alpha1.TenantControlPlane {
	w.Helper()
	t := &kamajiv1alpha1.TenantControlPlane{}
	if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: "default", Name: name}, t); err != nil {
		w.Fatal(err)
	}
	return t
}

// address waits for the tenant's address.
func (w *world) address(name string) kamajiv1alpha1.KamajiGatewayStatus {
	w.Helper()
	var status kamajiv1alpha1.KamajiGatewayStatus
	w.eventually(func() string {
		t := w.tenant(name)
		if t.Status.KamajiGateway == nil || !meta.IsStatusConditionTrue(t.Status.Conditions, v1alpha2.GatewayAddressReadyCondition) {
			return fmt.Sprintf("%s has an address: %+v", name, t.Status.Conditions)
		}
		status = *t.Status.KamajiGateway
		return ""
	})
	return status
}

// refused waits until the tenant's condition is false with reason.
func (w *world) refused(name, reason string) {
	w.Helper()
	w.eventually(func() string {
		c := meta.FindStatusCondition(w.tenant(name).Status.Conditions, v1alpha2.GatewayAddressReadyCondition)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason {
			return fmt.Sprintf("%s is refused with %s: %+v", name, reason, c)
		}
		return ""
	})
}

// event waits for an event of a tenant.
func (w *world) event(name, reason string) {
	w.Helper()
	w.eventually(func() string {
		list := &eventsv1.EventList{}
		if err := w.client.List(w.ctx, list, client.InNamespace("default")); err != nil {
			return err.Error()
		}
		for _, e := range list.Items {
			if e.Regarding.Name == name && e.Reason == reason {
				return ""
			}
		}
		return fmt.Sprintf("%s has an event %s", name, reason)
	})
}

func (w *world) lease(port int32) *v1alpha2.GatewayPortLease {
	w.Helper()
	l := &v1alpha2.GatewayPortLease{}
	if err := w.client.Get(w.ctx, client.ObjectKey{Name: leaseName("default", port)}, l); err != nil {
		w.Fatal(err)
	}
	return l
}
