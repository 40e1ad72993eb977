// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimachineryvalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeadm"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/tenant"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
)

// validateKubelet finds patches that lead to a configuration no kubelet can read.
func validateKubelet(t *kamajiv1alpha1.TenantControlPlane) field.ErrorList {
	if len(t.Spec.Kubernetes.Kubelet.ConfigurationJSONPatches) == 0 {
		return nil
	}
	if _, err := kubeadm.KubeletConfiguration(kubeadm.Input{Tenant: t}); err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "kubernetes", "kubelet", "configurationJSONPatches"), "(patches)", err.Error())}
	}
	return nil
}

// validateArguments finds arguments that aren't of the form --name=value.
func validateArguments(t *kamajiv1alpha1.TenantControlPlane) field.ErrorList {
	var problems field.ErrorList
	check := func(path *field.Path, args []string) {
		for i, arg := range args {
			if name, _, _ := strings.Cut(arg, "="); !strings.HasPrefix(name, "--") || len(name) < 3 || strings.ContainsAny(name, " \t\n") {
				problems = append(problems, field.Invalid(path.Index(i), arg, "must be of the form --name=value"))
			}
		}
	}
	if extra := t.Spec.ControlPlane.Deployment.ExtraArgs; extra != nil {
		path := field.NewPath("spec", "controlPlane", "deployment", "extraArgs")
		check(path.Child("apiServer"), extra.APIServer)
		check(path.Child("controllerManager"), extra.ControllerManager)
		check(path.Child("scheduler"), extra.Scheduler)
		check(path.Child("kine"), extra.Kine)
	}
	if konnectivity := t.Spec.Addons.Konnectivity; konnectivity != nil {
		path := field.NewPath("spec", "addons", "konnectivity")
		check(path.Child("server", "extraArgs"), konnectivity.KonnectivityServerSpec.ExtraArgs)
		check(path.Child("agent", "extraArgs"), konnectivity.KonnectivityAgentSpec.ExtraArgs)
	}
	return problems
}

// validateMonitoring checks what a PodMonitor is given. Its kind may not be there yet, so the API server can't be asked.
func validateMonitoring(t *kamajiv1alpha1.TenantControlPlane) field.ErrorList {
	spec := t.Spec.ControlPlane.Monitoring
	if spec == nil {
		return nil
	}
	path := field.NewPath("spec", "controlPlane", "monitoring", "additionalMetadata")
	return append(metav1validation.ValidateLabels(spec.AdditionalMetadata.Labels, path.Child("labels")),
		apimachineryvalidation.ValidateAnnotations(spec.AdditionalMetadata.Annotations, path.Child("annotations"))...)
}

// ignored warns about arguments that don't reach the component, because the engine
// sets them itself.
func ignored(t *kamajiv1alpha1.TenantControlPlane) admission.Warnings {
	extra := t.Spec.ControlPlane.Deployment.ExtraArgs
	if extra == nil {
		return nil
	}
	var warnings admission.Warnings
	given := map[string][]string{"kube-apiserver": extra.APIServer, "kube-controller-manager": extra.ControllerManager, "kube-scheduler": extra.Scheduler}
	for _, container := range desired.Deployment(desired.Input{Tenant: t}).Spec.Template.Spec.Containers {
		for _, arg := range given[container.Name] {
			if !slices.Contains(container.Args, arg) {
				warnings = append(warnings, fmt.Sprintf("argument %s of %s is ignored: the engine sets it to what the other parts need", arg, container.Name))
			}
		}
	}
	return warnings
}

// rehearse lets the API server check the objects that fields of its own types end
// up in, without storing them: what it would refuse later, is refused now. An
// object in its simplest form is not sent.
func (v *validator) rehearse(ctx context.Context, before, after *kamajiv1alpha1.TenantControlPlane) (field.ErrorList, error) {
	if v.writer == nil {
		return nil, nil
	}
	var problems field.ErrorList
	for _, part := range parts(before, after) {
		object := part.object
		object.SetOwnerReferences(nil)
		intent, err := apply.Intent(object)
		if err != nil {
			return nil, fmt.Errorf("encoding %T: %w", object, err)
		}
		err = v.writer.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent), client.FieldOwner(tenant.FieldOwner), client.ForceOwnership, client.DryRunAll)
		if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || err != nil && strings.Contains(err.Error(), "typed patch object") {
			problems = append(problems, field.Forbidden(part.path, "leads to an object that is invalid: "+err.Error()))
		}
		// Any other error says nothing about the spec; the engine will report it if it lasts.
	}
	return problems, nil
}

