// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

func TestDeprecatedAPIs(t *testing.T) {
	config, c := testenv.Start(t, clientgoscheme.Scheme)
	server, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: config.Host, TLSServerName: server.Hostname(), CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := (&remote.Pool{}).Tenant(types.NamespacedName{Name: "t"}, kubeconfig, server.Host)
	if err != nil {
		t.Fatal(err)
	}
	statuses := remote.DeprecatedAPI{Version: "v1", Resource: "componentstatuses"}
	used := func() bool {
		t.Helper()
		apis, err := tenant.DeprecatedAPIs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(apis, statuses)
	}
	if used() {
		t.Error("ComponentStatuses are in use before anybody has asked for them")
	}
	if err := c.List(t.Context(), &corev1.ComponentStatusList{}); err != nil { //nolint:staticcheck // deprecated on purpose
		t.Fatal(err)
	}
	if !used() {
		t.Error("ComponentStatuses are not in use after somebody has asked for them")
	}
}

func TestDeprecatedAPIsOfNobody(t *testing.T) {
	status := http.StatusForbidden
	kubeconfig, _ := serve(t, &status)
	closed := func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
	tenant, err := (&remote.Pool{Dial: closed}).Tenant(types.NamespacedName{Name: "t"}, kubeconfig, "10.96.0.7:6443")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tenant.DeprecatedAPIs(t.Context()); err == nil || !strings.Contains(err.Error(), net.ErrClosed.Error()) {
		t.Errorf("error %v of a server that can't be reached", err)
	}
}
