// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// certificate is what other objects refer to of a cert-manager Certificate.
type certificate struct {
	secret string
	names  []string
}

// Every Secret that the manager mounts comes from a Certificate, and every webhook is called at a name that the
// Certificate named by its CA injection covers. A mistake here shows only when the first object is refused.
func TestCertificates(t *testing.T) {
	for _, p := range providers {
		t.Run(p.tree, func(t *testing.T) {
			objects, err := p.components()
			if err != nil {
				t.Fatal(err)
			}
			certificates := map[string]certificate{}
			services := map[string]bool{}
			var secrets []string
			for _, object := range objects {
				switch object.GetKind() {
				case "Certificate":
					secret, _, _ := unstructured.NestedString(object.Object, "spec", "secretName")
					names, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "dnsNames")
					certificates[object.GetNamespace()+"/"+object.GetName()] = certificate{secret, names}
					secrets = append(secrets, secret)
				case "Service":
					services[object.GetName()+"."+object.GetNamespace()+".svc"] = true
				}
			}
			for _, object := range objects {
				switch {
				case strings.HasSuffix(object.GetKind(), "WebhookConfiguration"):
					source := object.GetAnnotations()["cert-manager.io/inject-ca-from"]
					checkWebhooks(t, object, certificates[source], services)
				case object.GetKind() == "Deployment":
					checkMounts(t, object, secrets)
				}
			}
		})
	}
}

func checkWebhooks(t *testing.T, configuration *unstructured.Unstructured, serving certificate, services map[string]bool) {
	t.Helper()
	webhooks, _, err := unstructured.NestedSlice(configuration.Object, "webhooks")
	if err != nil || len(webhooks) == 0 {
		t.Fatalf("%s has no webhooks: %v", configuration.GetName(), err)
	}
	for _, webhook := range webhooks {
		fields := webhook.(map[string]any)
		name, _, _ := unstructured.NestedString(fields, "clientConfig", "service", "name")
		namespace, _, _ := unstructured.NestedString(fields, "clientConfig", "service", "namespace")
		host := name + "." + namespace + ".svc"
		if !services[host] {
			t.Errorf("webhook %v calls %s, which is no Service of ours", fields["name"], host)
		}
		if !slices.Contains(serving.names, host) {
			t.Errorf("webhook %v calls %s, but the certificate whose CA it trusts is for %v", fields["name"], host, serving.names)
		}
	}
}

func checkMounts(t *testing.T, deployment *unstructured.Unstructured, secrets []string) {
	t.Helper()
	volumes, _, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "volumes")
	if err != nil {
		t.Fatal(err)
	}
	for _, volume := range volumes {
		name, found, _ := unstructured.NestedString(volume.(map[string]any), "secret", "secretName")
		if found && !slices.Contains(secrets, name) {
			t.Errorf("volume %v needs Secret %s, which no Certificate makes", volume, name)
		}
	}
}
