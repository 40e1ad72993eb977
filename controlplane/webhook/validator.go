// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
)

// +kubebuilder:webhook:path=/validate-kamaji-clastix-io-v1alpha1-tenantcontrolplane,mutating=false,failurePolicy=fail,sideEffects=None,groups=kamaji.clastix.io,resources=tenantcontrolplanes,verbs=create;update,versions=v1alpha1,name=validate.tenantcontrolplane.kamaji.clastix.io,admissionReviewVersions=v1

// validator reads what tenants refer to. Without a writer it does not rehearse,
// without a mapper it does not ask for the Gateway API.
type validator struct {
	reader client.Reader
	writer client.Client
	mapper meta.RESTMapper
}

// ValidateCreate implements admission.Validator.
func (v *validator) ValidateCreate(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) (admission.Warnings, error) {
	return v.verdict(ctx, nil, tenant)
}

// ValidateUpdate implements admission.Validator. An object whose spec stays as it
// is passes: finalizers must be removable from one that breaks today's rules.
func (v *validator) ValidateUpdate(ctx context.Context, before, after *kamajiv1alpha1.TenantControlPlane) (admission.Warnings, error) {
	if !after.DeletionTimestamp.IsZero() || reflect.DeepEqual(before.Spec, after.Spec) {
		return nil, nil
	}
	return v.verdict(ctx, before, after)
}

// immovable rejects a move that can't succeed.
func (v *validator) immovable(ctx context.Context, before, after *kamajiv1alpha1.TenantControlPlane) (field.ErrorList, error) {
	from, to := before.Status.Storage.DataStoreName, after.Spec.DataStore
	if before.Spec.DataStore == to || from == "" || from == to || len(after.Spec.DataStoreOverrides) == 0 {
		return nil, nil
	}
	store := &kamajiv1alpha1.DataStore{}
	if err := v.reader.Get(ctx, client.ObjectKey{Name: to}, store); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading DataStore %s: %w", to, err)
	}
	if store.Spec.Driver == kamajiv1alpha1.DriverEtcd {
		return nil, nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec", "dataStore"), to,
		fmt.Sprintf("spec.dataStoreOverrides keeps resources in other etcds, so spec.dataStore must be an etcd as well, not %s; name another DataStore", store.Spec.Driver))}, nil
}

// ValidateDelete implements admission.Validator.
func (v *validator) ValidateDelete(context.Context, *kamajiv1alpha1.TenantControlPlane) (admission.Warnings, error) {
	return nil, nil
}

func (v *validator) verdict(ctx context.Context, before, tenant *kamajiv1alpha1.TenantControlPlane) (admission.Warnings, error) {
	problems := validate(before, tenant)
	if before != nil {
		immovable, err := v.immovable(ctx, before, tenant)
		if err != nil {
			return nil, err
		}
		problems = append(problems, immovable...)
	}
	if len(problems) == 0 {
		// Only what passes here is worth asking the API server about.
		missing, err := gatewayAPI(v.mapper, tenant)
		if err != nil {
			return nil, fmt.Errorf("asking for the Gateway API: %w", err)
		}
		if problems = missing; len(problems) == 0 {
			if problems, err = v.rehearse(ctx, before, tenant); err != nil {
				return nil, err
			}
		}
	}
	if len(problems) > 0 {
		kind := kamajiv1alpha1.GroupVersion.WithKind("TenantControlPlane").GroupKind()
		return nil, apierrors.NewInvalid(kind, tenant.Name, problems)
	}
	missing, err := v.missing(ctx, tenant)
	return slices.Concat(ignored(tenant), reach(tenant), missing), err
}

// missing warns about DataStores that do not exist. It does not reject, because
// manifests that are applied together have no order; the tenant waits.
func (v *validator) missing(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) (admission.Warnings, error) {
	var warnings admission.Warnings
	for _, name := range storage.UsedBy(tenant, "") {
		err := v.reader.Get(ctx, client.ObjectKey{Name: name}, &kamajiv1alpha1.DataStore{})
		switch {
		case apierrors.IsNotFound(err):
			warnings = append(warnings, fmt.Sprintf("DataStore %s does not exist; the control plane waits until it does", name))
		case err != nil:
			return warnings, fmt.Errorf("reading DataStore %s: %w", name, err)
		}
	}
	if tenant.Spec.DataStore == "" && tenant.Spec.DataStoreSelector == nil {
		warnings = append(warnings, "spec.dataStore is empty and there is no default; the control plane waits until it is set")
	}
	return warnings, nil
}

// validate decides; before is nil for a new object.
func validate(before, tenant *kamajiv1alpha1.TenantControlPlane) field.ErrorList {
	var problems field.ErrorList
	for _, message := range validation.IsDNS1035Label(tenant.Name) {
		problems = append(problems, field.Invalid(field.NewPath("metadata", "name"), tenant.Name,
			"the Service of the control plane has the same name: "+message))
	}
	problems = append(problems, validateVersion(before, tenant)...)
	problems = append(problems, validateStorage(tenant)...)
	problems = append(problems, validateNetwork(tenant)...)
	if argument := desired.WriteLimitConflict(tenant); argument != "" {
		problems = append(problems, field.Forbidden(field.NewPath("spec", "writePermissions"),
			"needs the API server's authorization configuration for itself: remove "+argument+" from spec.controlPlane.deployment.extraArgs.apiServer"))
	}
	rules := func(t *kamajiv1alpha1.TenantControlPlane) field.ErrorList {
		return slices.Concat(validateExposure(t), validateArguments(t), validateKubelet(t), validateMonitoring(t))
	}
	found := rules(tenant)
	if before != nil {
		// What an earlier release has let in doesn't lock the object.
		known := map[string]bool{}
		for _, p := range rules(before) {
			known[p.Error()] = true
		}
		found = slices.DeleteFunc(found, func(p *field.Error) bool { return known[p.Error()] })
	}
	return append(problems, found...)
}

