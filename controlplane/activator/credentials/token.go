// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // of ES256 and RS256
	_ "crypto/sha512" // of ES384 and ES512
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/util/keyutil"
)

const (
	// maxToken is the size of the longest token that is looked at, in bytes; kube-apiserver's have about 1000.
	maxToken = 16 << 10
	// lastSecond is the end of the year 9999.
	lastSecond = 253402300799
	// leeway is how far clocks may differ, as in kube-apiserver.
	leeway = time.Minute
)

// Token is the user that a ServiceAccount token names. A token without an end is refused: it is valid for as long as a Secret exists,
// which only the API server can tell.
func (t Trust) Token(token string, now time.Time) (User, error) {
	if len(token) > maxToken {
		return User{}, errors.New("the token is too long")
	}
	payload, err := t.signed(token)
	if err != nil {
		return User{}, err
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return User{}, fmt.Errorf("reading the claims of the token: %w", err)
	}
	return t.check(c, now)
}

// signed is the payload of a token (RFC 7515, compact serialization) that one of the keys has signed.
func (t Trust) signed(token string) ([]byte, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || strings.ContainsAny(token, "\r\n") { // which decoders of base64 skip
		return nil, errors.New("the token does not have three parts")
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return nil, fmt.Errorf("decoding the token: %w", err)
		}
	}
	var header struct {
		Algorithm string `json:"alg"`
		// Critical lists extensions that a reader has to understand; we know none.
		Critical []string `json:"crit"`
	}
	if err := json.Unmarshal(decoded[0], &header); err != nil {
		return nil, fmt.Errorf("reading the header of the token: %w", err)
	}
	if len(header.Critical) > 0 {
		return nil, errors.New("the token has critical extensions")
	}
	keys, err := keyutil.ParsePublicKeysPEM(t.TokenKeys)
	if err != nil {
		return nil, fmt.Errorf("reading the keys of tokens: %w", err)
	}
	input := parts[0] + "." + parts[1]
	for _, key := range keys {
		if verifies(key, header.Algorithm, input, decoded[2]) {
			return decoded[1], nil
		}
	}
	return nil, errors.New("no key of the tenant has signed the token")
}

// verifies tells whether the key has signed. The key decides which algorithm that is, never the token: it is the one that Kubernetes signs with.
func verifies(key any, algorithm, input string, signature []byte) bool {
	digest := func(hash crypto.Hash) []byte {
		h := hash.New()
		h.Write([]byte(input))
		return h.Sum(nil)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		return algorithm == "RS256" && rsa.VerifyPKCS1v15(k, crypto.SHA256, digest(crypto.SHA256), signature) == nil
	case *ecdsa.PublicKey:
		bits := k.Curve.Params().BitSize
		want, hash := "", crypto.Hash(0)
		switch bits {
		case 256:
			want, hash = "ES256", crypto.SHA256
		case 384:
			want, hash = "ES384", crypto.SHA384
		case 521:
			want, hash = "ES512", crypto.SHA512
		}
		size := (bits + 7) / 8
		if algorithm != want || want == "" || len(signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(k, digest(hash), r, s)
	}
	return false
}

// claims are those of a token that is bound to a ServiceAccount.
type claims struct {
	Issuer     string   `json:"iss"`
	Subject    string   `json:"sub"`
	Audience   audience `json:"aud"`
	Expires    *float64 `json:"exp"`
	NotBefore  *float64 `json:"nbf"`
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

// audience is a string or a list of them (RFC 7519).
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// check is what kube-apiserver checks before it looks for objects.
func (t Trust) check(c claims, now time.Time) (User, error) {
	account := c.Kubernetes
	name := accountPrefix + account.Namespace + ":" + account.ServiceAccount.Name
	switch {
	case c.Issuer == "" || !slices.Contains(t.Issuers, c.Issuer):
		return User{}, errors.New("the token is of another issuer")
	case !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(t.Audiences, a) }):
		return User{}, errors.New("the token is for another audience")
	case c.Expires == nil || *c.Expires > lastSecond:
		return User{}, errors.New("the token has no end")
	case now.Add(-leeway).After(seconds(*c.Expires)):
		return User{}, errors.New("the token has expired")
	case c.NotBefore != nil && now.Add(leeway).Before(seconds(*c.NotBefore)):
		return User{}, errors.New("the token is not valid yet")
	case account.Namespace == "" || account.ServiceAccount.Name == "" || account.ServiceAccount.UID == "" || c.Subject != name:
		return User{}, errors.New("the token names no ServiceAccount")
	}
	return User{Kind: Token, Name: name, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + account.Namespace}}, nil
}

// seconds is a NumericDate.
func seconds(since1970 float64) time.Time { return time.Unix(int64(since1970), 0) }
