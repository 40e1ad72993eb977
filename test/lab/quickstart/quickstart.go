// SPDX-License-Identifier: Apache-2.0

// Package quickstart is the main job on one machine: a management cluster, both providers by clusterctl, a gateway,
// hosts, and a Cluster whose worker joins; then proof of each property that matters. `make quickstart` runs it with a
// line per step, and the e2e suite runs the same steps as specs.
package quickstart

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cluster"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/hosts"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/repository"
)

const (
	// Domain of the lab's gateway. Nothing resolves it: workers pin it, kubeconfigs carry addresses.
	Domain = "k8s.example.com"
	// Version of Kubernetes that tenants run; the one the lab builds.
	Version = "v1.36.3"
	// Namespace of the Clusters and hosts.
	Namespace = "default"
	// Demo is the Cluster that stays when all is done.
	Demo = "demo"
	// Beside is the Cluster that comes and goes.
	Beside = "beside"

	podCIDR = "10.244.0.0/16"
	// patience bounds the wait for any one thing. A cold machine under load needs minutes for what usually takes seconds.
	patience = 8 * time.Minute
	// interval between two looks at something that is awaited.
	interval = 200 * time.Millisecond
)

// Step is one stage, in the order of All. The steps depend on those before them.
type Step struct {
	Name string
	Run  func(ctx context.Context, l *Lab) error
}

// Lab is what the steps share.
type Lab struct {
	// Public and Private are the gateway's addresses.
	Public, Private netip.Addr
	// Kubeconfig is the path of the management cluster's kubeconfig.
	Kubeconfig string

	log        *progress.Log
	programs   binaries.Set
	assets     string
	repository repository.Repository
	folder     string
	// blocked are the hosts that can't reach the public address at present.
	blocked []string
}

// New prepares a lab that reports to log.
func New(log *progress.Log) *Lab { return &Lab{log: log} }

// All are the steps of the quickstart, in order.
func All() []Step {
	return append(append(management(), tenant()...), neighbour()...)
}

// Prepare does the steps up to the point where Clusters can be created.
func (l *Lab) Prepare(ctx context.Context) error {
	for _, step := range management() {
		if err := l.log.Step(step.Name, func() error { return step.Run(ctx, l) }); err != nil {
			return fmt.Errorf("%s: %w", step.Name, err)
		}
	}
	return nil
}

// Run does all steps and says at the end what to do next. What exists already is kept, so that it can be run again.
func Run(ctx context.Context, log *progress.Log) error {
	start := time.Now()
	l := New(log)
	defer l.Close(context.WithoutCancel(ctx))
	for _, step := range All() {
		if err := log.Step(step.Name, func() error { return step.Run(ctx, l) }); err != nil {
			l.Explain(context.WithoutCancel(ctx))
			return fmt.Errorf("%s: %w", step.Name, err)
		}
	}
	log.Print("\nAll done in %.0f s.\n%s", time.Since(start).Seconds(), l.next())
	return nil
}

// Close takes back what only the steps themselves needed.
func (l *Lab) Close(ctx context.Context) {
	for _, name := range l.blocked {
		if err := hosts.Unblock(ctx, name, l.Public); err != nil {
			l.log.Print("unblocking %s on %s: %v", l.Public, name, err)
		}
	}
	l.blocked = nil
}

// Open finds the programs and files that every step needs.
func (l *Lab) Open(ctx context.Context) (err error) {
	if l.programs, err = binaries.Build(ctx, l.log); err != nil {
		return err
	}
	if l.assets, err = binaries.Assets(ctx, l.log); err != nil {
		return err
	}
	if l.Kubeconfig, err = cluster.Kubeconfig(); err != nil {
		return err
	}
	l.folder = filepath.Dir(l.Kubeconfig)
	if l.Public, err = cluster.PublicAddress(ctx); err != nil {
		return err
	}
	l.Private, err = cluster.PrivateAddress(ctx)
	return err
}

// tool is the path of a program. kubectl is one name of a program with many, so its link matters.
func (l *Lab) tool(name string) string {
	if name == "kubectl" {
		return filepath.Join(l.assets, name)
	}
	return l.programs.Path(name)
}

// Kubectl runs kubectl against the management cluster.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.kubectlWith(ctx, l.Kubeconfig, args...)
}

func (l *Lab) kubectlWith(ctx context.Context, kubeconfig string, args ...string) (string, error) {
	return command.Output(ctx, append([]string{l.tool("kubectl"), "--kubeconfig", kubeconfig}, args...)...)
}

