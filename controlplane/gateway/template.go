// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

// Placeholders of spec.hostnameTemplate.
const (
	namePlaceholder      = "{name}"
	namespacePlaceholder = "{namespace}"
	domainPlaceholder    = "{domain}"
	// defaultTemplate is the template of a gateway that names none.
	defaultTemplate = namePlaceholder + "." + domainPlaceholder
)

// template is a gateway's host name template with its domain filled in.
func template(g *v1alpha2.KamajiGateway) string {
	return strings.ReplaceAll(cmp.Or(g.Spec.HostnameTemplate, defaultTemplate), domainPlaceholder, g.Spec.Domain)
}

// defaultHostname is the host name that the gateway makes for a tenant, not normalized.
func defaultHostname(g *v1alpha2.KamajiGateway, tenant types.NamespacedName) string {
	return strings.NewReplacer(namePlaceholder, tenant.Name, namespacePlaceholder, tenant.Namespace).Replace(template(g))
}

// named are all tenants for which the gateway would make host. There can be more than one: {name}-{namespace} makes a-b-c of a-b in c
// and of a in b-c. Namespace is empty when the template doesn't have it.
func named(g *v1alpha2.KamajiGateway, host string) []types.NamespacedName {
	return match(template(g), host, types.NamespacedName{})
}

// match are all ways to make host of template with what tenant has, and with anything for what it hasn't.
func match(template, host string, tenant types.NamespacedName) []types.NamespacedName {
	for placeholder, value := range map[string]*string{namePlaceholder: &tenant.Name, namespacePlaceholder: &tenant.Namespace} {
		rest, ok := strings.CutPrefix(template, placeholder)
		if !ok {
			continue
		}
		if *value != "" {
			if after, ok := strings.CutPrefix(host, *value); ok {
				return match(rest, after, tenant)
			}
			return nil
		}
		var found []types.NamespacedName
		for i := 1; i <= len(host); i++ {
			if placeholder == namespacePlaceholder && host[i-1] == '.' {
				break // no namespace has a dot in its name
			}
			*value = host[:i]
			found = append(found, match(rest, host[i:], tenant)...)
		}
		return found
	}
	switch {
	case template == "" && host == "":
		return []types.NamespacedName{tenant}
	case template != "" && host != "" && template[0] == host[0]:
		return match(template[1:], host[1:], tenant)
	}
	return nil
}
