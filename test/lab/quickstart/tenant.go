// SPDX-License-Identifier: Apache-2.0

package quickstart

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/hosts"
)

// tenant creates the Cluster that stays, and proves what it promises.
func tenant() []Step {
	return []Step{
		{"clusterctl generate cluster " + Demo + " | kubectl apply", func(ctx context.Context, l *Lab) error { return l.Create(ctx, Demo, 1) }},
		{"the API server of " + Demo + " answers the customer at the public address", func(ctx context.Context, l *Lab) error { return l.Customer(ctx, Demo) }},
		{"the worker of " + Demo + " is a Ready Node", func(ctx context.Context, l *Lab) error { return l.NodesReady(ctx, Demo, 1) }},
		{"kubelet and kube-proxy of the worker talk to the private address only", privateOnly},
		{"with the public address blocked on the worker, its Node stays alive", blockPublic},
		{"a pod reaches its own API server by kubernetes.default.svc and by address without SNI", inCluster},
		{"kubectl logs and kubectl exec work through konnectivity", logsAndExec},
		{"unknown names, no name, and the wrong listener get nowhere", nowhere},
	}
}

// Create applies the lab's cluster template, with one control plane pod and the given number of workers.
func (l *Lab) Create(ctx context.Context, name string, workers int) error {
	manifest, err := l.Manifest(ctx, name, workers)
	if err != nil {
		return err
	}
	return l.Apply(ctx, l.Kubeconfig, manifest)
}

// Manifest is what clusterctl generates from the lab's cluster template.
func (l *Lab) Manifest(ctx context.Context, name string, workers int) (string, error) {
	return l.clusterctl(ctx, l.variables(name), "generate", "cluster", name, "--flavor", "lab", "--infrastructure", l.repository.Infrastructure,
		"--target-namespace", Namespace, "--kubernetes-version", Version, "--control-plane-machine-count", "1", "--worker-machine-count", strconv.Itoa(workers))
}

func (l *Lab) variables(name string) []string {
	return []string{
		fmt.Sprintf("KAMAJI_ADDITIONAL_HOSTNAMES=[%s]", publicName(name)),
		"KAMAJI_GATEWAY_DOMAIN=" + Domain, "KAMAJI_GATEWAY_PRIVATE_ADDRESS=" + l.Private.String(), "POD_CIDR=" + podCIDR,
	}
}

// publicName is a name of a Cluster that only customers may use.
func publicName(name string) string { return "public-" + name + "." + Domain }

// Customer fetches the published kubeconfig as a customer gets it, and uses it.
func (l *Lab) Customer(ctx context.Context, name string) error {
	err := Until(ctx, "the kubeconfig of "+name, func() error {
		encoded, err := l.jsonpath(ctx, "secret", name+"-kubeconfig", "{.data.value}")
		if err != nil {
			return err
		}
		kubeconfig, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return err
		}
		return os.WriteFile(l.TenantKubeconfig(name), kubeconfig, 0o600)
	})
	if err != nil {
		return err
	}
	server, err := l.InTenant(ctx, name, "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
	if err != nil {
		return err
	}
	if want := "https://" + net.JoinHostPort(l.Public.String(), "6443"); server != want {
		return fmt.Errorf("the customer's kubeconfig points at %s, want %s", server, want)
	}
	return Until(ctx, "an answer of the API server of "+name, func() error {
		_, err := l.InTenant(ctx, name, "get", "nodes", "--request-timeout", "5s")
		return err
	})
}

// InTenant runs kubectl with the customer's kubeconfig.
func (l *Lab) InTenant(ctx context.Context, name string, args ...string) (string, error) {
	return l.kubectlWith(ctx, l.TenantKubeconfig(name), args...)
}

