// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// tokens ends the rotation of the key of tokens by a time, and by the last Secret with a token of the former key.
func (w *world) tokens(t *testing.T, tenant client.Client, bearer func() (*rest.Config, error)) {
	t.Helper()
	says := func(text string) {
		t.Helper()
		w.says(t, name, kamajiv1alpha1.AuthorityRotatingCondition, kamajiv1alpha1.RetiringReason, text)
	}
	config, err := bearer()
	if err != nil {
		t.Fatal(err)
	}
	eternal := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "eternal", Annotations: map[string]string{corev1.ServiceAccountNameKey: "reader"}},
		Type:       corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{corev1.ServiceAccountTokenKey: []byte(config.BearerToken)},
	}
	if err := tenant.Create(t.Context(), eternal); err != nil {
		t.Fatal(err)
	}
	says("tokens of the former key may be in use")
	key := name + "-sa-certificate"
	w.annotate(t, w.secret(t, key), kamajiv1alpha1.RetireAfterAnnotation, "a year")
	says(`="a year" of Secret customer1-sa-certificate is no duration`)
	w.annotate(t, w.secret(t, key), kamajiv1alpha1.RetireAfterAnnotation, "8760h")
	says("the former one is kept until ")
	if since := w.secret(t, key).Annotations[kamajiv1alpha1.RetiringSinceAnnotation]; since == "" {
		t.Error("it isn't written down since when")
	}
	w.annotate(t, w.secret(t, key), kamajiv1alpha1.RetireAfterAnnotation, "0s")
	says("1 Secrets in the tenant have tokens of the former key: kube-system/eternal")
	if got := pki.PhaseOf(w.secret(t, key).Data); got != pki.Retiring {
		t.Errorf("a token that is in use was cut off: %q", got)
	}
	if err := tenant.Delete(t.Context(), eternal); err != nil {
		t.Fatal(err)
	}
	w.nudge(t, "tokens")
}

// replaced writes another authority into the Secret of the one in use, whose key is lost.
func (w *world) replaced(t, life *testing.T) {
	before := w.frozen(t, "admin.svc")
	old := call(t, before)
	former, other := w.secret(t, name+"-ca"), authorityData(t)
	changed := former.DeepCopy()
	changed.Data = map[string][]byte{"ca.crt": other["tls.crt"], "ca.key": other["tls.key"], "tls.crt": other["tls.crt"], "tls.key": other["tls.key"]}
	if err := w.client.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	w.phaseOf(t, "ca", pki.Retiring)
	w.rolled(t, life)
	w.says(t, name, kamajiv1alpha1.AuthorityRotatingCondition, kamajiv1alpha1.RetiringReason, "worker")
	if err := once(t.Context(), w.caller(t, "admin.svc")); err != nil {
		t.Errorf("a client with what it is given: %v", err)
	}
	old.end(t, "a client with what it had before")
	w.annotate(t, w.secret(t, name+"-ca"), kamajiv1alpha1.RetireAnnotation, kamajiv1alpha1.RetireNow)
	w.phaseOf(t, "ca", pki.Settled)
	w.rolled(t, life)
	w.happened(t, "AuthorityReplaced")
	w.wound(t, before, former)
}
