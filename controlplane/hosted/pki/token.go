// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
)

// TokenKeyID is what kube-apiserver and kube-controller-manager write as key ID into tokens that they sign with the first
// of the public keys (PEM): the hash of its PKIX form.
func TokenKeyID(public []byte) string {
	block, _ := pem.Decode(public)
	if block == nil {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// SignedBy is the key ID that a token names, empty if it can't be read.
func SignedBy(token []byte) string {
	header, _, _ := bytes.Cut(token, []byte("."))
	data, err := base64.RawURLEncoding.DecodeString(string(header))
	if err != nil {
		return ""
	}
	var named struct {
		KeyID string `json:"kid"`
	}
	if json.Unmarshal(data, &named) != nil {
		return ""
	}
	return named.KeyID
}
