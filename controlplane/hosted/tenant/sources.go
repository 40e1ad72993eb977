// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// +kubebuilder:rbac:groups=cert-manager.io,resources=certificates,verbs=get;create;patch;delete

// sourcesIndex finds the tenants whose certificates come from a Secret, by its name within a namespace.
const sourcesIndex = "certificates.secrets"

var certificateKind = schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}

// sourcesOf are the names of the Secrets that a tenant takes certificates from.
func sourcesOf(tenant *kamajiv1alpha1.TenantControlPlane) []string {
	var out []string
	if a := tenant.AuthoritySource(); a != nil {
		out = append(out, a.SecretFor(tenant, kamajiv1alpha1.AuthoritySecret))
	}
	if p := tenant.PublicCertificate(); p != nil {
		out = append(out, p.SecretFor(tenant, kamajiv1alpha1.PublicCertificateSecret))
	}
	return out
}

// own reads the user's authority. The text says what is wrong with it, and what to
// do; a tenant that has an authority keeps it meanwhile.
func (r *Reconciler) own(ctx context.Context, s *scope) (*pki.Authority, string, error) {
	source := s.tenant.AuthoritySource()
	if source == nil {
		return nil, "", r.drop(ctx, s, kamajiv1alpha1.AuthoritySecret)
	}
	secret, wrong, err := r.source(ctx, s, source, kamajiv1alpha1.AuthoritySecret, map[string]any{
		"isCA": true, "commonName": "kubernetes", "duration": pki.CAValidity.String(), "usages": []any{"digital signature", "cert sign"},
	})
	if err != nil || wrong != "" {
		return nil, wrong, err
	}
	chain := append(append([]byte{}, secret.Data[corev1.TLSCertKey]...), '\n')
	authority, err := pki.ParseAuthority(append(chain, secret.Data["ca.crt"]...), secret.Data[corev1.TLSPrivateKeyKey])
	if err == nil {
		err = authority.Usable(s.now)
	}
	if err != nil {
		return nil, fmt.Sprintf("the authority in Secret %s/%s can't be used: %v. tls.crt must begin with the certificate of an authority, and tls.key be its key", secret.Namespace, secret.Name, err), nil
	}
	return authority, "", nil
}

// public checks the certificate of additional host names.
func (r *Reconciler) public(ctx context.Context, s *scope) error {
	source := s.tenant.PublicCertificate()
	if source == nil {
		return r.drop(ctx, s, kamajiv1alpha1.PublicCertificateSecret)
	}
	var names []string
	if s.tenant.Status.KamajiGateway != nil {
		names = s.tenant.Status.KamajiGateway.AdditionalHostnames
	}
	if len(names) == 0 {
		return phase.Wait(kamajiv1alpha1.GatewayPendingReason, "waits for the KamajiGateway to grant additionalHostnames, which publicCertificate is for")
	}
	asked := make([]any, 0, len(names))
	for _, name := range names {
		asked = append(asked, name)
	}
	secret, wrong, err := r.source(ctx, s, &source.CertificateSource, kamajiv1alpha1.PublicCertificateSecret, map[string]any{
		"dnsNames": asked, "usages": []any{"digital signature", "server auth"},
	})
	if err != nil {
		return err
	}
	if wrong == "" {
		if err := pki.CheckServer(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], names, s.now); err != nil {
			wrong = fmt.Sprintf("the certificate in Secret %s/%s can't be used: %v", secret.Namespace, secret.Name, err)
		}
	}
	if wrong != "" {
		return phase.Wait(kamajiv1alpha1.PublicCertificatePendingReason, "publicCertificate: %s", wrong)
	}
	s.public = &desired.Public{Secret: secret.Name, Hostnames: names}
	return nil
}

