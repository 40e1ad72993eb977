// SPDX-License-Identifier: Apache-2.0

package quickstart

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/hosts"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
)

// neighbour brings a second Cluster beside the first, proves that they are apart, and deletes it again.
func neighbour() []Step {
	var left leftovers
	return []Step{
		{"one host is free for another Cluster", func(ctx context.Context, l *Lab) error { return l.OneFree(ctx) }},
		{"Cluster " + Beside + " beside it, with its own Ready Node", func(ctx context.Context, l *Lab) error {
			if err := l.Create(ctx, Beside, 1); err != nil {
				return err
			}
			if err := l.Customer(ctx, Beside); err != nil {
				return err
			}
			return l.NodesReady(ctx, Beside, 1)
		}},
		{"credentials of one tenant get nowhere with the name of the other", apart},
		{"kubectl delete cluster " + Beside, func(ctx context.Context, l *Lab) (err error) {
			if left, err = l.traces(ctx, Beside); err != nil {
				return err
			}
			_, err = l.Kubectl(ctx, "-n", Namespace, "delete", "cluster", Beside, "--timeout", patience.String())
			return err
		}},
		{"its pods, Secrets, etcd keys, user and role, route and port are gone", func(ctx context.Context, l *Lab) error {
			return l.gone(ctx, Beside, left)
		}},
		{"its host is clean and becomes a second worker of " + Demo, func(ctx context.Context, l *Lab) error {
			if err := l.Free(ctx, 1); err != nil {
				return err
			}
			if err := l.Scale(ctx, Demo, lab.Hosts); err != nil {
				return err
			}
			return l.NodesReady(ctx, Demo, lab.Hosts)
		}},
	}
}

// OneFree scales the first Cluster, if there is one, down to one worker; an earlier run may have left it with more.
func (l *Lab) OneFree(ctx context.Context) error {
	if _, err := l.jsonpath(ctx, "cluster", Demo, "{.metadata.name}"); err != nil {
		return l.Free(ctx, 1)
	}
	if err := l.Scale(ctx, Demo, 1); err != nil {
		return err
	}
	if err := l.NodesReady(ctx, Demo, 1); err != nil {
		return err
	}
	return l.Free(ctx, 1)
}

// Scale asks for a number of workers of a Cluster.
func (l *Lab) Scale(ctx context.Context, name string, workers int) error {
	_, err := l.Kubectl(ctx, "-n", Namespace, "scale", "machinedeployment", name+"-md-0", "--replicas", strconv.Itoa(workers))
	return err
}

// Free waits until at least count hosts are verified clean and can be claimed.
func (l *Lab) Free(ctx context.Context, count int) error {
	return Until(ctx, "a clean host", func() error {
		phases, err := l.Kubectl(ctx, "-n", Namespace, "get", "rackhosts", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.phase} {end}`)
		if err != nil {
			return err
		}
		if strings.Count(phases, "=Available") < count {
			return fmt.Errorf("hosts are %s", phases)
		}
		return nil
	})
}

// apart presents the credentials of each tenant under the name of the other.
func apart(ctx context.Context, l *Lab) error {
	for _, pair := range [][2]string{{Demo, Beside}, {Beside, Demo}} {
		mine, other := pair[0], pair[1]
		_, err := l.InTenant(ctx, mine, "get", "nodes", "--request-timeout", "5s", "--tls-server-name", other+"."+Domain)
		if err == nil || !strings.Contains(err.Error(), "x509") {
			return fmt.Errorf("the kubeconfig of %s with the name of %s got %v, want an x509 error", mine, other, err)
		}
		_, err = l.InTenant(ctx, mine, "get", "nodes", "--request-timeout", "5s", "--tls-server-name", other+"."+Domain, "--insecure-skip-tls-verify")
		if err == nil {
			return fmt.Errorf("the API server of %s let the credentials of %s in", other, mine)
		}
	}
	return nil
}

// leftovers is where a tenant leaves traces.
type leftovers struct {
	schema, user string
	tenantPort   uint16
}

func (l *Lab) traces(ctx context.Context, name string) (leftovers, error) {
	text, err := l.jsonpath(ctx, "tenantcontrolplane", name, "{.status.storage.setup.schema} {.status.storage.setup.user} {.status.kamajiGateway.tenantPort}")
	if err != nil {
		return leftovers{}, err
	}
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return leftovers{}, fmt.Errorf("TenantControlPlane %s has an incomplete status: %q", name, text)
	}
	port, err := strconv.ParseUint(fields[2], 10, 16)
	if err != nil {
		return leftovers{}, err
	}
	found := leftovers{schema: fields[0], user: fields[1], tenantPort: uint16(port)}
	keys, err := l.etcd(ctx, found)
	if err != nil {
		return leftovers{}, err
	}
	if keys == "" {
		return leftovers{}, errors.New("the tenant has no traces in etcd, so their absence would prove nothing")
	}
	return found, nil
}

// gone looks everywhere a deleted tenant could have left something.
func (l *Lab) gone(ctx context.Context, name string, left leftovers) error {
	for _, kind := range []string{"pods", "secrets", "configmaps", "services", "deployments", "tenantcontrolplanes", "kamajicontrolplanes", "rackmachines", "rackhostclaims"} {
		err := Until(ctx, kind+" of "+name+" to be gone", func() error {
			found, err := l.Kubectl(ctx, "-n", Namespace, "get", kind, "-o", "name")
			if err != nil {
				return err
			}
			for line := range strings.Lines(found) {
				if object := strings.TrimSpace(line); strings.HasPrefix(object[strings.Index(object, "/")+1:], name) {
					return fmt.Errorf("%s is still there", object)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	found, err := l.etcd(ctx, left)
	if err != nil {
		return err
	}
	if found != "" {
		return fmt.Errorf("etcd still has %s", found)
	}
	for what, dial := range map[string]target{
		"its name on the public address":  {l.Public, 6443, name + "." + Domain},
		"its name on the private address": {l.Private, 6443, name + "." + Domain},
		"its port on the private address": {l.Private, left.tenantPort, ""},
	} {
		if err := Until(ctx, what+" to be refused", func() error { return dial.expect(ctx, false) }); err != nil {
			return err
		}
	}
	for number := range lab.Hosts {
		worker := hosts.Name(number)
		pins, err := hosts.Exec(ctx, worker, "cat", "/etc/hosts")
		if err != nil {
			return err
		}
		if strings.Contains(pins, name+"."+Domain) {
			return fmt.Errorf("/etc/hosts of %s still pins the name of %s", worker, name)
		}
	}
	return nil
}
