// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// TestWriteLimited has a real API server refuse writes to the tenant's administrator.
func TestWriteLimited(t *testing.T) {
	w, life := start(t), t
	w.dataStore(t, "default", w.etcd.Config, map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"})
	w.store(t, "default", true, phase.ReasonDone)
	tn := manifest(t, "customer1.yaml")
	tn.Spec.Kubernetes.Version = "1.36.0"
	w.create(t, tn)
	w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	w.kubelet.run(life, w.client, w.deployment(t, name), w.address(t, name))
	w.pods(t, name, 2)
	w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	admin := kubernetes.NewForConfigOrDie(w.config(t, "admin.svc"))
	for _, object := range []string{"one", "two", "three"} {
		if err := create(t.Context(), admin, object); err != nil {
			t.Fatal(err)
		}
	}

	for _, c := range []struct {
		name    string
		limit   kamajiv1alpha1.WritePermissions
		refused []string
	}{
		{"creation", kamajiv1alpha1.WritePermissions{BlockCreation: true}, []string{"apply", "create"}},
		{"update and deletion", kamajiv1alpha1.WritePermissions{BlockUpdate: true, BlockDeletion: true}, []string{"apply", "delete", "update"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.limit(t, life, c.limit)
			got := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
			if *got.Status.Kubernetes.Version.Status != kamajiv1alpha1.PhaseWriteLimited {
				t.Errorf("phase %s", *got.Status.Kubernetes.Version.Status)
			}
			if refused := attempts(t, w.config(t, "admin.svc")); !slices.Equal(refused, c.refused) {
				t.Errorf("refused %v, want %v", refused, c.refused)
			}
			w.cannotLift(t)
			w.goesOn(t)
		})
	}
	t.Run("a second pass writes nothing", func(t *testing.T) { w.settled(t, name) })
	t.Run("lifted", func(t *testing.T) {
		w.limit(t, life, kamajiv1alpha1.WritePermissions{})
		if refused := attempts(t, w.config(t, "admin.svc")); len(refused) > 0 {
			t.Errorf("still refused: %v", refused)
		}
		if got := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone); *got.Status.Kubernetes.Version.Status != kamajiv1alpha1.PhaseReady {
			t.Errorf("phase %s", *got.Status.Kubernetes.Version.Status)
		}
	})
}

// limit changes spec.writePermissions and rolls the API server as the Deployment wants it.
func (w *world) limit(t, life *testing.T, limit kamajiv1alpha1.WritePermissions) {
	t.Helper()
	before := w.deployment(t, name)
	tn := &kamajiv1alpha1.TenantControlPlane{}
	if err := w.client.Get(t.Context(), key, tn); err != nil {
		t.Fatal(err)
	}
	after := tn.DeepCopy()
	after.Spec.WritePermissions = limit
	if err := w.client.Patch(t.Context(), after, client.MergeFrom(tn)); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, func(context.Context) string {
		if w.deployment(t, name).Generation == before.Generation {
			return "the pods are not replaced"
		}
		return ""
	})
	w.kubelet.roll(t, life, w.client, w.deployment(t, name), w.address(t, name))
	w.pods(t, name, 2)
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, key, tn); err != nil {
			return err.Error()
		}
		if tn.Status.ObservedGeneration != tn.Generation {
			return "the pass is not complete"
		}
		return ""
	})
}

func create(ctx context.Context, c kubernetes.Interface, name string) error {
	_, err := c.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

// attempts makes each kind of write as the administrator, and returns those that were refused. Nothing is left changed.
func attempts(t *testing.T, config *rest.Config) []string {
	t.Helper()
	c := kubernetes.NewForConfigOrDie(config).CoreV1().ConfigMaps("default")
	dry := []string{metav1.DryRunAll}
	writes := map[string]func(context.Context) error{
		"create": func(ctx context.Context) error {
			_, err := c.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "new"}}, metav1.CreateOptions{DryRun: dry})
			return err
		},
		// Applying what doesn't exist creates it.
		"apply": func(ctx context.Context) error {
			_, err := c.Apply(ctx, applycorev1.ConfigMap("newer", "default"), metav1.ApplyOptions{FieldManager: "test", DryRun: dry})
			return err
		},
		"update": func(ctx context.Context) error {
			_, err := c.Patch(ctx, "one", types.MergePatchType, []byte(`{"data":{"a":"b"}}`), metav1.PatchOptions{DryRun: dry})
			return err
		},
		"delete": func(ctx context.Context) error { return c.Delete(ctx, "two", metav1.DeleteOptions{DryRun: dry}) },
	}
	var refused []string
	for kind, write := range writes {
		if err := write(t.Context()); err != nil {
			refused = append(refused, kind)
			if !strings.Contains(err.Error(), "spec.writePermissions") {
				t.Errorf("%s: the error doesn't say why: %v", kind, err)
			}
		}
	}
	slices.Sort(refused)
	return refused
}

// cannotLift tries the ways around that an administrator has.
func (w *world) cannotLift(t *testing.T) {
	t.Helper()
	for who, as := range map[string]rest.ImpersonationConfig{
		"the superuser":          {UserName: "me", Groups: []string{"system:masters"}},
		"the controller manager": {UserName: "system:kube-controller-manager"},
		"a controller":           {UserName: "system:serviceaccount:kube-system:job-controller"},
	} {
		config := w.config(t, "admin.svc")
		config.Impersonate = as
		if err := create(t.Context(), kubernetes.NewForConfigOrDie(config), "by-"+strings.ReplaceAll(who, " ", "-")); err == nil {
			t.Errorf("as %s the administrator may write", who)
		}
	}
}

// goesOn is what has to work in any case: reading, heartbeats, and the engine.
func (w *world) goesOn(t *testing.T) {
	t.Helper()
	admin := kubernetes.NewForConfigOrDie(w.config(t, "admin.svc"))
	if _, err := admin.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("reading: %v", err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{GenerateName: "node-"}}
	if _, err := admin.CoordinationV1().Leases("kube-node-lease").Create(t.Context(), lease, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("a Lease: %v", err)
	}
	if refused := attempts(t, w.config(t, "super-admin.svc")); len(refused) > 0 {
		t.Errorf("the engine is refused %v", refused)
	}
}
