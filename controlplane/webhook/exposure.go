// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
)

// podPorts are taken in every pod: controller manager, scheduler, and the
// administration and health of konnectivity.
var podPorts = []int32{8133, 8134, 10257, 10259}

// validateExposure finds ways of publishing that can't work whatever the cluster does.
func validateExposure(tenant *kamajiv1alpha1.TenantControlPlane) field.ErrorList {
	spec, network, path := &tenant.Spec.ControlPlane, &tenant.Spec.NetworkProfile, field.NewPath("spec")
	profile := path.Child("networkProfile")
	problems := validatePorts(tenant, path)
	if network.Address != "" && !isIP(network.Address) && len(validation.IsDNS1123Subdomain(network.Address)) > 0 {
		problems = append(problems, field.Invalid(profile.Child("address"), network.Address, "must be an IP address or a host name"))
	}
	if network.AllowAddressAsExternalIP && !isIP(network.Address) {
		problems = append(problems, field.Invalid(profile.Child("allowAddressAsExternalIP"), true, "needs an IP address in address"))
	}
	if domain := network.ClusterDomain; domain != "" {
		for _, message := range validation.IsDNS1123Subdomain(domain) {
			problems = append(problems, field.Invalid(profile.Child("clusterDomain"), domain, message))
		}
	}
	routed := spec.KamajiGateway != nil || spec.Ingress != nil || spec.Gateway != nil
	if spec.Service.ServiceType == kamajiv1alpha1.ServiceTypeNodePort && !routed && network.Address == "" {
		problems = append(problems, field.Required(profile.Child("address"),
			"serviceType NodePort is reached at the address of a node, or of what forwards to the nodes"))
	}
	if spec.Ingress != nil {
		if _, err := endpoint.HostPort(spec.Ingress.Hostname, tenant.Port()); err != nil {
			problems = append(problems, field.Invalid(path.Child("controlPlane", "ingress", "hostname"), spec.Ingress.Hostname, err.Error()))
		}
	}
	return append(problems, validateGateway(spec.Gateway, path.Child("controlPlane", "gateway"))...)
}

func validateGateway(spec *kamajiv1alpha1.GatewaySpec, path *field.Path) field.ErrorList {
	var problems field.ErrorList
	switch {
	case spec == nil:
		return nil
	case spec.Hostname == "":
		problems = append(problems, field.Required(path.Child("hostname"), "is the name under which clients reach the API server"))
	case strings.HasPrefix(string(spec.Hostname), "*"):
		problems = append(problems, field.Invalid(path.Child("hostname"), string(spec.Hostname), "must be one host name without a wildcard: kubeconfigs carry it"))
	}
	if len(spec.GatewayParentRefs) == 0 {
		problems = append(problems, field.Required(path.Child("parentRefs"), "names the Gateway that publishes the API server"))
	}
	return problems
}

// validatePorts finds two uses of one port, in the pods or of the Service.
func validatePorts(tenant *kamajiv1alpha1.TenantControlPlane, path *field.Path) field.ErrorList {
	var problems field.ErrorList
	own := path.Child("networkProfile", "port")
	if slices.Contains(podPorts, tenant.Port()) {
		problems = append(problems, field.Invalid(own, tenant.Port(), "another component listens on this port in the pods"))
	}
	names, ports := map[string]bool{desired.APIServerPortName: true}, map[int32]bool{tenant.Port(): true}
	if port := tenant.KonnectivityPort(); port != 0 {
		at := path.Child("addons", "konnectivity", "server", "port")
		if slices.Contains(podPorts, port) || port == tenant.Port() {
			problems = append(problems, field.Invalid(at, port, "another component listens on this port in the pods"))
		}
		names[desired.KonnectivityPortName], ports[port] = true, true
	}
	for i, extra := range tenant.Spec.ControlPlane.Service.AdditionalPorts {
		at := path.Child("controlPlane", "service", "additionalPorts").Index(i)
		for _, message := range validation.IsDNS1123Label(extra.Name) {
			problems = append(problems, field.Invalid(at.Child("name"), extra.Name, message))
		}
		if names[extra.Name] {
			problems = append(problems, field.Duplicate(at.Child("name"), extra.Name))
		}
		if tcp := extra.Protocol == "" || extra.Protocol == "TCP"; tcp && ports[extra.Port] {
			problems = append(problems, field.Duplicate(at.Child("port"), extra.Port))
		} else if tcp {
			ports[extra.Port] = true
		}
		names[extra.Name] = true
	}
	return problems
}

// gatewayAPI rejects what needs the Gateway API where TLSRoutes aren't served.
func gatewayAPI(mapper meta.RESTMapper, tenant *kamajiv1alpha1.TenantControlPlane) (field.ErrorList, error) {
	if tenant.Spec.ControlPlane.Gateway == nil || mapper == nil {
		return nil, nil
	}
	_, err := mapper.RESTMapping(schema.GroupKind{Group: gatewayv1.GroupName, Kind: "TLSRoute"}, gatewayv1.GroupVersion.Version)
	if meta.IsNoMatchError(err) {
		return field.ErrorList{field.Forbidden(field.NewPath("spec", "controlPlane", "gateway"),
			"this cluster has no TLSRoute in gateway.networking.k8s.io/v1: install the Gateway API, 1.5 or newer, first")}, nil
	}
	return nil, err
}

// reach warns about ways of publishing that work only for some networks, and of
// settings that another one takes the effect from.
func reach(tenant *kamajiv1alpha1.TenantControlPlane) admission.Warnings {
	var warnings admission.Warnings
	spec, network := &tenant.Spec.ControlPlane, &tenant.Spec.NetworkProfile
	clusterIP := spec.Service.ServiceType == kamajiv1alpha1.ServiceTypeClusterIP && network.Address == ""
	switch {
	case spec.KamajiGateway != nil && (network.Address != "" || network.AdvertiseAddress != ""):
		warnings = append(warnings, "spec.networkProfile.address and advertiseAddress have no effect with kamajiGateway")
	case (spec.Ingress != nil || spec.Gateway != nil) && clusterIP && network.AdvertiseAddress == "":
		warnings = append(warnings, "pods of the tenant send no host name and are led to the ClusterIP of the Service: "+
			"unless its nodes reach that, set spec.networkProfile.advertiseAddress")
	}
	if network.AllowAddressAsExternalIP && spec.Service.ServiceType == kamajiv1alpha1.ServiceTypeLoadBalancer {
		warnings = append(warnings, "spec.networkProfile.allowAddressAsExternalIP has no effect with serviceType LoadBalancer")
	}
	return warnings
}

func isIP(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}
