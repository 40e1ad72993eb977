// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// probeTimeout bounds one attempt. A tenant on the same machine answers in milliseconds; a sleeping gateway must not hold a worker.
const probeTimeout = 2 * time.Second

// ProbeAPI makes one authenticated request with a kubeconfig: it reads the namespace default.
// The error says what stood in the way: no route, an unknown authority, a missing permission.
func ProbeAPI(ctx context.Context, kubeconfig []byte) error {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.Timeout = probeTimeout
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	_, err = api.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
	return err
}
