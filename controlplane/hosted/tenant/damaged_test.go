// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// damaged spoils Secrets, and expects them to be as before, or, where nothing is left to make them of, to be told of.
func (w *world) damaged(t *testing.T) {
	spoil := func(suffix string, keys ...string) *corev1.Secret {
		t.Helper()
		before := w.secret(t, name+"-"+suffix)
		spoilt := before.DeepCopy()
		for _, key := range keys {
			spoilt.Data[key] = []byte("?")
		}
		if err := w.client.Update(t.Context(), spoilt); err != nil {
			t.Fatal(err)
		}
		return before
	}
	before := spoil("ca", "ca.crt", "ca.key")
	w.eventually(t, func(context.Context) string {
		return cmp.Diff(before.Data, w.secret(t, before.Name).Data)
	})
	before = spoil("admin-kubeconfig", "admin.conf", "super-admin.svc")
	w.eventually(t, func(context.Context) string {
		now := w.secret(t, before.Name).Data
		for _, key := range []string{"admin.conf", "super-admin.svc"} {
			if len(now[key]) < 100 {
				return fmt.Sprintf("%s is %q", key, now[key])
			}
		}
		return ""
	})
	w.happened(t, "SecretRepaired")

	before = spoil("ca", "ca.crt", "tls.crt", "signer.crt")
	w.eventually(t, func(ctx context.Context) string {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		if err := w.client.Get(ctx, key, tn); err != nil {
			return err.Error()
		}
		if meta.IsStatusConditionFalse(tn.Status.Conditions, kamajiv1alpha1.CertificatesReadyCondition) {
			return ""
		}
		// A pass that had read the Secret before may have written it after.
		if now := w.secret(t, before.Name); string(now.Data["ca.crt"]) != "?" {
			spoil("ca", "ca.crt", "tls.crt", "signer.crt")
		}
		return "the damage goes unnoticed"
	})
	w.says(t, name, kamajiv1alpha1.CertificatesReadyCondition, kamajiv1alpha1.CorruptSecretReason, "restore it from a backup")
	again := w.secret(t, before.Name)
	again.Data = before.Data
	if err := w.client.Update(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	w.tenant(t, name, kamajiv1alpha1.CertificatesReadyCondition, metav1.ConditionTrue, phase.ReasonDone)
	w.serve(t, name, 2)
	if diff := cmp.Diff(before.Data, w.secret(t, before.Name).Data); diff != "" {
		t.Errorf("the restored authority was changed:\n%s", diff)
	}
}

// foreign are objects that somebody else has made under names that are needed.
func (w *world) foreign(t *testing.T) {
	meta := func(tenant, suffix string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: system, Name: tenant + suffix, Labels: map[string]string{"precious": "x"}}
	}
	pods := map[string]string{"app": "theirs"}
	for tenant, c := range map[string]struct {
		object    client.Object
		condition string
	}{
		"secret":    {&corev1.Secret{ObjectMeta: meta("secret", "-ca"), Data: map[string][]byte{"precious": []byte("x")}}, kamajiv1alpha1.WorkloadReadyCondition},
		"configmap": {&corev1.ConfigMap{ObjectMeta: meta("configmap", "-kubeadmconfig"), Data: map[string]string{"precious": "x"}}, kamajiv1alpha1.WorkloadReadyCondition},
		"service":   {&corev1.Service{ObjectMeta: meta("service", ""), Spec: corev1.ServiceSpec{Selector: pods, Ports: []corev1.ServicePort{{Port: 80}}}}, kamajiv1alpha1.StorageReadyCondition},
		"deployment": {&appsv1.Deployment{ObjectMeta: meta("deployment", ""), Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: pods},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pods}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a"}}}},
		}}, kamajiv1alpha1.WorkloadReadyCondition},
	} {
		t.Run(tenant, func(t *testing.T) {
			tn := manifest(t, "customer1.yaml")
			tn.Name = tenant
			w.create(t, c.object, tn)
			before := c.object.DeepCopyObject().(client.Object)
			w.tenant(t, tenant, c.condition, metav1.ConditionFalse, kamajiv1alpha1.ForeignObjectReason)
			if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(c.object), c.object); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before.GetResourceVersion(), c.object.GetResourceVersion()); diff != "" {
				t.Errorf("it was touched:\n%s", cmp.Diff(before, c.object))
			}
			if err := w.client.Delete(t.Context(), tn); err != nil {
				t.Fatal(err)
			}
		})
	}
}