// Apply applies YAML with a kubeconfig.
func (l *Lab) Apply(ctx context.Context, kubeconfig, manifest string) error {
	_, err := command.Command{
		Args:  []string{l.tool("kubectl"), "--kubeconfig", kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", "-"},
		Stdin: strings.NewReader(manifest),
	}.Output(ctx)
	return err
}

func (l *Lab) clusterctl(ctx context.Context, environment []string, args ...string) (string, error) {
	// Upgrades by several minors go through the releases that the lab can build.
	steps := "KAMAJI_UPGRADE_STEPS=" + strings.Join([]string{binaries.Earlier["1.34"], binaries.Earlier["1.35"]}, ",")
	// Each of the lab's nodes counts all processors of the one machine.
	starts := "KAMAJI_CONCURRENT_STARTS=" + strconv.Itoa(runtime.NumCPU())
	return command.Command{
		Args: append([]string{l.programs.Path("clusterctl"), "--config", l.repository.Config}, args...),
		Env:  append(append([]string{"KUBECONFIG=" + l.Kubeconfig, steps, starts}, l.repository.Environment...), environment...),
	}.Output(ctx)
}

// jsonpath reads one value of a management object, e.g. ("rackhost", "host-0", "{.status.phase}").
func (l *Lab) jsonpath(ctx context.Context, kind, name, path string) (string, error) {
	return l.Kubectl(ctx, "-n", Namespace, "get", kind, name, "-o", "jsonpath="+path)
}

// Until repeats look until it returns nil; the error is its last one.
func Until(ctx context.Context, what string, look func() error) error {
	return Every(ctx, interval, what, look)
}

// Every is Until with another interval between two looks, for those that cost something.
func Every(ctx context.Context, interval time.Duration, what string, look func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, err)
		case <-time.After(interval):
		}
	}
}

// Condition waits until an object's condition is True, and otherwise repeats what the condition says.
func (l *Lab) Condition(ctx context.Context, namespace, kind, name, condition string) error {
	return Until(ctx, fmt.Sprintf("%s of %s %s", condition, kind, name), func() error {
		path := fmt.Sprintf(`jsonpath={range .status.conditions[?(@.type==%q)]}{.status} {.reason}: {.message}{end}`, condition)
		state, err := l.Kubectl(ctx, "-n", namespace, "get", kind, name, "-o", path)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(state, "True") {
			return fmt.Errorf("%s is %q", condition, state)
		}
		return nil
	})
}

// Explain prints what a person would look at first.
func (l *Lab) Explain(ctx context.Context) {
	if l.Kubeconfig == "" {
		return
	}
	for _, args := range [][]string{
		{"get", "clusters,kamajicontrolplanes,tenantcontrolplanes,machines,rackmachines,rackhosts,kamajigateways,datastores", "-A", "-o", "wide"},
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "events", "-A", "--field-selector", "type=Warning", "--sort-by", ".lastTimestamp"},
	} {
		out, err := l.Kubectl(ctx, args...)
		l.log.Print("--- kubectl %s\n%s", strings.Join(args, " "), out)
		if err != nil {
			l.log.Print("%v", err)
		}
	}
}

func (l *Lab) next() string {
	return fmt.Sprintf(`
  export KUBECONFIG=%s PATH=%s:$PATH
  kubectl get clusters,machines,rackhosts        # the management cluster
  kubectl --kubeconfig %s get nodes      # the customer's view of %s
  clusterctl --config %s generate cluster another --flavor lab \
    --kubernetes-version %s --control-plane-machine-count 1 --worker-machine-count 0 | kubectl apply -f -
        (set KAMAJI_GATEWAY_DOMAIN=%s KAMAJI_GATEWAY_PRIVATE_ADDRESS=%s before; both hosts are %s's now)
  make quickstart-down                           # removes all of it`,
		l.Kubeconfig, filepath.Join(l.folder, "bin"), l.TenantKubeconfig(Demo), Demo, l.repository.Config, Version, Domain, l.Private, Demo)
}

// TenantKubeconfig is where the customer's kubeconfig of a Cluster is written.
func (l *Lab) TenantKubeconfig(name string) string {
	return filepath.Join(l.folder, name+".kubeconfig")
}

// tools puts kubectl and clusterctl where a person's PATH can have them.
func (l *Lab) tools() error {
	bin := filepath.Join(l.folder, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"kubectl", "clusterctl"} {
		link := filepath.Join(bin, name)
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.Symlink(l.tool(name), link); err != nil {
			return err
		}
	}
	return nil
}
