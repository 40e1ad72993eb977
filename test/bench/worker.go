// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/util/cert"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/hosts"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// byHandToken is a bootstrap token for the join by hand. It lives as long as the tenant it is made in.
const byHandToken = "benchm.0123456789abcdef"

// worker measures from asking for a Machine to its Ready Node, beside kubeadm join typed on the same kind of host.
func worker(ctx context.Context, l *quickstart.Lab) error {
	const name = "bench-worker"
	if err := l.OneFree(ctx); err != nil {
		return err
	}
	if err := l.Create(ctx, name, 0); err != nil {
		return err
	}
	defer func() {
		_, _ = l.Kubectl(context.WithoutCancel(ctx), "-n", quickstart.Namespace, "delete", "cluster", name, "--timeout", "5m")
	}()
	if err := l.Customer(ctx, name); err != nil {
		return err
	}
	var ours, hand []float64
	for range rounds {
		if err := l.Free(ctx, 1); err != nil {
			return err
		}
		start := time.Now()
		if err := l.Scale(ctx, name, 1); err != nil {
			return err
		}
		if err := ready(ctx, l, name); err != nil {
			return err
		}
		ours = append(ours, seconds(start))
		if err := l.Scale(ctx, name, 0); err != nil {
			return err
		}
		if err := l.NodesReady(ctx, name, 0); err != nil {
			return err
		}
		took, err := joinByHand(ctx, l, name)
		if err != nil {
			return fmt.Errorf("joining by hand: %w", err)
		}
		hand = append(hand, took)
	}
	report("machine-to-node-ready", median(ours), "s", "kubeadm-join-by-hand", median(hand), "<=hand+5s", median(hand)+5)
	return nil
}

// ready waits for one Ready Node.
func ready(ctx context.Context, l *quickstart.Lab, name string) error {
	return quickstart.Until(ctx, "a Ready Node of "+name, func() error {
		state, err := l.InTenant(ctx, name, "get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && state != "True" {
			err = fmt.Errorf("Ready is %q", state)
		}
		return err
	})
}

// joinByHand joins a host that is not in the inventory, and removes both Node and host again.
func joinByHand(ctx context.Context, l *quickstart.Lab, name string) (float64, error) {
	const host = hosts.Prefix + "by-hand"
	image, err := command.Output(ctx, "docker", "inspect", "--format", "{{.Config.Image}}", hosts.Name(0))
	if err != nil {
		return 0, err
	}
	if err := hosts.Create(ctx, host, image); err != nil {
		return 0, err
	}
	defer func() { _ = hosts.Delete(context.WithoutCancel(ctx), host) }()
	document, err := prepareJoin(ctx, l, name)
	if err != nil {
		return 0, err
	}
	pin := fmt.Sprintf("echo '%s %s.%s' >> /etc/hosts; cat > /run/join.yaml", l.Private, name, quickstart.Domain)
	if _, err := (command.Command{Args: []string{"docker", "exec", "-i", host, "sh", "-c", pin}, Stdin: strings.NewReader(document)}).Output(ctx); err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := hosts.Exec(ctx, host, "kubeadm", "join", "--config", "/run/join.yaml"); err != nil {
		return 0, err
	}
	if err := ready(ctx, l, name); err != nil {
		return 0, err
	}
	took := seconds(start)
	_, err = l.InTenant(ctx, name, "delete", "node", host)
	return took, err
}

// prepareJoin makes a bootstrap token in the tenant and returns the document for kubeadm join.
func prepareJoin(ctx context.Context, l *quickstart.Lab, name string) (string, error) {
	pem, err := authority(l, name)
	if err != nil {
		return "", err
	}
	certificates, err := cert.ParseCertsPEM(pem)
	if err != nil {
		return "", err
	}
	id, secret, _ := strings.Cut(byHandToken, ".")
	token := fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-%s, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: %s
  token-secret: %s
  usage-bootstrap-authentication: "true"
  usage-bootstrap-signing: "true"
  auth-extra-groups: system:bootstrappers:kubeadm:default-node-token
`, id, id, secret)
	if err := l.Apply(ctx, l.TenantKubeconfig(name), token); err != nil {
		return "", err
	}
	hash := fmt.Sprintf("sha256:%x", sha256.Sum256(certificates[0].RawSubjectPublicKeyInfo))
	return joinDocument(byHandToken, name+"."+quickstart.Domain+":6443", hash), nil
}
