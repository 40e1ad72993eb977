// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Trust is what a tenant's clients are verified with.
type Trust struct {
	// Clients are the certificates (PEM) of the authorities that vouch for clients.
	Clients []byte
	// TokenKeys are the public keys (PEM) that verify tokens of ServiceAccounts.
	TokenKeys []byte
	// Issuers and Audiences are those of which a token must name one each.
	Issuers, Audiences []string
}

// Kind is how a client proves who it is.
type Kind string

// The kinds.
const (
	Certificate Kind = "client certificate"
	Token       Kind = "ServiceAccount token"
)

// User is a client that has proven who it is. Its name is chosen within the tenant, and may be anything.
type User struct {
	Kind   Kind
	Name   string
	Groups []string
}

// Reserved names and groups of Kubernetes.
const (
	systemPrefix   = "system:"
	accountPrefix  = "system:serviceaccount:"
	machineAccount = accountPrefix + "kube-system:"
	nodes          = "system:nodes"
)

// Machine tells whether the user is a part of the cluster and not somebody who uses it: a node, a component of the control plane, or
// a ServiceAccount of kube-system. These connect again and again for as long as they exist.
func (u User) Machine() bool {
	return strings.HasPrefix(u.Name, machineAccount) || slices.Contains(u.Groups, nodes) ||
		strings.HasPrefix(u.Name, systemPrefix) && !strings.HasPrefix(u.Name, accountPrefix)
}

// Certificate is the user that a chain of certificates names, the client's own first. That the client has the key is up to TLS.
func (t Trust) Certificate(chain []*x509.Certificate, now time.Time) (User, error) {
	if len(chain) == 0 {
		return User{}, errors.New("no client certificate")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(t.Clients) {
		return User{}, errors.New("no authority of clients")
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return User{}, fmt.Errorf("verifying the client certificate: %w", err)
	}
	subject := chain[0].Subject
	if subject.CommonName == "" {
		return User{}, errors.New("the client certificate names no user")
	}
	return User{Kind: Certificate, Name: subject.CommonName, Groups: subject.Organization}, nil
}