// validateVersion compares with what runs, if that is known, so that a wrong
// version that never started can be corrected in any direction.
func validateVersion(before, tenant *kamajiv1alpha1.TenantControlPlane) field.ErrorList {
	from := tenant.Status.Kubernetes.Version.Version
	if before != nil && before.KubernetesVersion() == tenant.KubernetesVersion() {
		return nil
	}
	if err := upgrade.Check(from, tenant.KubernetesVersion()); err != nil {
		path := field.NewPath("spec", "kubernetes", "version")
		return field.ErrorList{field.Invalid(path, tenant.Spec.Kubernetes.Version, err.Error())}
	}
	return nil
}

func validateStorage(tenant *kamajiv1alpha1.TenantControlPlane) field.ErrorList {
	var problems field.ErrorList
	spec, path := &tenant.Spec, field.NewPath("spec")
	if _, err := metav1.LabelSelectorAsSelector(spec.DataStoreSelector); err != nil {
		problems = append(problems, field.Invalid(path.Child("dataStoreSelector"), metav1.FormatLabelSelector(spec.DataStoreSelector), err.Error()))
	}
	for _, name := range []struct {
		field, value string
		tenant       storage.Tenant
	}{
		{"dataStoreSchema", spec.DataStoreSchema, storage.Tenant{Owner: "it", Schema: spec.DataStoreSchema, User: "valid"}},
		{"dataStoreUsername", spec.DataStoreUsername, storage.Tenant{Owner: "it", Schema: "valid", User: spec.DataStoreUsername}},
	} {
		// One that is still empty becomes the UID at run time, which is fine.
		if name.value == "" {
			continue
		}
		if err := name.tenant.Validate(); err != nil {
			problems = append(problems, field.Invalid(path.Child(name.field), name.value, err.Error()))
		}
	}
	seen := map[string]bool{}
	for i, override := range spec.DataStoreOverrides {
		child := path.Child("dataStoreOverrides").Index(i)
		switch {
		case override.Resource == "" || strings.ContainsAny(override.Resource, "#,; "):
			problems = append(problems, field.Invalid(child.Child("resource"), override.Resource, "must be group/resource, or /resource for the core group"))
		case seen[override.Resource]:
			problems = append(problems, field.Duplicate(child.Child("resource"), override.Resource))
		case override.DataStore == "":
			problems = append(problems, field.Required(child.Child("dataStore"), "names a DataStore"))
		}
		seen[override.Resource] = true
	}
	return problems
}

func validateNetwork(tenant *kamajiv1alpha1.TenantControlPlane) field.ErrorList {
	var problems field.ErrorList
	network, path := &tenant.Spec.NetworkProfile, field.NewPath("spec", "networkProfile")
	services, more := prefixes(tenant.ServiceCIDRs(), path.Child("serviceCidrs"))
	problems = append(problems, more...)
	pods, more := prefixes(tenant.PodCIDRs(), path.Child("podCidrs"))
	problems = append(problems, more...)
	for _, service := range services {
		for _, pod := range pods {
			if service.Overlaps(pod) {
				problems = append(problems, field.Invalid(path.Child("podCidrs"), pod.String(), "overlaps with the Service range "+service.String()))
			}
		}
	}
	for i, value := range network.DNSServiceIPs {
		ip, err := netip.ParseAddr(value)
		if err != nil {
			problems = append(problems, field.Invalid(path.Child("dnsServiceIPs").Index(i), value, "must be an IP address"))
		} else if !within(ip, services) {
			problems = append(problems, field.Invalid(path.Child("dnsServiceIPs").Index(i), value,
				"must be in a Service range: "+strings.Join(tenant.ServiceCIDRs(), ", ")))
		}
	}
	if len(problems) == 0 {
		if _, err := pki.ServingSANs(tenant, endpoint.Endpoint{}); err != nil {
			problems = append(problems, field.Invalid(path.Child("certSANs"), strings.Join(network.CertSANs, ", "), err.Error()))
		}
	}
	return problems
}

// prefixes parses ranges and checks that two of them are of different families.
func prefixes(cidrs []string, path *field.Path) ([]netip.Prefix, field.ErrorList) {
	var out []netip.Prefix
	var problems field.ErrorList
	for i, cidr := range cidrs {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(cidr))
		if err != nil {
			problems = append(problems, field.Invalid(path.Index(i), cidr, "must be a network range such as 10.96.0.0/16"))
			continue
		}
		out = append(out, prefix)
	}
	if len(out) == 2 && out[0].Addr().Is4() == out[1].Addr().Is4() {
		problems = append(problems, field.Invalid(path, strings.Join(cidrs, ", "), "two ranges must be one of IPv4 and one of IPv6"))
	}
	return out, problems
}

func within(ip netip.Addr, ranges []netip.Prefix) bool {
	for _, prefix := range ranges {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}
