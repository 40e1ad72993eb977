// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

const (
	// probeTimeout bounds one attempt. A tenant on the same machine answers in milliseconds; a sleeping gateway must not hold a worker.
	probeTimeout = 2 * time.Second
	// firstProbes and lastProbes are the least and the most time between two attempts to reach a tenant that has not
	// answered yet; nothing can wake us earlier.
	firstProbes, lastProbes = 200 * time.Millisecond, 15 * time.Second
	// probeShare of the time waited so far goes by until the next attempt, so that waiting costs at most 2 % more time
	// and a control plane that never answers costs next to nothing.
	probeShare = 50
)

// began is since when an answer can be expected: the pods became ready, or, while the engine reports none, kcp was made.
func began(kcp *controlplanev1.KamajiControlPlane, tenant *kamajiv1alpha1.TenantControlPlane) time.Time {
	if c := meta.FindStatusCondition(tenant.Status.Conditions, kamajiv1alpha1.WorkloadReadyCondition); c != nil && c.Status == metav1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return kcp.CreationTimestamp.Time
}

// untilNextProbe is the pause before the next attempt, given the time waited so far.
func untilNextProbe(waited time.Duration) time.Duration {
	return min(max(waited/probeShare, firstProbes), lastProbes)
}

// cause is what stood in the way, without the port on our side: it differs each time, and a condition that changes is a write.
func cause(err error) error {
	if connection, ok := errors.AsType[*net.OpError](err); ok {
		return &net.OpError{Op: connection.Op, Net: connection.Net, Addr: connection.Addr, Err: connection.Err}
	}
	return err
}

// ProbeAPI makes one authenticated request with a kubeconfig: it reads the namespace default.
// The error says what stood in the way: no route, an unknown authority, a missing permission.
// It asks once: client-go would repeat a request that a gateway without endpoints has closed.
func ProbeAPI(ctx context.Context, kubeconfig []byte) error {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	// A transport of its own: kept connections would outlive the probe, and there is one cache entry per tenant.
	config.Dial = (&net.Dialer{Timeout: probeTimeout}).DialContext
	api, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/api/v1/namespaces/"+metav1.NamespaceDefault, nil)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	// client-go's transport can't be told to close what it keeps.
	request.Close = true
	response, err := api.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %s", response.Status)
	}
	return nil
}
