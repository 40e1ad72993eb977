// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// CertificatesSpec says where certificates of a tenant come from.
type CertificatesSpec struct {
	// authority signs the certificates of the tenant instead of a generated
	// authority. A change is a rotation, in which both are trusted.
	// +optional
	Authority *CertificateSource `json:"authority,omitempty"`
}

// CertificateSource is a certificate with its key.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(self.issuerRef)",message="exactly one of secretRef and issuerRef is needed"
type CertificateSource struct {
	// secretRef names a Secret in the namespace of the object with tls.crt (the
	// certificate, then intermediates) and tls.key. ca.crt may hold the root.
	// +optional
	SecretRef *LocalSecretReference `json:"secretRef,omitempty"`

	// issuerRef names an issuer of cert-manager, which is asked for a certificate.
	// +optional
	IssuerRef *IssuerReference `json:"issuerRef,omitempty"`
}

// LocalSecretReference names a Secret in the namespace of the object.
type LocalSecretReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// IssuerReference names an issuer of cert-manager.
type IssuerReference struct {
	// name of the issuer.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// kind of the issuer. An Issuer is in the namespace of the object.
	// +kubebuilder:validation:Enum=Issuer;ClusterIssuer
	// +kubebuilder:default=Issuer
	// +optional
	Kind string `json:"kind,omitempty"`
}

// KubeconfigTrust is what the published kubeconfigs verify the API server with.
//
// +kubebuilder:validation:Enum=Authority;SystemRoots
type KubeconfigTrust string

// The values of KubeconfigTrust.
const (
	// KubeconfigTrustAuthority: the tenant's authority, at the host name of the tenant.
	KubeconfigTrustAuthority KubeconfigTrust = "Authority"
	// KubeconfigTrustSystemRoots: what the customer's system trusts, at the first of additionalHostnames.
	KubeconfigTrustSystemRoots KubeconfigTrust = "SystemRoots"
)

// PublicCertificate is a certificate for the additional host names, by an issuer that customers trust anyway.
type PublicCertificate struct {
	CertificateSource `json:",inline"`

	// kubeconfigTrust is what admin.conf and super-admin.conf use.
	// +kubebuilder:default=Authority
	// +optional
	KubeconfigTrust KubeconfigTrust `json:"kubeconfigTrust,omitempty"`
}

const (
	// AuthoritySecret is the Secret of the certificate that an issuer is asked for as
	// authority, without the tenant's name and a dash in front.
	AuthoritySecret = "authority"
	// PublicCertificateSecret is the same for the public certificate.
	PublicCertificateSecret = "public-certificate"
)

// SecretFor is the name of the Secret with the certificate: the user's, or that of the issuer, which has the suffix.
func (s *CertificateSource) SecretFor(tenant *TenantControlPlane, suffix string) string {
	if s.SecretRef != nil {
		return s.SecretRef.Name
	}
	return tenant.Name + "-" + suffix
}

// AuthoritySource is where the authority comes from, nil for a generated one.
func (t *TenantControlPlane) AuthoritySource() *CertificateSource {
	if t.Spec.Certificates == nil {
		return nil
	}
	return t.Spec.Certificates.Authority
}

// PublicCertificate is the certificate for additional host names, nil for none.
func (t *TenantControlPlane) PublicCertificate() *PublicCertificate {
	if t.Spec.ControlPlane.KamajiGateway == nil {
		return nil
	}
	return t.Spec.ControlPlane.KamajiGateway.PublicCertificate
}
