// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

const smallest = `
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata: {name: case, namespace: default}
spec:
  dataStore: default
  controlPlane: {service: {serviceType: ClusterIP}}
  kubernetes: {version: v1.36.3, kubelet: {}}
`

// published is a manifest that people already use, without the v in front of the version.
const published = `
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata:
  name: customer1
  namespace: default
spec:
  dataStore: default
  controlPlane:
    deployment:
      replicas: 2
      additionalMetadata:
        labels:
          customer: customer1
    service:
      serviceType: ClusterIP
  kubernetes:
    version: "1.31.0"
    kubelet:
      cgroupfs: systemd
  networkProfile:
    port: 6443
`

const store = `
apiVersion: kamaji.clastix.io/v1alpha1
kind: DataStore
metadata: {name: case}
spec:
  driver: etcd
  endpoints: ["etcd-0:2379"]
  tlsConfig:
    certificateAuthority:
      certificate: {secretReference: {name: ca, namespace: x, keyPath: tls.crt}}
      privateKey: {secretReference: {name: ca, namespace: x, keyPath: tls.key}}
    clientCertificate:
      certificate: {secretReference: {name: root, namespace: x, keyPath: tls.crt}}
      privateKey: {secretReference: {name: root, namespace: x, keyPath: tls.key}}
`

const generator = `
apiVersion: kamaji.clastix.io/v1alpha1
kind: KubeconfigGenerator
metadata: {name: case}
spec:
  user: {stringValue: someone}
`

// set is one change of a manifest, by the path of a field.
type set struct {
	path  string
	value any
}

func TestSchemas(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	_, c := testenv.Start(t, scheme, "config/controlplane/crd/bases")
	t.Run("create", func(t *testing.T) { creation(t, c) })
	t.Run("update", func(t *testing.T) { changes(t, c) })
	t.Run("defaults", func(t *testing.T) { defaults(t, c) })
}