// source reads the Secret of a certificate, after it has asked cert-manager for it where that is wanted. The text says what is missing.
func (r *Reconciler) source(ctx context.Context, s *scope, from *kamajiv1alpha1.CertificateSource, suffix string, spec map[string]any) (*corev1.Secret, string, error) {
	name := from.SecretFor(s.tenant, suffix)
	cure := "create it, with tls.crt and tls.key"
	if from.IssuerRef != nil {
		cure = fmt.Sprintf("kubectl -n %s describe certificate %s tells why cert-manager has not made it", s.tenant.Namespace, name)
		if err := r.ask(ctx, s, from.IssuerRef, suffix, spec); err != nil {
			if meta.IsNoMatchError(err) {
				return nil, "issuerRef needs cert-manager, which isn't installed here: install it, or use secretRef", nil
			}
			return nil, "", explain(err)
		}
	} else if err := r.drop(ctx, s, suffix); err != nil {
		return nil, "", err
	}
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: s.tenant.Namespace, Name: name}
	err := r.Client.Get(ctx, key, secret)
	if apierrors.IsNotFound(err) {
		if err = r.Live.Get(ctx, key, secret); err == nil {
			err = r.patch(ctx, secret, fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, kamajiv1alpha1.ProjectLabel, kamajiv1alpha1.ProjectLabelValue))
		}
	}
	if err == nil && from.IssuerRef != nil && len(secret.OwnerReferences) == 0 {
		// cert-manager leaves Secrets behind.
		err = r.patch(ctx, secret, fmt.Appendf(nil, `{"metadata":{"ownerReferences":[{"apiVersion":%q,"kind":"TenantControlPlane","name":%q,"uid":%q}]}}`,
			kamajiv1alpha1.GroupVersion.String(), s.tenant.Name, s.tenant.UID))
	}
	if apierrors.IsNotFound(err) {
		// A Secret without our label wakes nobody when it appears.
		s.due(s.now.Add(foreignRetry))
		return nil, fmt.Sprintf("Secret %s doesn't exist: %s", key, cure), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return secret, "", nil
}

// patch changes the metadata of a Secret that somebody else writes: a label, so that the cache holds it and its changes are
// noticed, or an owner.
func (r *Reconciler) patch(ctx context.Context, secret *corev1.Secret, patch []byte) error {
	return r.Client.Patch(ctx, secret, client.RawPatch("application/merge-patch+json", patch), client.FieldOwner(FieldOwner))
}

// ask makes the Certificate that cert-manager fills a Secret for. It is written when it changes and looked at now and then:
// Certificates are not in the cache, which not every installation has the kind for.
func (r *Reconciler) ask(ctx context.Context, s *scope, issuer *kamajiv1alpha1.IssuerReference, suffix string, spec map[string]any) error {
	name := desired.Name(s.tenant, suffix)
	kind := issuer.Kind
	if kind == "" {
		kind = "Issuer"
	}
	spec["secretName"] = name
	spec["issuerRef"] = map[string]any{"name": issuer.Name, "kind": kind, "group": certificateKind.Group}
	// A new key at each renewal would be a rotation each time.
	spec["privateKey"] = map[string]any{"algorithm": "ECDSA", "size": int64(256), "rotationPolicy": "Never"}
	spec["secretTemplate"] = map[string]any{"labels": map[string]any{kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue}}
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encoding Certificate %s: %w", name, err)
	}
	key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskCertificate + task(suffix)}
	inputs := []string{string(s.tenant.UID), string(text)}
	done, next := r.memory.done(key, inputs, s.now)
	if !done {
		c := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
		c.SetGroupVersionKind(certificateKind)
		c.SetNamespace(s.tenant.Namespace)
		c.SetName(name)
		c.SetLabels(map[string]string{kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue, kamajiv1alpha1.NameLabel: s.tenant.Name})
		c.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(s.tenant, kamajiv1alpha1.GroupVersion.WithKind("TenantControlPlane"))})
		live := c.DeepCopy()
		err := r.Live.Get(ctx, client.ObjectKeyFromObject(c), live)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("reading Certificate %s/%s: %w", c.GetNamespace(), name, err)
		case !metav1.IsControlledBy(live, s.tenant):
			return &apply.ForeignError{Object: "Certificate " + c.GetNamespace() + "/" + name}
		}
		if err := r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(c), client.FieldOwner(FieldOwner), client.ForceOwnership); err != nil {
			return fmt.Errorf("applying Certificate %s/%s: %w", c.GetNamespace(), name, err)
		}
		next = r.memory.remember(key, inputs, s.now)
	}
	s.due(next)
	return nil
}

// drop removes what was made for an issuer that is no longer named. The Secret, which the cache holds, tells that there was one.
func (r *Reconciler) drop(ctx context.Context, s *scope, suffix string) error {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: s.tenant.Namespace, Name: desired.Name(s.tenant, suffix)}
	err := r.Client.Get(ctx, key, secret)
	if apierrors.IsNotFound(err) || err == nil && secret.Annotations["cert-manager.io/certificate-name"] != key.Name {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", key, err)
	}
	c := &unstructured.Unstructured{}
	c.SetGroupVersionKind(certificateKind)
	switch err := r.Live.Get(ctx, key, c); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("reading Certificate %s: %w", key, err)
	case !metav1.IsControlledBy(c, s.tenant):
		return nil
	default:
		if err := r.Client.Delete(ctx, c); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting Certificate %s: %w", key, err)
		}
	}
	if err := r.Client.Delete(ctx, secret); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting Secret %s: %w", key, err)
	}
	return nil
}
