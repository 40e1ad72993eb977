// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// PodMonitorKind is the kind of the Prometheus operator by which Prometheus finds pods.
var PodMonitorKind = schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: "PodMonitor"}

// PodMonitor has Prometheus read the metrics of all components of each pod, nil if
// nobody asked for it. It is no part of Workload, since not every cluster has the
// kind. It goes with pki.Metrics, the only Secret that it needs.
func PodMonitor(in Input) *unstructured.Unstructured {
	spec := in.Tenant.Spec.ControlPlane.Monitoring
	if spec == nil {
		return nil
	}
	meta := objectMeta(in.Tenant, in.Tenant.Name, "pod-monitor")
	out := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"selector": map[string]any{"matchLabels": anyMap(Selector(in.Tenant))}, "podMetricsEndpoints": scrapes(in),
	}}}
	out.SetGroupVersionKind(PodMonitorKind)
	out.SetNamespace(meta.Namespace)
	out.SetName(meta.Name)
	out.SetOwnerReferences(meta.OwnerReferences)
	out.SetLabels(with(spec.AdditionalMetadata.Labels, meta.Labels))
	if len(spec.AdditionalMetadata.Annotations) > 0 {
		out.SetAnnotations(maps.Clone(spec.AdditionalMetadata.Annotations))
	}
	return out
}

// scrapes are the ports of a pod, with the labels that our own metrics name tenants by.
func scrapes(in Input) []any {
	secret := func(key string) map[string]any {
		return map[string]any{"name": Name(in.Tenant, pki.Metrics), "key": key}
	}
	identity := func(more map[string]any) map[string]any {
		return with(map[string]any{"cert": map[string]any{"secret": secret("tls.crt")}, "keySecret": secret("tls.key")}, more)
	}
	// kube-controller-manager and kube-scheduler serve with certificates that they make themselves at their start.
	unknown := map[string]any{"scheme": "https", "tlsConfig": identity(map[string]any{"insecureSkipVerify": true})}
	ports := map[string]map[string]any{
		APIServerPortName: {"scheme": "https", "tlsConfig": identity(map[string]any{
			"ca": map[string]any{"secret": secret("ca.crt")}, "serverName": "kubernetes",
		})},
		controllerManagerMetrics: unknown,
		schedulerMetrics:         unknown,
	}
	if in.Tenant.KonnectivityPort() != 0 {
		ports[konnectivityMetrics] = map[string]any{"scheme": "http"}
	}
	if in.Storage.Kine != "" {
		ports[kineMetrics] = map[string]any{"scheme": "http"}
	}
	var out []any
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		endpoint := with(ports[port], map[string]any{"port": port, "relabelings": []any{
			map[string]any{"action": "replace", "targetLabel": "tcp_namespace", "replacement": in.Tenant.Namespace},
			map[string]any{"action": "replace", "targetLabel": "tcp_name", "replacement": in.Tenant.Name},
		}})
		if interval := in.Tenant.Spec.ControlPlane.Monitoring.Interval; interval != "" {
			endpoint["interval"] = interval
		}
		out = append(out, endpoint)
	}
	return out
}

func anyMap(in map[string]string) map[string]any {
	out := make(map[string]any, len(in))
	for key, value := range in {
		out[key] = value
	}
	return out
}
