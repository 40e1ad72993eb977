// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/provider"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// controlPlane measures from applying a Cluster to the first request that the customer's kubeconfig answers, beside the
// same pod with the same arguments, made by hand, from its creation to /readyz.
func controlPlane(ctx context.Context, l *quickstart.Lab) error {
	var ours, floors []float64
	for round := range rounds {
		name := fmt.Sprintf("bench-%d", round)
		manifest, err := l.Manifest(ctx, name, 0)
		if err != nil {
			return err
		}
		start := time.Now()
		if err := l.Apply(ctx, l.Kubeconfig, manifest); err != nil {
			return err
		}
		if err := firstAnswer(ctx, l, name); err != nil {
			return err
		}
		ours = append(ours, seconds(start))
		floor, err := byHand(ctx, l, name)
		if err != nil {
			return fmt.Errorf("measuring the floor: %w", err)
		}
		floors = append(floors, floor)
		if _, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "delete", "cluster", name, "--timeout", "5m"); err != nil {
			return err
		}
	}
	report("apply-to-customer-request", median(ours), "s", "same-pod-by-hand", median(floors), "<=1.5x", 1.5*median(floors))
	return nil
}

// firstAnswer waits until a request with the published kubeconfig succeeds. It asks without kubectl, whose own pauses
// between attempts would be part of the figure.
func firstAnswer(ctx context.Context, l *quickstart.Lab, name string) error {
	var published []byte
	return quickstart.Until(ctx, "an answer of "+name, func() error {
		if published == nil {
			encoded, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "secret", name+"-kubeconfig", "-o", "jsonpath={.data.value}")
			if err != nil {
				return err
			}
			if published, err = base64.StdEncoding.DecodeString(encoded); err != nil {
				return err
			}
		}
		return provider.ProbeAPI(ctx, published)
	})
}

// byHand pauses the tenant, stops its pod, and starts an identical one on an empty part of its storage.
func byHand(ctx context.Context, l *quickstart.Lab, name string) (float64, error) {
	pod, err := podOf(ctx, l, name)
	if err != nil {
		return 0, err
	}
	if _, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "annotate", "tenantcontrolplane", name, "kamaji.clastix.io/paused=true"); err != nil {
		return 0, err
	}
	if _, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "scale", "deployment", name, "--replicas", "0"); err != nil {
		return 0, err
	}
	if _, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "wait", "--for=delete", "pod/"+pod.Name, "--timeout", "5m"); err != nil {
		return 0, err
	}
	bare := bareCopy(pod, name+"-by-hand")
	manifest, err := yaml.Marshal(bare)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := l.Apply(ctx, l.Kubeconfig, string(manifest)); err != nil {
		return 0, err
	}
	var address string
	if err := quickstart.Until(ctx, "an address of the pod", func() (err error) {
		address, err = l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "pod", bare.Name, "-o", "jsonpath={.status.podIP}")
		if err == nil && address == "" {
			err = fmt.Errorf("it has none yet")
		}
		return err
	}); err != nil {
		return 0, err
	}
	// The node reaches pods; the loop runs there so that starting processes is no part of the figure.
	poll := fmt.Sprintf("until curl -skf -o /dev/null --max-time 1 https://%s:6443/readyz; do sleep 0.02; done", address)
	if err := command.Run(ctx, "docker", "exec", "kamaji-lab-control-plane", "timeout", "300", "sh", "-c", poll); err != nil {
		return 0, err
	}
	took := seconds(start)
	if _, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "delete", "pod", bare.Name, "--timeout", "5m"); err != nil {
		return 0, err
	}
	_, err = l.Kubectl(ctx, "-n", quickstart.Namespace, "annotate", "tenantcontrolplane", name, "kamaji.clastix.io/paused-")
	return took, err
}

// bareCopy has the containers and volumes of pod, nothing that ties it to a Deployment or node, and an empty etcd prefix.
func bareCopy(pod *corev1.Pod, name string) *corev1.Pod {
	spec := *pod.Spec.DeepCopy()
	spec.NodeName = ""
	for i := range spec.Containers {
		for _, list := range []*[]string{&spec.Containers[i].Args, &spec.Containers[i].Command} {
			for j, argument := range *list {
				if strings.HasPrefix(argument, "--etcd-prefix=") {
					(*list)[j] = strings.TrimSuffix(argument, "/") + "/by-hand"
				}
			}
		}
	}
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: pod.Namespace},
		Spec:       spec,
	}
}

// podOf is the control plane pod of a tenant.
func podOf(ctx context.Context, l *quickstart.Lab, name string) (*corev1.Pod, error) {
	text, err := l.Kubectl(ctx, "-n", quickstart.Namespace, "get", "pods", "-l", "kamaji.clastix.io/name="+name, "-o", "json")
	if err != nil {
		return nil, err
	}
	pods := &corev1.PodList{}
	if err := json.Unmarshal([]byte(text), pods); err != nil {
		return nil, fmt.Errorf("reading the pods of %s: %w", name, err)
	}
	if len(pods.Items) == 0 {
		return nil, fmt.Errorf("%s has no pod", name)
	}
	return &pods.Items[0], nil
}

// joinDocument is the kubeadm configuration of a worker, as a person would write it.
func joinDocument(token, endpoint, hash string) string {
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken:
    token: %s
    apiServerEndpoint: %s
    caCertHashes: [%s]
skipPhases: [preflight]
`, token, endpoint, hash)
}

// authority is the PEM certificate of the authority that a kubeconfig trusts.
func authority(l *quickstart.Lab, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(l.Kubeconfig), name+".kubeconfig"))
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		return nil, err
	}
	return config.CAData, nil
}
