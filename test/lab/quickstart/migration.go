// SPDX-License-Identifier: Apache-2.0

package quickstart

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
)

// second is the name of another DataStore, and of the namespace of its etcd.
const second = "second"

// Migration moves Demo, with its worker, to another etcd and back, while a customer writes. Nothing is done on the worker.
func Migration() []Step {
	return []Step{
		{"the lab runs, and " + Demo + " has one worker", oneWorker},
		{"a second etcd", secondStore},
		{Demo + " moves there, and everything written before is there", func(ctx context.Context, l *Lab) error { return l.migrate(ctx, second, nil) }},
		{"the worker runs a new pod and removes it", func(ctx context.Context, l *Lab) error { return l.workerFollows(ctx, "migrated") }},
		{Demo + " moves back, and the second copy is deleted", func(ctx context.Context, l *Lab) error {
			return l.migrate(ctx, "default", []string{"kamaji.clastix.io/cleanup-prior-migration=true", "kamaji.clastix.io/delete-migration-source=true"})
		}},
		{"the worker runs a new pod and removes it once more", func(ctx context.Context, l *Lab) error { return l.workerFollows(ctx, "returned") }},
		{"the second etcd can go", func(ctx context.Context, l *Lab) error {
			_, err := l.Kubectl(ctx, "delete", "datastore", second, "--timeout", patience.String())
			if err != nil {
				return err
			}
			_, err = l.Kubectl(ctx, "delete", "namespace", second, "--timeout", patience.String())
			return err
		}},
	}
}

// oneWorker has Demo with one worker, whatever ran before.
func oneWorker(ctx context.Context, l *Lab) error {
	if err := l.Prepare(ctx); err != nil {
		return err
	}
	if err := l.Create(ctx, Demo, 1); err != nil {
		return err
	}
	if err := l.Customer(ctx, Demo); err != nil {
		return err
	}
	return l.OneFree(ctx)
}

// DatabaseMigration moves Demo, with its worker, from etcd to a PostgreSQL, to another PostgreSQL, and back to etcd. Each old
// copy is deleted behind it, and the databases stay in the lab.
func DatabaseMigration() []Step {
	const first, second = "postgres", "postgres-2"
	options := []string{"kamaji.clastix.io/cleanup-prior-migration=true", "kamaji.clastix.io/delete-migration-source=true"}
	steps := []Step{
		{"the lab runs, and " + Demo + " has one worker", oneWorker},
		{"two PostgreSQL", func(ctx context.Context, l *Lab) error {
			if err := lab.Provide(ctx, l.log, "postgres"); err != nil {
				return err
			}
			return errors.Join(l.Condition(ctx, "", "datastore", first, "Ready"), l.Condition(ctx, "", "datastore", second, "Ready"))
		}},
	}
	for _, to := range []string{first, second, "default"} {
		steps = append(steps,
			Step{Demo + " moves to " + to + ", and everything written before is there", func(ctx context.Context, l *Lab) error { return l.migrate(ctx, to, options) }},
			Step{"kine runs beside the API server if " + to + " needs it", func(ctx context.Context, l *Lab) error { return l.kine(ctx, to != "default") }},
			Step{"the worker runs a new pod and removes it, on " + to, func(ctx context.Context, l *Lab) error { return l.workerFollows(ctx, "on-"+to) }})
	}
	return append(steps, Step{"no old copy is left", func(ctx context.Context, l *Lab) error {
		message, err := l.jsonpath(ctx, "tenantcontrolplane", Demo, `{.status.conditions[?(@.type=="Migrating")].message}`)
		if err == nil && strings.Contains(message, "an old copy is in") {
			err = fmt.Errorf("the condition says %q", message)
		}
		return err
	}})
}

// kine looks for kine in every pod of Demo.
func (l *Lab) kine(ctx context.Context, want bool) error {
	return Until(ctx, "pods of the right kind", func() error {
		names, err := l.Kubectl(ctx, "-n", Namespace, "get", "pods", "-l", "kamaji.clastix.io/name="+Demo,
			"-o", `jsonpath={range .items[*]}{.metadata.name}:{.spec.initContainers[*].name}{"\n"}{end}`)
		if err != nil {
			return err
		}
		if pods, having := len(strings.Fields(names)), strings.Count(names, "kine"); pods == 0 || want && having != pods || !want && having > 0 {
			return fmt.Errorf("there are %q", names)
		}
		return nil
	})
}

