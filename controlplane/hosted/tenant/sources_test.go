// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// says waits until a condition has a text.
func (w *world) says(t *testing.T, name, condition, reason, text string) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: system, Name: name}, tn); err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(tn.Status.Conditions, condition)
		if c == nil || c.Reason != reason || !strings.Contains(c.Message, text) {
			return "the condition " + condition + " is " + cmp.Diff(nil, c)
		}
		return ""
	})
}

// authorityData is a Secret with an authority, as somebody else makes it.
func authorityData(t *testing.T) map[string][]byte {
	t.Helper()
	made, err := pki.Issue(pki.Input{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"tls.crt": made.Data[pki.CA]["ca.crt"], "tls.key": made.Data[pki.CA]["ca.key"]}
}

// ownAuthority makes a tenant whose authority is the user's, then one of cert-manager.
func (w *world) ownAuthority(t *testing.T) {
	tn := manifest(t, "customer1.yaml")
	tn.Name = "own"
	tn.Spec.Certificates = &kamajiv1alpha1.CertificatesSpec{Authority: &kamajiv1alpha1.CertificateSource{SecretRef: &kamajiv1alpha1.LocalSecretReference{Name: "corporate"}}}
	w.create(t, tn)
	ready, unusable := kamajiv1alpha1.CertificatesReadyCondition, kamajiv1alpha1.AuthorityUnusableReason
	w.says(t, "own", ready, unusable, "Secret kamaji-system/corporate doesn't exist")

	good := authorityData(t)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "corporate", Labels: map[string]string{kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue}},
		Data:       map[string][]byte{"tls.crt": good["tls.crt"], "tls.key": authorityData(t)["tls.key"]},
	}
	w.create(t, secret)
	w.says(t, "own", ready, unusable, "the private key doesn't belong to the certificate")
	secret.Data = good
	if err := w.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	w.tenant(t, "own", ready, metav1.ConditionTrue, phase.ReasonDone)
	w.eventually(t, func(ctx context.Context) string {
		made := &corev1.Secret{}
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: system, Name: "own-ca"}, made); err != nil {
			return err.Error()
		}
		return cmp.Diff(string(good["tls.crt"]), string(made.Data[pki.SignerFile]))
	})

	t.Run("a damaged one is reported, and the copy used", func(t *testing.T) {
		secret.Data = map[string][]byte{"tls.crt": []byte("?"), "tls.key": []byte("?")}
		if err := w.client.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		w.says(t, "own", kamajiv1alpha1.AuthorityRotatingCondition, kamajiv1alpha1.RotationRefusedReason, "corporate can't be used")
		w.tenant(t, "own", ready, metav1.ConditionTrue, phase.ReasonDone)
	})
	t.Run("another one is a rotation", func(t *testing.T) {
		secret.Data = authorityData(t)
		if err := w.client.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		w.says(t, "own", kamajiv1alpha1.AuthorityRotatingCondition, kamajiv1alpha1.TrustingNextReason, "own-ca")
	})
	t.Run("cert-manager", w.issuer)
	if err := w.client.Delete(t.Context(), tn); err != nil {
		t.Fatal(err)
	}
}

// issuer goes over to an issuer of cert-manager: first without it, then with its kind, and a Secret as it makes them.
func (w *world) issuer(t *testing.T) {
	tn := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "own"}}
	patch := `{"spec":{"certificates":{"authority":{"secretRef":null,"issuerRef":{"name":"company","kind":"ClusterIssuer"}}}}}`
	if err := w.client.Patch(t.Context(), tn, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
	w.says(t, "own", kamajiv1alpha1.AuthorityRotatingCondition, kamajiv1alpha1.TrustingNextReason, "cert-manager, which isn't installed")
	crd := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "certificates.cert-manager.io", "annotations": map[string]any{"api-approved.kubernetes.io": "unapproved, for a test"}},
		"spec": map[string]any{
			"group": "cert-manager.io", "scope": "Namespaced", "names": map[string]any{"kind": "Certificate", "plural": "certificates"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{
				"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
			}}},
		},
	}}
	w.create(t, crd)
	certificate := &unstructured.Unstructured{}
	certificate.SetGroupVersionKind(schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"})
	turn := 0
	w.eventually(t, func(ctx context.Context) string {
		turn++
		w.annotate(t, tn, "example.com/nudge", strings.Repeat("x", turn))
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: system, Name: "own-authority"}, certificate); err != nil {
			return err.Error()
		}
		return ""
	})
	spec, _, _ := unstructured.NestedMap(certificate.Object, "spec")
	want := map[string]any{"name": "company", "kind": "ClusterIssuer", "group": "cert-manager.io"}
	if diff := cmp.Diff(want, spec["issuerRef"]); diff != "" || spec["isCA"] != true || spec["secretName"] != "own-authority" {
		t.Errorf("the Certificate asks for %v: %s", spec, diff)
	}
	w.create(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: system, Name: "own-authority", Labels: map[string]string{kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue},
			Annotations: map[string]string{"cert-manager.io/certificate-name": "own-authority"},
		},
		Data: authorityData(t),
	})
	w.eventually(t, func(context.Context) string {
		made := w.secret(t, "own-authority")
		return cmp.Diff(string(made.Data["tls.crt"]), string(w.secret(t, "own-ca").Data["next.crt"]))
	})
}