// NodesReady waits for a number of Ready Nodes that Cluster API has matched with Machines.
func (l *Lab) NodesReady(ctx context.Context, name string, count int) error {
	return Until(ctx, fmt.Sprintf("%d Ready Nodes of %s", count, name), func() error {
		states, err := l.InTenant(ctx, name, "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}`)
		if err != nil {
			return err
		}
		ready := 0
		for _, state := range strings.Fields(states) {
			if strings.HasSuffix(state, "=True") {
				ready++
			}
		}
		if ready != count || len(strings.Fields(states)) != count {
			machines, err := l.Kubectl(ctx, "-n", Namespace, "get", "machines,rackmachines", "-l", "cluster.x-k8s.io/cluster-name="+name)
			return errors.Join(fmt.Errorf("Nodes are %q\n%s", states, machines), err)
		}
		machines, err := l.Kubectl(ctx, "-n", Namespace, "get", "machines", "-l", "cluster.x-k8s.io/cluster-name="+name, "-o", "jsonpath={.items[*].status.nodeRef.name}")
		if err != nil {
			return err
		}
		if len(strings.Fields(machines)) != count {
			return fmt.Errorf("Machines have found the Nodes %q", machines)
		}
		return nil
	})
}

// workerOf is the lab host of a Cluster's first Node.
func (l *Lab) workerOf(ctx context.Context, name string) (string, error) {
	return l.InTenant(ctx, name, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
}

// privateOnly looks at the connections of the worker's agents.
func privateOnly(ctx context.Context, l *Lab) error {
	worker, err := l.workerOf(ctx, Demo)
	if err != nil {
		return err
	}
	return Until(ctx, "connections of kubelet and kube-proxy to "+l.Private.String(), func() error {
		sockets, err := hosts.Exec(ctx, worker, "ss", "-Htnp", "state", "established")
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for line := range strings.Lines(sockets) {
			fields := strings.Fields(line)
			for _, program := range []string{"kubelet", "kube-proxy"} {
				if len(fields) < 5 || !strings.Contains(line, `"`+program+`"`) {
					continue
				}
				host, _, err := net.SplitHostPort(strings.ReplaceAll(fields[3], "::ffff:", ""))
				if err != nil {
					return fmt.Errorf("reading %q: %w", line, err)
				}
				switch host {
				case l.Private.String():
					seen[program] = true
				case l.Public.String():
					return fmt.Errorf("%s talks to the public address: %s", program, line)
				}
			}
		}
		if !seen["kubelet"] || !seen["kube-proxy"] {
			return fmt.Errorf("no connection yet; these are established:\n%s", sockets)
		}
		return nil
	})
}

// blockPublic cuts the worker off the public address, for the steps that follow too, and waits for a heartbeat.
func blockPublic(ctx context.Context, l *Lab) error {
	worker, err := l.workerOf(ctx, Demo)
	if err != nil {
		return err
	}
	if !slices.Contains(l.blocked, worker) {
		if err := hosts.Block(ctx, worker, l.Public); err != nil {
			return err
		}
		l.blocked = append(l.blocked, worker)
	}
	lease := func() (time.Time, error) {
		text, err := l.InTenant(ctx, Demo, "-n", "kube-node-lease", "get", "lease", worker, "-o", "jsonpath={.spec.renewTime}")
		if err != nil {
			return time.Time{}, err
		}
		return time.Parse(time.RFC3339Nano, text)
	}
	var before time.Time
	if err := Until(ctx, "a first heartbeat of "+worker, func() (err error) { before, err = lease(); return err }); err != nil {
		return err
	}
	return Until(ctx, "a heartbeat of "+worker, func() error {
		now, err := lease()
		if err == nil && !now.After(before) {
			err = fmt.Errorf("the last is of %s", before)
		}
		return err
	})
}

// probePod is a pod that may read namespaces.
const probePod = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: probe, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: probe}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: probe, namespace: default}]
---
apiVersion: v1
kind: Pod
metadata: {name: probe, namespace: default}
spec:
  serviceAccountName: probe
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers:
  - name: probe
    image: kamaji.lab/toolbox:v1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'echo started; exec sleep infinity']
`

// inCluster asks the API server from a pod and compares the identity of the cluster that answers.
func inCluster(ctx context.Context, l *Lab) error {
	if err := l.Apply(ctx, l.TenantKubeconfig(Demo), probePod); err != nil {
		return err
	}
	if _, err := l.InTenant(ctx, Demo, "wait", "--for=condition=Ready", "pod/probe", "--timeout", patience.String()); err != nil {
		return err
	}
	want, err := l.InTenant(ctx, Demo, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
	if err != nil {
		return err
	}
	service, err := l.InTenant(ctx, Demo, "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
	if err != nil {
		return err
	}
	for _, host := range []string{"kubernetes.default.svc", service} {
		err := Until(ctx, "an answer of https://"+host+" inside the tenant", func() error {
			answer, err := l.InTenant(ctx, Demo, "exec", "probe", "--", "sh", "-c",
				`d=/var/run/secrets/kubernetes.io/serviceaccount; curl -sS --max-time 5 --cacert $d/ca.crt -H "Authorization: Bearer $(cat $d/token)" "https://$0/api/v1/namespaces/kube-system"`, host)
			if err == nil && !strings.Contains(answer, want) {
				err = fmt.Errorf("another API server answered, or not as expected: %s", answer)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func logsAndExec(ctx context.Context, l *Lab) error {
	logs, err := l.InTenant(ctx, Demo, "logs", "probe")
	if err != nil {
		return err
	}
	said, err := l.InTenant(ctx, Demo, "exec", "probe", "--", "hostname")
	if err != nil {
		return err
	}
	if logs != "started" || said != "probe" {
		return fmt.Errorf("the pod logged %q and is named %q, want started and probe", logs, said)
	}
	return nil
}

// nowhere tries what must not lead to an API server.
func nowhere(ctx context.Context, l *Lab) error {
	port, err := l.jsonpath(ctx, "tenantcontrolplane", Demo, "{.status.kamajiGateway.tenantPort}")
	if err != nil {
		return err
	}
	tenantPort, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("reading the tenant port of %s: %w", Demo, err)
	}
	name := Demo + "." + Domain
	for _, c := range []struct {
		what   string
		dial   target
		routed bool
	}{
		{"the tenant's name on the public address", target{l.Public, 6443, name}, true},
		{"the tenant's name on the private address", target{l.Private, 6443, name}, true},
		{"the tenant's port on the private address, without a name", target{l.Private, uint16(tenantPort), ""}, true},
		{"the customers' own name on the public address", target{l.Public, 6443, publicName(Demo)}, true},
		{"the customers' own name on the private address", target{l.Private, 6443, publicName(Demo)}, false},
		{"an unknown name on the public address", target{l.Public, 6443, "nobody." + Domain}, false},
		{"an unknown name on the private address", target{l.Private, 6443, "nobody." + Domain}, false},
		{"no name on the public address", target{l.Public, 6443, ""}, false},
		{"no name on the private address", target{l.Private, 6443, ""}, false},
		{"the tenant's port on the public address", target{l.Public, uint16(tenantPort), ""}, false},
	} {
		if err := c.dial.expect(ctx, c.routed); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return nil
}
