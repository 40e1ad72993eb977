// SPDX-License-Identifier: Apache-2.0

// Package webhook holds the one rule of this provider that CEL can't express: templates are immutable, except in the dry
// run by which Cluster API's topology controller finds out whether it has to make a new one.
package webhook

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"sigs.k8s.io/cluster-api/util/topology"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// +kubebuilder:webhook:verbs=update,path=/validate-infrastructure-cluster-x-k8s-io-v1alpha1-rackmachinetemplate,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=infrastructure.cluster.x-k8s.io,resources=rackmachinetemplates,versions=v1alpha1,name=validation.rackmachinetemplate.infrastructure.cluster.x-k8s.io,sideEffects=None,admissionReviewVersions=v1

// MachineTemplates validates RackMachineTemplates.
type MachineTemplates struct{}

var _ admission.Validator[*infrav1.RackMachineTemplate] = MachineTemplates{}

// SetupWithManager serves the webhooks of this package on mgr's webhook server.
func SetupWithManager(mgr ctrl.Manager) error {
	err := ctrl.NewWebhookManagedBy(mgr, &infrav1.RackMachineTemplate{}).WithValidator(MachineTemplates{}).Complete()
	if err != nil {
		return fmt.Errorf("setting up the RackMachineTemplate webhook: %w", err)
	}
	return nil
}

// ValidateCreate accepts everything; the schema has the rules.
func (MachineTemplates) ValidateCreate(context.Context, *infrav1.RackMachineTemplate) (admission.Warnings, error) {
	return nil, nil
}

// ValidateUpdate refuses changes of spec.template.spec, which machines made earlier would not follow.
func (MachineTemplates) ValidateUpdate(ctx context.Context, before, after *infrav1.RackMachineTemplate) (admission.Warnings, error) {
	request, err := admission.RequestFromContext(ctx)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("no admission request in context: %v", err))
	}
	if topology.IsDryRunRequest(request, after) || equality.Semantic.DeepEqual(before.Spec.Template.Spec, after.Spec.Template.Spec) {
		return nil, nil
	}
	return nil, apierrors.NewInvalid(infrav1.GroupVersion.WithKind("RackMachineTemplate").GroupKind(), after.Name, field.ErrorList{
		field.Forbidden(field.NewPath("spec", "template", "spec"),
			"is immutable; make a RackMachineTemplate of another name and put that into spec.template.spec.infrastructureRef of the MachineDeployment"),
	})
}

// ValidateDelete accepts everything.
func (MachineTemplates) ValidateDelete(context.Context, *infrav1.RackMachineTemplate) (admission.Warnings, error) {
	return nil, nil
}
