// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A probe leaves no connection behind: there are many tenants, and many probes before the first good answer.
func TestProbeClosesItsConnection(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{})
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v1/namespaces/default" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(http.StatusForbidden)
			}))
			server.EnableHTTP2 = h2
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					close(closed)
				}
			}
			server.StartTLS()
			defer server.Close()
			kubeconfig, err := clientcmd.Write(clientcmdapi.Config{
				Clusters: map[string]*clientcmdapi.Cluster{"c": {
					Server: server.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
				}},
				Contexts: map[string]*clientcmdapi.Context{"c": {Cluster: "c"}}, CurrentContext: "c",
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := ProbeAPI(t.Context(), kubeconfig); err == nil || err.Error() != "it answered 403 Forbidden" {
				t.Errorf("the probe says %v", err)
			}
			<-closed
		})
	}
}
