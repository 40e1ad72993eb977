// SPDX-License-Identifier: Apache-2.0

package credentials_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/util/keyutil"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/activator/credentials"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

const issuer = "https://kubernetes.default.svc.cluster.local"

// good are the claims of a token as kube-apiserver makes them.
func good() map[string]any {
	return map[string]any{
		"iss": issuer, "aud": []string{issuer}, "sub": "system:serviceaccount:ci:deployer", "exp": now.Add(time.Hour).Unix(), "nbf": now.Unix(), "iat": now.Unix(),
		"kubernetes.io": map[string]any{"namespace": "ci", "serviceaccount": map[string]any{"name": "deployer", "uid": "42"}},
	}
}

func with(key string, value any) map[string]any {
	out := good()
	out[key] = value
	return out
}

func without(key string) map[string]any {
	out := good()
	delete(out, key)
	return out
}

func encode(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return base64.RawURLEncoding.EncodeToString(data)
}

// sign makes a token. The algorithm is what the header says, whatever the key does.
func sign(t testing.TB, key crypto.Signer, algorithm string, claims map[string]any, header ...string) string {
	t.Helper()
	head := map[string]any{"alg": algorithm, "kid": "x"}
	for _, name := range header {
		head[name] = []string{name}
	}
	input := encode(t, head) + "." + encode(t, claims)
	hash := crypto.SHA256
	if strings.HasSuffix(algorithm, "384") {
		hash = crypto.SHA384
	}
	h := hash.New()
	h.Write([]byte(input))
	var signature []byte
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, h.Sum(nil))
		must(t, err)
		size := (k.Curve.Params().BitSize + 7) / 8
		signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		var err error
		signature, err = rsa.SignPKCS1v15(rand.Reader, k, hash, h.Sum(nil))
		must(t, err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func tokenKey(t testing.TB, of pki.Result) crypto.Signer {
	t.Helper()
	key, err := keyutil.ParsePrivateKeyPEM(of.Data[pki.ServiceAccount]["sa.key"])
	must(t, err)
	return key.(crypto.Signer)
}

func publicPEM(t testing.TB, keys ...crypto.Signer) []byte {
	t.Helper()
	var out []byte
	for _, key := range keys {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		must(t, err)
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return out
}

func TestTokens(t *testing.T) {
	mine, other := tenant(t), tenant(t)
	key, trust := tokenKey(t, mine), trustOf(mine)
	rotated, err := pki.Issue(pki.Input{Now: now, Existing: mine.Data, Rotate: map[string]bool{pki.ServiceAccount: true}})
	must(t, err)
	rotated, err = pki.Issue(pki.Input{Now: now, Existing: rotated.Data, Advance: map[string]bool{pki.ServiceAccount: true}})
	must(t, err)
	done, err := pki.Issue(pki.Input{Now: now, Existing: rotated.Data, Advance: map[string]bool{pki.ServiceAccount: true}})
	must(t, err)
	valid := sign(t, key, "ES256", good())
	parts := strings.Split(valid, ".")
	// A signature made with the public key as a shared secret, and none at all.
	shared := hmac.New(sha256.New, mine.Data[pki.ServiceAccount]["sa.pub"])
	input := encode(t, map[string]any{"alg": "HS256"}) + "." + parts[1]
	shared.Write([]byte(input))
	foreign := with("kubernetes.io", map[string]any{"namespace": "kube-system", "serviceaccount": map[string]any{"name": "deployer", "uid": "42"}})
	bare := with("kubernetes.io", map[string]any{"namespace": "ci", "serviceaccount": map[string]any{"name": "deployer"}})
	for name, tc := range map[string]struct {
		trust credentials.Trust
		token string
		want  string
	}{
		"valid":                                  {trust, valid, ""},
		"one audience":                           {trust, sign(t, key, "ES256", with("aud", issuer)), ""},
		"several audiences":                      {trust, sign(t, key, "ES256", with("aud", []string{"vault", issuer})), ""},
		"the former key during a rotation":       {trustOf(rotated), valid, ""},
		"the next key during a rotation":         {trustOf(rotated), sign(t, tokenKey(t, rotated), "ES256", good()), ""},
		"the former key after a rotation":        {trustOf(done), valid, "no key of the tenant"},
		"another tenant's":                       {trustOf(other), valid, "no key of the tenant"},
		"another payload":                        {trust, parts[0] + "." + encode(t, with("sub", "system:serviceaccount:ci:root")) + "." + parts[2], "no key of the tenant"},
		"another header":                         {trust, encode(t, map[string]any{"alg": "ES256"}) + "." + parts[1] + "." + parts[2], "no key of the tenant"},
		"a cut signature":                        {trust, valid[:len(valid)-6], "no key of the tenant"},
		"no signature":                           {trust, parts[0] + "." + parts[1] + ".", "no key of the tenant"},
		"algorithm none":                         {trust, encode(t, map[string]any{"alg": "none"}) + "." + parts[1] + ".", "no key of the tenant"},
		"the public key as a secret":             {trust, input + "." + base64.RawURLEncoding.EncodeToString(shared.Sum(nil)), "no key of the tenant"},
		"another algorithm than the key's":       {trust, sign(t, key, "ES384", good()), "no key of the tenant"},
		"critical extensions":                    {trust, sign(t, key, "ES256", good(), "crit"), "critical"},
		"expired":                                {trust, sign(t, key, "ES256", with("exp", now.Add(-2*time.Minute).Unix())), "expired"},
		"without an end":                         {trust, sign(t, key, "ES256", without("exp")), "no end"},
		"an end that is none":                    {trust, sign(t, key, "ES256", with("exp", 1e300)), "no end"},
		"not valid yet":                          {trust, sign(t, key, "ES256", with("nbf", now.Add(2*time.Minute).Unix())), "not valid yet"},
		"of another issuer":                      {trust, sign(t, key, "ES256", with("iss", "kubernetes/serviceaccount")), "issuer"},
		"of no issuer":                           {trust, sign(t, key, "ES256", without("iss")), "issuer"},
		"for another audience":                   {trust, sign(t, key, "ES256", with("aud", []string{"vault"})), "audience"},
		"for no audience":                        {trust, sign(t, key, "ES256", without("aud")), "audience"},
		"of no ServiceAccount":                   {trust, sign(t, key, "ES256", without("kubernetes.io")), "no ServiceAccount"},
		"of another ServiceAccount than it says": {trust, sign(t, key, "ES256", foreign), "no ServiceAccount"},
		"without the ServiceAccount's UID":       {trust, sign(t, key, "ES256", bare), "no ServiceAccount"},
		"empty":                                  {trust, "", "three parts"},
		"a bootstrap token":                      {trust, "abcdef.0123456789abcdef", "three parts"},
		"too long":                               {trust, valid + strings.Repeat("A", 20<<10), "too long"},
		"without keys to check by":               {credentials.Trust{Issuers: trust.Issuers, Audiences: trust.Audiences}, valid, "keys of tokens"},
	} {
		user, err := tc.trust.Token(tc.token, now)
		switch {
		case tc.want != "":
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %+v, %v, want an error with %q", name, user, err, tc.want)
			}
		case err != nil || user.Name != "system:serviceaccount:ci:deployer" || user.Kind != credentials.Token || user.Machine():
			t.Errorf("%s: got %+v, %v", name, user, err)
		}
		if err != nil && strings.Contains(err.Error(), parts[2]) {
			t.Errorf("%s: the error has the signature in it", name)
		}
	}
}

// Keys may be the user's own, of the kinds that kube-apiserver signs with.
func TestKindsOfKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	trust := credentials.Trust{TokenKeys: publicPEM(t, p384, rsaKey), Issuers: []string{issuer}, Audiences: []string{issuer}}
	for algorithm, key := range map[string]crypto.Signer{"RS256": rsaKey, "ES384": p384} {
		if _, err := trust.Token(sign(t, key, algorithm, good()), now); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	if user, err := trust.Token(sign(t, rsaKey, "RS384", good()), now); err == nil {
		t.Errorf("RS384, with which Kubernetes doesn't sign: %+v", user)
	}
}

// Nothing but the token as it was signed has a user: not one with any other character, cut, or grown.
func TestEveryChangeIsRefused(t *testing.T) {
	mine := tenant(t)
	trust, valid := trustOf(mine), sign(t, tokenKey(t, mine), "ES256", good())
	refuse := func(token string) {
		t.Helper()
		if user, err := trust.Token(token, now); err == nil {
			t.Errorf("%q is %+v", token, user)
		}
	}
	for i := range len(valid) {
		for _, c := range "A8-_.=\x00" {
			if changed := valid[:i] + string(c) + valid[i+1:]; changed != valid {
				refuse(changed)
			}
		}
		refuse(valid[:i])
		refuse(valid[i+1:])
	}
	for _, end := range []string{"A", "=", ".", "\n", " "} {
		refuse(valid + end)
	}
}
