// SPDX-License-Identifier: Apache-2.0

package generator_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/generator"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

const patience = time.Minute

type world struct{ client.Client }

func start(t *testing.T) world {
	t.Helper()
	ctrl.SetLogger(klog.Background())
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, kamajiv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	config, c := testenv.Start(t, scheme, "config/controlplane/crd/bases/kamaji.clastix.io_tenantcontrolplanes.yaml",
		"config/controlplane/crd/bases/kamaji.clastix.io_kubeconfiggenerators.yaml")
	config.QPS = -1
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue})}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: server.Options{BindAddress: "0"}, Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: ours}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &generator.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("test")}
	if err := r.SetupWithManager(ctx, mgr); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("the manager: %v", err)
		}
	})
	return world{c}
}

func (w world) make(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := w.Create(t.Context(), o); err != nil {
			t.Fatalf("creating %T %s: %v", o, o.GetName(), err)
		}
	}
}

// tenant makes a TenantControlPlane with the Secrets that the engine makes for it.
func (w world) tenant(t *testing.T, namespace, name string) {
	t.Helper()
	tn := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"tier": "gold"}}}
	tn.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
	tn.Spec.Kubernetes.Version = "v1.36.3"
	w.make(t, tn)
	certs, err := pki.Issue(pki.Input{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	in := kubeconfig.Input{Cluster: name, LocalPort: 6443, Now: time.Now(), Endpoint: endpoint.Endpoint{Service: endpoint.Server{Host: name + "." + namespace + ".svc", Port: 6443}}}
	in.CACert, in.CAKey = certs.Authority()
	configs, err := kubeconfig.Issue(in)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, data := range map[string]map[string][]byte{pki.CA: certs.Data[pki.CA], kubeconfig.Admin: configs.Data[kubeconfig.Admin]} {
		w.make(t, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: name + "-" + suffix, Labels: map[string]string{kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(tn, kamajiv1alpha1.GroupVersion.WithKind("TenantControlPlane"))},
			},
			Data: data,
		})
	}
}

func (w world) eventually(t *testing.T, check func(context.Context) string) {
	t.Helper()
	wrong := ""
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		wrong = check(ctx)
		return wrong == "", nil
	})
	if err != nil {
		t.Fatalf("after %s: %s", patience, wrong)
	}
}

// has waits until exactly these Secrets are generated, and the status of a generator says so.
func (w world) has(t *testing.T, g string, resources, available int32, want ...string) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		list := &corev1.SecretList{}
		if err := w.List(ctx, list, client.HasLabels{kamajiv1alpha1.ManagedByLabel}); err != nil {
			return err.Error()
		}
		var have []string
		for i := range list.Items {
			have = append(have, list.Items[i].Namespace+"/"+list.Items[i].Name)
		}
		if !slices.Equal(have, want) {
			return fmt.Sprintf("Secrets %v, want %v", have, want)
		}
		made := &kamajiv1alpha1.KubeconfigGenerator{}
		err := w.Get(ctx, client.ObjectKey{Name: g}, made)
		if apierrors.IsNotFound(err) && resources < 0 {
			return ""
		}
		s := made.Status
		if err != nil || s.Resources != resources || s.AvailableResources != available || s.ObservedGeneration != made.Generation {
			return fmt.Sprintf("status %+v, %v", s, err)
		}
		return ""
	})
}

func TestLife(t *testing.T) {
	w := start(t)
	w.make(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "prod", Labels: map[string]string{"env": "prod"}}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "test"}})
	w.tenant(t, "prod", "one")
	w.tenant(t, "test", "two")
	g := &kamajiv1alpha1.KubeconfigGenerator{ObjectMeta: metav1.ObjectMeta{Name: "viewers"}}
	g.Spec.User.StringValue = "jane"
	g.Spec.NamespaceSelector.MatchLabels = map[string]string{"env": "prod"}
	w.make(t, g)

	w.has(t, "viewers", 1, 1, "prod/one-viewers")
	t.Run("a namespace gets the label", func(t *testing.T) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "test"}}
		if err := w.Patch(t.Context(), namespace, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"env":"prod"}}}`))); err != nil {
			t.Fatal(err)
		}
		w.has(t, "viewers", 2, 2, "prod/one-viewers", "test/two-viewers")
	})
	t.Run("a lost Secret comes back", func(t *testing.T) {
		if err := w.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "one-viewers"}}); err != nil {
			t.Fatal(err)
		}
		w.has(t, "viewers", 2, 2, "prod/one-viewers", "test/two-viewers")
	})
	t.Run("a Secret of somebody else is left alone", func(t *testing.T) {
		foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "one-others"}, Data: map[string][]byte{"a": []byte("b")}}
		other := &kamajiv1alpha1.KubeconfigGenerator{ObjectMeta: metav1.ObjectMeta{Name: "others"}}
		other.Spec.User.StringValue = "joe"
		w.make(t, foreign, other)
		w.has(t, "others", 2, 1, "prod/one-viewers", "test/two-others", "test/two-viewers")
		if err := w.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign); err != nil || len(foreign.Data) != 1 || len(foreign.Labels) != 0 {
			t.Errorf("%v, %v", foreign, err)
		}
		if err := w.Delete(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		w.has(t, "viewers", 2, 2, "prod/one-viewers", "test/two-viewers")
	})
	t.Run("the selector narrows", func(t *testing.T) {
		if err := w.Patch(t.Context(), g, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"tenantControlPlaneSelector":{"matchLabels":{"tier":"tin"}}}}`))); err != nil {
			t.Fatal(err)
		}
		w.has(t, "viewers", 0, 0)
		if err := w.Patch(t.Context(), g, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"tenantControlPlaneSelector":{"matchLabels":{"tier":"gold"}}}}`))); err != nil {
			t.Fatal(err)
		}
		w.has(t, "viewers", 2, 2, "prod/one-viewers", "test/two-viewers")
	})
	t.Run("both kinds of a value", func(t *testing.T) {
		bad := &kamajiv1alpha1.KubeconfigGenerator{ObjectMeta: metav1.ObjectMeta{Name: "bad"}}
		bad.Spec.User = kamajiv1alpha1.CompoundValue{StringValue: "a", FromDefinition: "metadata.name"}
		if err := w.Create(t.Context(), bad); !apierrors.IsInvalid(err) {
			t.Errorf("accepted: %v", err)
		}
	})
	t.Run("the generator goes", func(t *testing.T) {
		if err := w.Delete(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		w.has(t, "viewers", -1, 0)
	})
}
