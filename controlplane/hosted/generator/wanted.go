// SPDX-License-Identifier: Apache-2.0

// Package generator makes kubeconfigs for the identities that KubeconfigGenerators ask for, one Secret for each tenant
// that a generator selects.
//
// Work is done tenant by tenant: an event of a tenant looks at the generators, of which there are few, and never at other
// tenants. What generators report is counted in memory and written once for many events.
package generator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// Key is the key of generated Secrets.
const Key = "value"

// defaultEndpoint is the key of the admin kubeconfig whose address is used when the generator names none.
const defaultEndpoint = kubeconfig.AdminService

// reserved are the names that a generator can't have: the engine has a Secret of each tenant for them.
var reserved = []string{
	pki.CA, pki.FrontProxyCA, pki.ServiceAccount, pki.APIServer, pki.APIServerKubeletClient, pki.FrontProxyClient, pki.Konnectivity,
	pki.DataStore, kubeconfig.Admin, kubeconfig.ControllerManager, kubeconfig.Scheduler, kubeconfig.Konnectivity, desired.StorageConfig,
	"authority", "public-certificate",
}

// secretName is the Secret of a generator for a tenant.
func secretName(tenant, generator string) string { return tenant + "-" + generator }

// selects tells whether a generator is for a tenant. namespace are the labels of the tenant's namespace.
func selects(g *kamajiv1alpha1.KubeconfigGenerator, tenant *kamajiv1alpha1.TenantControlPlane, namespace map[string]string) (bool, error) {
	for _, s := range []struct {
		field    string
		selector *metav1.LabelSelector
		labels   map[string]string
	}{
		{"spec.namespaceSelector", &g.Spec.NamespaceSelector, namespace},
		{"spec.tenantControlPlaneSelector", &g.Spec.TenantControlPlaneSelector, tenant.Labels},
	} {
		selector, err := metav1.LabelSelectorAsSelector(s.selector)
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.field, err)
		}
		if !selector.Matches(labels.Set(s.labels)) {
			return false, nil
		}
	}
	return true, nil
}

// identity is who the kubeconfig is for.
type identity struct {
	user   string
	groups []string
}

// identify works out the identity for a tenant.
func identify(spec *kamajiv1alpha1.KubeconfigGeneratorSpec, tenant *kamajiv1alpha1.TenantControlPlane) (identity, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(tenant)
	if err != nil {
		return identity{}, fmt.Errorf("encoding TenantControlPlane %s: %w", tenant.Name, err)
	}
	out := identity{}
	if out.user, err = value(spec.User, content); err != nil {
		return out, fmt.Errorf("spec.user: %w", err)
	}
	for i, group := range spec.Groups {
		name, err := value(group, content)
		if err != nil {
			return out, fmt.Errorf("spec.groups[%d]: %w", i, err)
		}
		out.groups = append(out.groups, name)
	}
	return out, nil
}

func value(v kamajiv1alpha1.CompoundValue, tenant map[string]any) (string, error) {
	if v.FromDefinition == "" {
		if v.StringValue == "" {
			return "", errors.New("one of stringValue and fromDefinition is needed")
		}
		return v.StringValue, nil
	}
	var at any = tenant
	for field := range strings.SplitSeq(strings.TrimPrefix(v.FromDefinition, "."), ".") {
		object, ok := at.(map[string]any)
		if !ok || object[field] == nil {
			return "", fmt.Errorf("fromDefinition: the TenantControlPlane has no %s", v.FromDefinition)
		}
		at = object[field]
	}
	switch found := at.(type) {
	case map[string]any, []any:
		return "", fmt.Errorf("fromDefinition: %s is no single value", v.FromDefinition)
	case string:
		if found != "" {
			return found, nil
		}
		return "", fmt.Errorf("fromDefinition: %s is empty", v.FromDefinition)
	default:
		return fmt.Sprint(found), nil
	}
}

// inputs are the Secrets of a tenant that a kubeconfig is made from, and the one that exists.
type inputs struct {
	ca, admin, existing map[string][]byte
}

// wanted is the Secret of a generator for a tenant, and when it is due for renewal.
func wanted(g *kamajiv1alpha1.KubeconfigGenerator, tenant *kamajiv1alpha1.TenantControlPlane, in inputs, now time.Time) (*corev1.Secret, time.Time, pki.Change, error) {
	if slices.Contains(reserved, g.Name) {
		return nil, time.Time{}, "", fmt.Errorf("metadata.name: %s is the name of a Secret that every tenant has: choose another", g.Name)
	}
	who, err := identify(&g.Spec, tenant)
	if err != nil {
		return nil, time.Time{}, "", err
	}
	from := g.Spec.ControlPlaneEndpointFrom
	if from == "" {
		from = defaultEndpoint
	}
	if len(in.admin[from]) == 0 {
		return nil, time.Time{}, "", fmt.Errorf("spec.controlPlaneEndpointFrom: Secret %s has no key %s", secretName(tenant.Name, kubeconfig.Admin), from)
	}
	data, due, change, err := kubeconfig.For(in.admin[from], in.ca["ca.crt"], in.ca["ca.key"], who.user, who.groups, in.existing[Key], now)
	if err != nil {
		return nil, time.Time{}, "", err
	}
	owner := metav1.NewControllerRef(tenant, kamajiv1alpha1.GroupVersion.WithKind("TenantControlPlane"))
	content := map[string][]byte{Key: data}
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name: secretName(tenant.Name, g.Name), Namespace: tenant.Namespace, OwnerReferences: []metav1.OwnerReference{*owner},
			Labels: map[string]string{
				kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue,
				// A label takes 63 characters, and names may have more.
				kamajiv1alpha1.ManagedByLabel:            short(g.Name),
				kamajiv1alpha1.ManagedForLabel:           short(tenant.Name),
				kamajiv1alpha1.CertificateLifecycleLabel: kamajiv1alpha1.CertificateLifecycleKubeconfig,
			},
			Annotations: map[string]string{kamajiv1alpha1.ChecksumAnnotation: desired.Checksum(content)},
		},
		Type: corev1.SecretTypeOpaque, Data: content,
	}, due, change, nil
}

// short is a name as the value of a label.
func short(name string) string {
	if len(name) <= 63 {
		return name
	}
	return name[:46] + "-" + pki.Fingerprint([]byte(name))
}