func creation(t *testing.T, c client.Client) {
	const (
		control = "spec.controlPlane."
		network = "spec.networkProfile."
		agent   = "spec.addons.konnectivity.agent."
	)
	cases := []struct {
		name, manifest string
		with           []set
		// want is part of the error, or empty if the object is valid.
		want string
	}{
		{"smallest", smallest, nil, ""},
		{"published", published, nil, ""},
		{"no kubelet", smallest, []set{{"spec.kubernetes.kubelet", nil}}, "kubelet"},
		{"unknown cgroup driver", smallest, []set{{"spec.kubernetes.kubelet.cgroupfs", "none"}}, "Unsupported value"},
		{"unknown service type", smallest, []set{{control + "service.serviceType", "ExternalName"}}, "Unsupported value"},
		{"ingress and gateway", smallest, []set{{control + "ingress.hostname", "a.b"}, {control + "gateway.hostname", "a.b"}}, "exclude each other"},
		{"two gateways", smallest, []set{{control + "kamajiGateway.name", "default"}, {control + "gateway.hostname", "a.b"}}, "set kamajiGateway.exposure to Private"},
		{"gateway", smallest, []set{{control + "kamajiGateway.name", "default"}}, ""},
		{"gateway without a name", smallest, []set{{control + "kamajiGateway.hostname", "a.b"}}, "name"},
		{"host name in capitals", smallest, []set{{control + "kamajiGateway.name", "default"}, {control + "kamajiGateway.hostname", "A.b"}}, "should match"},
		{"private with another name", smallest, []set{
			{control + "kamajiGateway.name", "default"}, {control + "kamajiGateway.exposure", "Private"}, {control + "kamajiGateway.additionalHostnames", []any{"a.b"}},
		}, "exposure Private excludes additionalHostnames"},
		{"private with a policy for the public", smallest, []set{
			{control + "kamajiGateway.name", "default"}, {control + "kamajiGateway.exposure", "Private"}, {control + "kamajiGateway.publicPolicy.maxConnections", int64(1)},
		}, "exposure Private excludes"},
		{"private with a policy", smallest, []set{
			{control + "kamajiGateway.name", "default"}, {control + "kamajiGateway.exposure", "Private"},
			{control + "kamajiGateway.privatePolicy.allowedSources", []any{"10.0.0.0/8", "fd00::/8"}},
		}, ""},
		{"source that is an address", smallest, []set{
			{control + "kamajiGateway.name", "default"}, {control + "kamajiGateway.publicPolicy.allowedSources", []any{"10.0.0.1"}},
		}, "network in CIDR notation"},
		{"node ports without a load balancer", smallest, []set{{control + "service.allocateLoadBalancerNodePorts", false}}, "needs serviceType LoadBalancer"},
		{"source ranges without a load balancer", smallest, []set{{network + "loadBalancerSourceRanges", []any{"10.0.0.0/8"}}}, "needs serviceType LoadBalancer"},
		{"source ranges", smallest, []set{{control + "service.serviceType", "LoadBalancer"}, {network + "loadBalancerSourceRanges", []any{"10.0.0.0/8"}}}, ""},
		{"source range that is none", smallest, []set{{control + "service.serviceType", "LoadBalancer"}, {network + "loadBalancerSourceRanges", []any{"10.0.0.0"}}}, "must be network ranges"},
		{"class without a load balancer", smallest, []set{{network + "loadBalancerClass", "x"}}, "needs serviceType LoadBalancer"},
		{"advertised name", smallest, []set{{network + "advertiseAddress", "a.b"}}, "must be an IP address"},
		{"advertised address", smallest, []set{{network + "advertiseAddress", "192.0.2.1"}}, ""},
		{"three service ranges", smallest, []set{{network + "serviceCidrs", []any{"10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16"}}}, "at most 2"},
		{"domain without a dot", smallest, []set{{network + "clusterDomain", "local"}}, "should match"},
		{"replicas of a DaemonSet", smallest, []set{{agent + "replicas", int64(2)}}, "needs mode Deployment"},
		{"no replicas of a Deployment", smallest, []set{{agent + "mode", "Deployment"}, {agent + "replicas", int64(0)}}, "greater than 0"},
		{"replicas of a Deployment", smallest, []set{{agent + "mode", "Deployment"}, {agent + "replicas", int64(2)}}, ""},
		{"addons with defaults", smallest, []set{{"spec.addons", map[string]any{"coreDNS": map[string]any{}, "kubeProxy": map[string]any{}, "konnectivity": map[string]any{}}}}, ""},
		{"address type twice", smallest, []set{{"spec.kubernetes.kubelet.preferredAddressTypes", []any{"Hostname", "Hostname"}}}, "Duplicate value"},
		{"patch of any value", smallest, []set{{"spec.kubernetes.kubelet.configurationJSONPatches", []any{
			map[string]any{"op": "add", "path": "/x", "value": map[string]any{"a": []any{int64(1), true, "b"}}},
		}}}, ""},

		{"etcd", store, nil, ""},
		{"etcd without the authority's key", store, []set{{"spec.tlsConfig.certificateAuthority.privateKey", nil}}, "etcd needs tlsConfig.certificateAuthority.privateKey"},
		{"etcd without a client certificate", store, []set{{"spec.tlsConfig.clientCertificate", nil}}, "etcd needs tlsConfig.clientCertificate"},
		{"no endpoint", store, []set{{"spec.endpoints", []any{}}}, "at least 1"},
		{"database without credentials", store, []set{{"spec.driver", "PostgreSQL"}, {"spec.tlsConfig", nil}}, "needs tlsConfig or basicAuth"},
		{"database with a password only", store, []set{{"spec.driver", "MySQL"}, {"spec.tlsConfig", nil}, {"spec.basicAuth", map[string]any{
			"username": map[string]any{}, "password": map[string]any{"content": "eA=="},
		}}}, "basicAuth.username needs"},

		{"generator", generator, nil, ""},
		{"two sources of a user", generator, []set{{"spec.user.fromDefinition", "metadata.name"}}, "exactly one of"},
		{"no source of a user", generator, []set{{"spec.user.stringValue", nil}}, "exactly one of"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			err := c.Create(t.Context(), object(t, tc.manifest, tc.with...), client.DryRunAll)
			expect(t, err, tc.want)
		})
	}
}

