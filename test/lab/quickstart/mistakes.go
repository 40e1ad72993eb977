// SPDX-License-Identifier: Apache-2.0

package quickstart

import (
	"context"
	"fmt"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/hosts"
)

// Mistakes are what users get wrong: each must show as a condition that names the object and the cure, and leave
// nothing behind. They need a lab on which All has run.
func Mistakes() []Step {
	return []Step{
		{"the lab runs", func(ctx context.Context, l *Lab) error { return l.Prepare(ctx) }},
		{"a DataStore that does not exist", func(ctx context.Context, l *Lab) error {
			return l.mistake(ctx, "tenantcontrolplane", tenantControlPlane("wrong-datastore", "nowhere", Version), "nowhere")
		}},
		{"an etcd that does not answer", func(ctx context.Context, l *Lab) error {
			return l.mistake(ctx, "datastore", unreachableDataStore, "127.0.0.1:1")
		}},
		{"a version that is none", func(ctx context.Context, l *Lab) error {
			return l.mistake(ctx, "tenantcontrolplane", tenantControlPlane("wrong-version", "default", "1.x"), "1.x")
		}},
		{"a host key that is not the host's", func(ctx context.Context, l *Lab) error {
			const other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
			return l.mistake(ctx, "rackhost", l.rackHost(ctx, "wrong-host-key", "rack-ssh", other), "HostKeyMismatch")
		}},
		{"an SSH key that is not in its Secret", func(ctx context.Context, l *Lab) error {
			key, err := hosts.HostKey(ctx, hosts.Name(0))
			if err != nil {
				return err
			}
			return l.mistake(ctx, "rackhost", l.rackHost(ctx, "wrong-ssh-key", "missing-secret", key), "missing-secret")
		}},
	}
}

// mistake applies one object and waits until either admission refuses it or its Ready condition is False, in words that name want.
func (l *Lab) mistake(ctx context.Context, kind, manifest, want string) error {
	name := manifest[strings.Index(manifest, "name: ")+len("name: "):]
	name = strings.Fields(name)[0]
	if err := l.Apply(ctx, l.Kubeconfig, manifest); err != nil {
		if strings.Contains(err.Error(), want) {
			return nil
		}
		return fmt.Errorf("%s %s was refused without naming %q: %w", kind, name, want, err)
	}
	verdict := Until(ctx, "a condition that names "+want, func() error {
		said, err := l.jsonpath(ctx, kind, name, `{range .status.conditions[?(@.status=="False")]}{.type}: {.reason}: {.message}{"\n"}{end}`)
		if err == nil && !strings.Contains(said, want) {
			err = fmt.Errorf("conditions are:\n%s", said)
		}
		return err
	})
	if _, err := l.Kubectl(ctx, "-n", Namespace, "delete", kind, name, "--timeout", patience.String()); err != nil {
		return err
	}
	return verdict
}

func tenantControlPlane(name, store, version string) string {
	return fmt.Sprintf(`
apiVersion: kamaji.clastix.io/v1alpha1
kind: TenantControlPlane
metadata:
  name: %s
  namespace: %s
spec:
  dataStore: %s
  controlPlane:
    deployment: {replicas: 1}
    service: {serviceType: ClusterIP}
  kubernetes:
    version: %q
    kubelet: {}
`, name, Namespace, store, version)
}

const unreachableDataStore = `
apiVersion: kamaji.clastix.io/v1alpha1
kind: DataStore
metadata:
  name: unreachable
spec:
  driver: etcd
  endpoints: ["127.0.0.1:1"]
  tlsConfig:
    certificateAuthority:
      certificate: {secretReference: {name: etcd-ca, namespace: kamaji-system, keyPath: tls.crt}}
      privateKey: {secretReference: {name: etcd-ca, namespace: kamaji-system, keyPath: tls.key}}
    clientCertificate:
      certificate: {secretReference: {name: etcd-root-client, namespace: kamaji-system, keyPath: tls.crt}}
      privateKey: {secretReference: {name: etcd-root-client, namespace: kamaji-system, keyPath: tls.key}}
`

func (l *Lab) rackHost(ctx context.Context, name, secret, hostKey string) string {
	address, err := hosts.Address(ctx, hosts.Name(0))
	if err != nil {
		return "name: " + name
	}
	return fmt.Sprintf(`
apiVersion: infrastructure.cluster.x-k8s.io/v1alpha1
kind: RackHost
metadata:
  name: %s
  namespace: %s
spec:
  unavailable: true
  ssh:
    address: %s
    privateKeySecretRef: {name: %s}
    hostKeys: [%q]
`, name, Namespace, address, secret, hostKey)
}