type part struct {
	path   *field.Path
	object client.Object
}

// parts are the objects that are worth a rehearsal: they have settings of the user,
// and those are new.
func parts(before, after *kamajiv1alpha1.TenantControlPlane) []part {
	var out []part
	spec, path := &after.Spec.ControlPlane, field.NewPath("spec", "controlPlane")
	changed := func(view func(*kamajiv1alpha1.TenantControlPlaneSpec) any) bool {
		return before == nil || !reflect.DeepEqual(view(&before.Spec), view(&after.Spec))
	}
	if shaped(after) && changed(func(s *kamajiv1alpha1.TenantControlPlaneSpec) any {
		return []any{s.ControlPlane.Deployment, s.Addons.Konnectivity, s.InternalCACertificatesConfigMap}
	}) {
		out = append(out, part{path.Child("deployment"), desired.Deployment(desired.Input{Tenant: after})})
	}
	plain := kamajiv1alpha1.ServiceSpec{ServiceType: kamajiv1alpha1.ServiceTypeClusterIP}
	if (!reflect.DeepEqual(spec.Service, plain) || after.Spec.NetworkProfile.AllowAddressAsExternalIP) && changed(func(s *kamajiv1alpha1.TenantControlPlaneSpec) any {
		return []any{s.ControlPlane.Service, s.NetworkProfile}
	}) {
		out = append(out, part{path.Child("service"), desired.Service(after)})
	}
	if spec.Ingress != nil && changed(func(s *kamajiv1alpha1.TenantControlPlaneSpec) any { return s.ControlPlane.Ingress }) {
		for _, object := range desired.Published(after) {
			if ingress, ok := object.(*networkingv1.Ingress); ok {
				out = append(out, part{path.Child("ingress"), ingress})
			}
		}
	}
	return out
}

// shaped tells whether the pods differ from those of a tenant without any settings
// that only the API server can check.
func shaped(t *kamajiv1alpha1.TenantControlPlane) bool {
	rest := t.Spec.ControlPlane.Deployment.DeepCopy()
	rest.Replicas, rest.RegistrySettings, rest.ExtraArgs = nil, kamajiv1alpha1.RegistrySettings{}, nil
	if rest.ServiceAccountName == "default" {
		rest.ServiceAccountName = ""
	}
	if update := rest.Strategy.RollingUpdate; update != nil && update.MaxSurge != nil && update.MaxSurge.String() == "100%" {
		rest.Strategy = kamajiv1alpha1.DeploymentSpec{}.Strategy
	}
	// What Cluster API's provider sends has these, empty.
	if rest.Resources != nil && *rest.Resources == (kamajiv1alpha1.ControlPlaneComponentsResources{}) {
		rest.Resources = nil
	}
	if rest.Probes != nil && *rest.Probes == (kamajiv1alpha1.ControlPlaneProbes{}) {
		rest.Probes = nil
	}
	if rest.AdditionalVolumeMounts != nil && reflect.DeepEqual(*rest.AdditionalVolumeMounts, kamajiv1alpha1.AdditionalVolumeMounts{}) {
		rest.AdditionalVolumeMounts = nil
	}
	konnectivity := kamajiv1alpha1.KonnectivityServerSpec{}
	if t.Spec.Addons.Konnectivity != nil {
		konnectivity = t.Spec.Addons.Konnectivity.KonnectivityServerSpec
	}
	return !reflect.DeepEqual(*rest, kamajiv1alpha1.DeploymentSpec{}) || konnectivity.Resources != nil || konnectivity.SecurityContext != nil ||
		t.Spec.InternalCACertificatesConfigMap != nil
}
