// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/samples"
)

// bench is access to the management cluster, as its administrator, and to the metrics of the control-plane manager.
type bench struct {
	client client.Client
	raw    *kubernetes.Clientset
	token  string // reads the manager's metrics
}

// readers lets the benchmark's ServiceAccount read metrics.
const readers = "kamaji-bench-metrics"

func newBench(ctx context.Context, l *quickstart.Lab) (*bench, error) {
	config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 500, 1000
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := kamajiv1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	b := &bench{}
	if b.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if b.raw, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if err := b.makeNamespace(ctx); err != nil {
		return nil, err
	}
	return b, b.reader(ctx)
}

// reader makes an identity that may read metrics, and nothing else.
func (b *bench) reader(ctx context.Context) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: fleetNamespace, Name: readers}}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: readers}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: readers},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: readers},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: fleetNamespace, Name: readers}},
	}
	if err := b.client.Create(ctx, account); err != nil {
		return err
	}
	for _, object := range []client.Object{role, binding} {
		if err := b.client.Create(ctx, object); client.IgnoreAlreadyExists(err) != nil {
			return err
		}
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](7200)}}
	if err := b.client.SubResource("token").Create(ctx, account, request); err != nil {
		return err
	}
	b.token = request.Status.Token
	return nil
}

func (b *bench) close(ctx context.Context) {
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fleetNamespace}},
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: readers}}, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: readers}},
	} {
		if err := client.IgnoreNotFound(b.client.Delete(ctx, object)); err != nil {
			fmt.Fprintf(os.Stderr, "bench: deleting %T %s: %v\n", object, object.GetName(), err)
		}
	}
}

// costs are counters of the control-plane manager, and its memory.
type costs struct {
	cpu, writes, events, dataStoreWrites, memory float64
}

// costs reads what the manager has used so far: seconds of CPU, writing requests to the management cluster (its own Lease
// and Events not among them), Events about the fleet, writes of any kind to DataStores by anybody, and its proportional set size in MiB.
func (b *bench) costs(ctx context.Context) (costs, error) {
	pods := &corev1.PodList{}
	if err := b.client.List(ctx, pods, client.InNamespace("kamaji-system"), client.MatchingLabels{"app.kubernetes.io/name": "kamaji-controller-manager"}); err != nil {
		return costs{}, err
	}
	if len(pods.Items) != 1 {
		return costs{}, fmt.Errorf("%d managers run, want one", len(pods.Items))
	}
	metrics, err := command.Command{
		Args:  []string{"docker", "exec", "-i", "kamaji-lab-control-plane", "curl", "-skf", "-H", "@-", "https://" + pods.Items[0].Status.PodIP + ":8443/metrics"},
		Stdin: strings.NewReader("Authorization: Bearer " + b.token),
	}.Output(ctx)
	if err != nil {
		return costs{}, err
	}
	server, err := b.raw.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return costs{}, err
	}
	out := costs{
		cpu: samples.Sum(metrics, "process_cpu_seconds_total"),
		// Leases are renewed by PUT, everything else is applied or patched.
		writes: samples.Sum(metrics, "rest_client_requests_total", `host="10.96.0.1:443"`, `method="POST"`) +
			samples.Sum(metrics, "rest_client_requests_total", `host="10.96.0.1:443"`, `method="PATCH"`) +
			samples.Sum(metrics, "rest_client_requests_total", `host="10.96.0.1:443"`, `method="DELETE"`),
	}
	if out.events, err = b.events(ctx); err != nil {
		return costs{}, err
	}
	out.writes -= out.events
	for _, verb := range []string{"APPLY", "PATCH", "PUT", "POST"} {
		out.dataStoreWrites += samples.Sum(string(server), "apiserver_request_total", `resource="datastores"`, fmt.Sprintf("verb=%q", verb))
	}
	out.memory, err = pss(func(program, _ string) bool { return filepath.Base(program) == "controlplane-manager" })
	return out, err
}

// events is how many Events the manager has written about the fleet.
func (b *bench) events(ctx context.Context) (float64, error) {
	events := &eventsv1.EventList{}
	if err := b.client.List(ctx, events, client.InNamespace(fleetNamespace)); err != nil {
		return 0, err
	}
	told := 0
	for _, event := range events.Items {
		if strings.HasPrefix(event.ReportingController, "kamaji") {
			told++
		}
	}
	return float64(told), nil
}

// pods counts restarts of all containers, and the pods that were made, by the ReplicaSets' own count of names seen.
func (b *bench) pods(ctx context.Context) (restarts, created int, err error) {
	pods := &corev1.PodList{}
	if err := b.client.List(ctx, pods, client.InNamespace(fleetNamespace)); err != nil {
		return 0, 0, err
	}
	for _, pod := range pods.Items {
		for _, container := range pod.Status.ContainerStatuses {
			restarts += int(container.RestartCount)
		}
	}
	sets := &appsv1.ReplicaSetList{}
	if err := b.client.List(ctx, sets, client.InNamespace(fleetNamespace)); err != nil {
		return 0, 0, err
	}
	return restarts, max(len(pods.Items), len(sets.Items)), nil
}

// adminKubeconfig is what the engine made for a tenant's administrator.
func (b *bench) adminKubeconfig(ctx context.Context, name string) ([]byte, error) {
	secret := &corev1.Secret{}
	if err := b.client.Get(ctx, client.ObjectKey{Namespace: fleetNamespace, Name: name + "-admin-kubeconfig"}, secret); err != nil {
		return nil, err
	}
	return secret.Data["admin.conf"], nil
}

// still stops the pod of a tenant that is paused, and returns what it was.
func (b *bench) still(ctx context.Context, name string) (*corev1.Pod, error) {
	pods := &corev1.PodList{}
	if err := b.client.List(ctx, pods, client.InNamespace(fleetNamespace), client.MatchingLabels{"kamaji.clastix.io/name": name}); err != nil {
		return nil, err
	}
	if len(pods.Items) != 1 {
		return nil, fmt.Errorf("%s has %d pods, want one", name, len(pods.Items))
	}
	return &pods.Items[0], b.stop(ctx, name)
}

// stop scales a tenant's Deployment to zero until that has lasted: a pass of the engine that had begun before the pause may take it back.
func (b *bench) stop(ctx context.Context, name string) error {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: fleetNamespace, Name: name}}
	return quickstart.Until(ctx, name+" to have no pods", func() error {
		if err := b.client.Patch(ctx, deployment, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":0}}`))); err != nil {
			return err
		}
		if deployment.Status.ObservedGeneration != deployment.Generation || deployment.Status.Replicas > 0 {
			return fmt.Errorf("%d are left", deployment.Status.Replicas)
		}
		return nil
	})
}

func (b *bench) noPods(ctx context.Context) error {
	return quickstart.Until(ctx, "pods to be gone", func() error {
		pods := &corev1.PodList{}
		if err := b.client.List(ctx, pods, client.InNamespace(fleetNamespace)); err != nil {
			return err
		}
		if len(pods.Items) > 0 {
			return fmt.Errorf("%d are left", len(pods.Items))
		}
		return nil
	})
}

// ready returns an error while fewer than count pods of the fleet are Ready.
func (b *bench) ready(ctx context.Context, count int) error {
	pods := &corev1.PodList{}
	if err := b.client.List(ctx, pods, client.InNamespace(fleetNamespace)); err != nil {
		return err
	}
	found := 0
	for _, pod := range pods.Items {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				found++
			}
		}
	}
	if found < count {
		return fmt.Errorf("%d of %d are", found, count)
	}
	return nil
}
