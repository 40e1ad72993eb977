// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// TestInternalCA has a kube-apiserver call an OIDC issuer whose certificate only the user's own authority vouches for.
func TestInternalCA(t *testing.T) {
	w := start(t)
	idp := newIssuer(t)
	w.dataStore(t, "default", w.etcd.Config, map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"})
	tn := manifest(t, "customer1.yaml")
	tn.Spec.InternalCACertificatesConfigMap = ptr.To("internal-ca-certs")
	tn.Spec.ControlPlane.Deployment.ExtraArgs = &kamajiv1alpha1.ControlPlaneExtraArgs{
		APIServer: []string{"--oidc-issuer-url=" + idp.server.URL, "--oidc-client-id=kubernetes"},
	}
	w.create(t, tn)
	w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.InternalCAMissingReason)

	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: idp.server.Certificate().Raw})
	authorities := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "internal-ca-certs"},
		Data:       map[string]string{"internal-ca.crt": string(authority)},
	}
	w.create(t, authorities)
	w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	w.kubelet.run(t, w.client, w.deployment(t, name), w.address(t, name))
	w.pods(t, name, 1)
	w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)

	token := idp.token(t, "alice")
	admin := &corev1.Secret{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: system, Name: name + "-admin-kubeconfig"}, admin); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(admin.Data["admin.conf"])
	if err != nil {
		t.Fatal(err)
	}
	alice := rest.AnonymousClientConfig(config)
	alice.BearerToken, alice.Dial = token, w.kubelet.dial
	tenant, err := kubernetes.NewForConfig(alice)
	if err != nil {
		t.Fatal(err)
	}
	// The issuer's keys are fetched in the background.
	w.eventually(t, func(ctx context.Context) string {
		review, err := tenant.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			return "as a user of the issuer: " + err.Error()
		}
		if who := review.Status.UserInfo.Username; who != idp.server.URL+"#alice" {
			return "the user is " + who
		}
		return ""
	})

	t.Run("a change restarts the pods", func(t *testing.T) {
		before := w.deployment(t, name).Spec.Template.Labels
		authorities.Data["another.crt"] = string(authority)
		if err := w.client.Update(t.Context(), authorities); err != nil {
			t.Fatal(err)
		}
		const label = kamajiv1alpha1.ComponentChecksumPrefix + "internal-ca-certificates"
		w.eventually(t, func(context.Context) string {
			if now := w.deployment(t, name).Spec.Template.Labels; now[label] == "" || now[label] == before[label] {
				return "the pods still have label " + now[label]
			}
			return ""
		})
	})
}

// issuer is an OIDC provider behind TLS with a certificate that nobody else trusts.
type issuer struct {
	server *httptest.Server
	key    *rsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	out := &issuer{key: key}
	answer := func(w http.ResponseWriter, value any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(value)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": out.server.URL, "jwks_uri": out.server.URL + "/keys", "authorization_endpoint": out.server.URL + "/auth",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"keys": []map[string]string{{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one",
			"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		}}})
	})
	out.server = httptest.NewTLSServer(mux)
	t.Cleanup(out.server.Close)
	return out
}

// token is a signed claim to be somebody, for an hour.
func (i *issuer) token(t *testing.T, subject string) string {
	t.Helper()
	part := func(value any) string {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	text := part(map[string]string{"alg": "RS256", "kid": "one"}) + "." + part(map[string]any{
		"iss": i.server.URL, "aud": "kubernetes", "sub": subject, "exp": time.Now().Add(time.Hour).Unix(),
	})
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}
