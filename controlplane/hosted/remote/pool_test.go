// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
)

// serve answers /readyz with status and returns a kubeconfig for a name that no
// resolver knows, and a dialler that leads there nevertheless.
func serve(t *testing.T, status *int) ([]byte, func(context.Context, string, string) (net.Conn, error)) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(*status)
	}))
	t.Cleanup(server.Close)
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{
		Server: "https://tenant.ns.svc:6443", TLSServerName: "example.com",
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	content, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	return content, func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "10.96.0.7:6443" {
			t.Errorf("dialled %s instead of the Service's address", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
}

func TestPool(t *testing.T) {
	status := http.StatusOK
	kubeconfig, dial := serve(t, &status)
	pool := &remote.Pool{Dial: dial}
	name := types.NamespacedName{Namespace: "ns", Name: "tenant"}
	tenant, err := pool.Tenant(name, kubeconfig, "10.96.0.7:6443")
	if err != nil {
		t.Fatal(err)
	}
	if err := tenant.Ready(t.Context()); err != nil {
		t.Errorf("a ready server: %v", err)
	}
	status = http.StatusInternalServerError
	var notReady *remote.NotReadyError
	if err := tenant.Ready(t.Context()); !errors.As(err, &notReady) || notReady.Status != status {
		t.Errorf("a starting server: %v", err)
	}

	same, err := pool.Tenant(name, kubeconfig, "10.96.0.7:6443")
	if err != nil || same != tenant {
		t.Errorf("the same input got another client (%v)", err)
	}
	moved, err := pool.Tenant(name, kubeconfig, "10.96.0.8:6443")
	if err != nil || moved == tenant {
		t.Errorf("another address got the same client (%v)", err)
	}
	pool.Forget(name)
	pool.Forget(name)
	again, err := pool.Tenant(name, kubeconfig, "10.96.0.8:6443")
	if err != nil || again == moved {
		t.Errorf("a forgotten tenant kept its client (%v)", err)
	}
	if _, err := pool.Tenant(name, []byte("no kubeconfig"), "10.96.0.8:6443"); err == nil {
		t.Error("a broken kubeconfig was accepted")
	}
}