// secondStore instantiates the lab's etcd once more, in a namespace of its own.
func secondStore(ctx context.Context, l *Lab) error {
	root, err := cache.Root()
	if err != nil {
		return err
	}
	manifests, err := l.Kubectl(ctx, "kustomize", filepath.Join(root, "config", "datastore", "lab"))
	if err != nil {
		return err
	}
	if err := l.Apply(ctx, l.Kubeconfig, lab.Another(manifests, "default", second)); err != nil {
		return err
	}
	return l.Condition(ctx, "", "datastore", second, "Ready")
}

// migrate names another DataStore, as a user does, and waits until the tenant has arrived. Meanwhile objects are written;
// each that was accepted must be there afterwards.
func (l *Lab) migrate(ctx context.Context, to string, annotations []string) error {
	for _, annotation := range annotations {
		if _, err := l.Kubectl(ctx, "-n", Namespace, "annotate", "--overwrite", "kamajicontrolplane", Demo, annotation); err != nil {
			return err
		}
	}
	writing := l.write(ctx, "to-"+to)
	patch := fmt.Sprintf(`{"spec":{"dataStoreName":%q}}`, to)
	if _, err := l.Kubectl(ctx, "-n", Namespace, "patch", "kamajicontrolplane", Demo, "--type=merge", "-p", patch); err != nil {
		return errors.Join(err, writing.stop(ctx))
	}
	err := Until(ctx, Demo+" to be in DataStore "+to, func() error {
		state, err := l.jsonpath(ctx, "tenantcontrolplane", Demo,
			`{.status.storage.dataStoreName} {.status.conditions[?(@.type=="Migrating")].reason} {.status.conditions[?(@.type=="Ready")].status}: {.status.conditions[?(@.type=="Migrating")].message}`)
		if err == nil && !strings.HasPrefix(state, to+" Migrated True") {
			err = fmt.Errorf("it is %q", state)
		}
		return err
	})
	if err := errors.Join(err, writing.stop(ctx)); err != nil {
		return err
	}
	events, err := l.Kubectl(ctx, "-n", Namespace, "get", "events", "--field-selector", "reason=Migrated,involvedObject.name="+Demo,
		"--sort-by", "metadata.creationTimestamp", "-o", "jsonpath={.items[-1:].message}")
	l.log.Print("%s", events)
	return errors.Join(err, l.NodesReady(ctx, Demo, 1))
}

// writing is a customer who creates one object after the other.
type writing struct {
	lab      *Lab
	prefix   string
	cancel   context.CancelFunc
	done     sync.WaitGroup
	accepted []string
}

func (l *Lab) write(ctx context.Context, prefix string) *writing {
	ctx, cancel := context.WithCancel(ctx)
	w := &writing{lab: l, prefix: prefix, cancel: cancel}
	w.done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("%s-%d-%d", prefix, time.Now().Unix(), i)
			if _, err := l.InTenant(ctx, Demo, "create", "configmap", name, "--request-timeout", "5s"); err == nil {
				w.accepted = append(w.accepted, name)
			}
		}
	})
	return w
}

// stop ends the writing and looks for everything that was accepted, then clears up.
func (w *writing) stop(ctx context.Context) error {
	w.cancel()
	w.done.Wait()
	names, err := w.lab.InTenant(ctx, Demo, "get", "configmaps", "-o", `jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}`)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for name := range strings.Lines(names + "\n") {
		have[strings.TrimSpace(name)] = true
	}
	var lost []string
	for _, name := range w.accepted {
		if !have[name] {
			lost = append(lost, name)
		}
	}
	if len(w.accepted) == 0 || len(lost) > 0 {
		return fmt.Errorf("of %d objects that were accepted these are gone: %v", len(w.accepted), lost)
	}
	_, err = w.lab.InTenant(ctx, Demo, append([]string{"delete", "configmap", "--wait=false"}, w.accepted...)...)
	return err
}

// workerFollows has the worker's kubelet see an object that is new, and its end. Both reach it by a watch.
func (l *Lab) workerFollows(ctx context.Context, name string) error {
	manifest := fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers:
  - {name: probe, image: kamaji.lab/toolbox:v1, imagePullPolicy: IfNotPresent, command: [sleep, infinity]}
`, name)
	if err := l.Apply(ctx, l.TenantKubeconfig(Demo), manifest); err != nil {
		return err
	}
	if _, err := l.InTenant(ctx, Demo, "wait", "--for=condition=Ready", "pod/"+name, "--timeout", patience.String()); err != nil {
		return err
	}
	_, err := l.InTenant(ctx, Demo, "delete", "pod", name, "--timeout", patience.String())
	return err
}