func changes(t *testing.T, c client.Client) {
	override := func(resource, store string) any {
		return []any{map[string]any{"resource": resource, "dataStore": store}}
	}
	overridden := []set{{"spec.dataStoreOverrides", override("/events", "events")}}
	hasState := func(more ...set) []set {
		return append([]set{{"status.storage.setup.schema", "a"}}, more...)
	}
	balanced := []set{{"spec.controlPlane.service.serviceType", "LoadBalancer"}, {"spec.networkProfile.loadBalancerClass", "x"}}
	cases := []struct {
		name, manifest string
		before, after  []set
		want           string
	}{
		{"override without state", smallest, nil, overridden, ""},
		{"override that stays", smallest, hasState(overridden...), []set{{"spec.kubernetes.version", "v1.36.4"}}, ""},
		{"override added", smallest, hasState(), overridden, "spec.dataStoreOverrides: Invalid value"},
		{"override changed", smallest, hasState(overridden...), []set{{"spec.dataStoreOverrides", override("/events", "other")}}, "Set it back"},
		{"override removed", smallest, hasState(overridden...), []set{{"spec.dataStoreOverrides", nil}}, "Set it back"},
		{"move to another store", smallest, nil, []set{{"spec.dataStore", "other"}}, ""},
		{"no store", smallest, nil, []set{{"spec.dataStore", nil}}, "can't be removed"},
		{"another schema", smallest, []set{{"spec.dataStoreSchema", "a"}}, []set{{"spec.dataStoreSchema", "b"}}, "can't be changed"},
		{"no schema", smallest, []set{{"spec.dataStoreSchema", "a"}}, []set{{"spec.dataStoreSchema", nil}}, "can't be removed"},
		{"a first schema", smallest, nil, []set{{"spec.dataStoreSchema", "a"}}, ""},
		{"another domain", smallest, nil, []set{{"spec.networkProfile.clusterDomain", "other.local"}}, "can't be changed"},
		{"class removed", smallest, balanced, []set{{"spec.networkProfile.loadBalancerClass", nil}}, "added or removed"},
		{"class and load balancer removed", smallest, balanced, []set{
			{"spec.networkProfile.loadBalancerClass", nil}, {"spec.controlPlane.service.serviceType", "ClusterIP"},
		}, ""},
		{"another driver", store, nil, []set{{"spec.driver", "NATS"}}, "can't be changed"},
		{"another endpoint", store, nil, []set{{"spec.endpoints", []any{"etcd-1:2379"}}}, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			o := object(t, tc.manifest, tc.before...)
			status, hasStatus := o.Object["status"]
			if err := c.Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if hasStatus {
				o.Object["status"] = status
				if err := c.Status().Update(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			defer func() { _ = c.Delete(t.Context(), o) }()
			changed := o.DeepCopy()
			apply(t, changed, tc.after...)
			expect(t, c.Update(t.Context(), changed, client.DryRunAll), tc.want)
		})
	}
}

func defaults(t *testing.T, c client.Client) {
	o := object(t, smallest)
	if err := c.Create(t.Context(), o, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	got := &v1alpha1.TenantControlPlane{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, got); err != nil {
		t.Fatal(err)
	}
	// What methods say of an object that no API server has seen must be the same.
	bare := &v1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{UID: got.UID}}
	bare.Spec.Kubernetes.Version = "1.36.3"
	type view struct {
		Version, Domain    string
		Port, Replicas     int32
		Services, Pods, IP []string
	}
	look := func(t *v1alpha1.TenantControlPlane) view {
		ips, _ := t.DNSServiceIPs()
		return view{t.KubernetesVersion(), t.ClusterDomain(), t.Port(), t.Replicas(), t.ServiceCIDRs(), t.PodCIDRs(), ips}
	}
	if diff := cmp.Diff(look(bare), look(got)); diff != "" {
		t.Errorf("(-methods +schema):\n%s", diff)
	}
	if strategy := got.Spec.ControlPlane.Deployment.Strategy; strategy.RollingUpdate == nil || strategy.RollingUpdate.MaxSurge.String() != "100%" {
		t.Errorf("strategy %+v", strategy)
	}
}

func object(t *testing.T, manifest string, with ...set) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
		t.Fatal(err)
	}
	apply(t, o, with...)
	return o
}

func apply(t *testing.T, o *unstructured.Unstructured, with ...set) {
	t.Helper()
	for _, s := range with {
		path := strings.Split(s.path, ".")
		if s.value == nil {
			unstructured.RemoveNestedField(o.Object, path...)
			continue
		}
		if err := unstructured.SetNestedField(o.Object, s.value, path...); err != nil {
			t.Fatal(err)
		}
	}
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("rejected: %v", err)
	case want != "" && err == nil:
		t.Errorf("accepted, want an error with %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("error %v, want one with %q", err, want)
	}
}
