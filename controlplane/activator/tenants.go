// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/activator/credentials"
	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// hostIndex finds tenants that can be woken by their host names.
const hostIndex = "activator.host"

func indexHosts(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &kamajiv1alpha1.TenantControlPlane{}, hostIndex, func(o client.Object) []string {
		return hosts(o.(*kamajiv1alpha1.TenantControlPlane))
	})
	if err != nil {
		return fmt.Errorf("indexing tenants by host name: %w", err)
	}
	return nil
}

// hosts are the names by which a tenant can be woken: those that gateways lead by.
func hosts(tenant *kamajiv1alpha1.TenantControlPlane) []string {
	address := tenant.Status.KamajiGateway
	if address == nil || tenant.WakeFor() == 0 {
		return nil
	}
	var out []string
	for _, name := range append([]string{address.Hostname}, address.AdditionalHostnames...) {
		if host, err := route.NormalizeHost(name); err == nil && !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// named is the tenant with a host name. Names are unique for each gateway, and which one a client came through isn't known here: a
// name that tenants of two gateways have wakes neither.
func (s *Server) named(ctx context.Context, name string) (*kamajiv1alpha1.TenantControlPlane, error) {
	host, err := route.NormalizeHost(name)
	if err != nil {
		return nil, err
	}
	list := &kamajiv1alpha1.TenantControlPlaneList{}
	if err := s.client.List(ctx, list, client.MatchingFields{hostIndex: host}); err != nil {
		return nil, fmt.Errorf("looking for the tenant %s: %w", host, err)
	}
	if len(list.Items) != 1 {
		return nil, fmt.Errorf("%d tenants have the name %s", len(list.Items), host)
	}
	return &list.Items[0], nil
}

// identity is the certificate that the API server of a tenant would show for a name, and the authorities of its clients.
func (s *Server) identity(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, name string) (pair tls.Certificate, clients []byte, err error) {
	authority, err := s.secret(ctx, tenant, pki.CA)
	if err != nil {
		return pair, nil, err
	}
	var certPEM, keyPEM []byte
	if public := tenant.PublicCertificate(); public != nil && forCustomers(tenant, name) {
		// The Secret may be the user's own, which nobody controls.
		secret := &corev1.Secret{}
		key := client.ObjectKey{Namespace: tenant.Namespace, Name: public.SecretFor(tenant, kamajiv1alpha1.PublicCertificateSecret)}
		if err := s.client.Get(ctx, key, secret); err != nil {
			return pair, nil, fmt.Errorf("reading Secret %s: %w", key, err)
		}
		certPEM, keyPEM = secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
	} else {
		serving, err := s.secret(ctx, tenant, pki.APIServer)
		if err != nil {
			return pair, nil, err
		}
		certPEM, keyPEM = serving["apiserver.crt"], serving["apiserver.key"]
	}
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return pair, nil, errors.New("the serving certificate can't be used") // its text may say something of the key
	}
	return pair, authority[pki.ClientsFile], nil
}

// forCustomers tells whether a name is one of the additional ones, which the public certificate is for.
func forCustomers(tenant *kamajiv1alpha1.TenantControlPlane, name string) bool {
	host, err := route.NormalizeHost(name)
	return err == nil && slices.ContainsFunc(tenant.Status.KamajiGateway.AdditionalHostnames, func(other string) bool {
		normalized, err := route.NormalizeHost(other)
		return err == nil && normalized == host
	})
}

// trust is what clients of a tenant are verified with.
func (s *Server) trust(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) (credentials.Trust, error) {
	authority, err := s.secret(ctx, tenant, pki.CA)
	if err != nil {
		return credentials.Trust{}, err
	}
	accounts, err := s.secret(ctx, tenant, pki.ServiceAccount)
	if err != nil {
		return credentials.Trust{}, err
	}
	out := credentials.Trust{Clients: authority[pki.ClientsFile], TokenKeys: accounts["sa.pub"]}
	out.Issuers, out.Audiences = desired.Tokens(tenant)
	return out, nil
}

// secret is the data of one of the Secrets that the engine has made for the tenant, and nobody else for another.
func (s *Server) secret(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, name string) (map[string][]byte, error) {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: tenant.Namespace, Name: desired.Name(tenant, name)}
	if err := s.client.Get(ctx, key, secret); err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	if !metav1.IsControlledBy(secret, tenant) {
		return nil, fmt.Errorf("Secret %s is not the tenant's", key)
	}
	return secret.Data, nil
}
