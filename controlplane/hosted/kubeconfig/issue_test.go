// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/cert"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func input(t *testing.T) Input {
	t.Helper()
	certs, err := pki.Issue(pki.Input{Konnectivity: true, Now: start})
	if err != nil {
		t.Fatal(err)
	}
	in := Input{
		Cluster: "demo", LocalPort: 6443, Now: start,
		KonnectivityCert: certs.Data[pki.Konnectivity]["tls.crt"], KonnectivityKey: certs.Data[pki.Konnectivity]["tls.key"],
		Endpoint: endpoint.Endpoint{
			Client:  endpoint.Server{Host: "203.0.113.10", Port: 6443, ServerName: "demo.example.com"},
			Service: endpoint.Server{Host: "demo.tenants.svc", Port: 6443},
		},
	}
	in.CACert, in.CAKey = certs.Authority()
	return in
}

func TestIssueContents(t *testing.T) {
	got, err := Issue(input(t))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ secret, key, server, serverName, user, group string }{
		{Admin, AdminConf, "https://203.0.113.10:6443", "demo.example.com", "kubernetes-admin", AdminGroup},
		{Admin, AdminService, "https://demo.tenants.svc:6443", "", "kubernetes-admin", AdminGroup},
		{Admin, SuperAdminConf, "https://203.0.113.10:6443", "demo.example.com", "kubernetes-super-admin", "system:masters"},
		{Admin, SuperAdminService, "https://demo.tenants.svc:6443", "", "kubernetes-super-admin", "system:masters"},
		{ControllerManager, "controller-manager.conf", "https://127.0.0.1:6443", "", "system:kube-controller-manager", ""},
		{Scheduler, "scheduler.conf", "https://127.0.0.1:6443", "", "system:kube-scheduler", ""},
		{Konnectivity, "konnectivity-server.conf", "https://127.0.0.1:6443", "", "system:konnectivity-server", ""},
	}
	for _, tc := range cases {
		t.Run(tc.key, func(t *testing.T) {
			config, err := clientcmd.RESTConfigFromKubeConfig(got.Data[tc.secret][tc.key])
			if err != nil {
				t.Fatal(err)
			}
			if config.Host != tc.server || config.ServerName != tc.serverName {
				t.Errorf("server %s, name %q; want %s, %q", config.Host, config.ServerName, tc.server, tc.serverName)
			}
			certs, err := cert.ParseCertsPEM(config.CertData)
			if err != nil {
				t.Fatal(err)
			}
			group := ""
			if len(certs[0].Subject.Organization) > 0 {
				group = certs[0].Subject.Organization[0]
			}
			if certs[0].Subject.CommonName != tc.user || group != tc.group {
				t.Errorf("user %s in %q; want %s in %q", certs[0].Subject.CommonName, group, tc.user, tc.group)
			}
		})
	}
}

func TestIssueRenewal(t *testing.T) {
	base := input(t)
	first, err := Issue(base)
	if err != nil {
		t.Fatal(err)
	}
	every := []string{Admin, ControllerManager, Konnectivity, Scheduler}
	signed := []string{Admin, ControllerManager, Scheduler}
	if diff := cmp.Diff(every, first.Changed); diff != "" {
		t.Fatalf("a new tenant changes (-want +got):\n%s", diff)
	}
	cases := []struct {
		name   string
		change func(*Input)
		want   []string
	}{
		{"nothing", func(*Input) {}, nil},
		{"due", func(in *Input) { in.Now = start.Add(pki.LeafValidity - pki.LeafRenewBefore) }, signed},
		{"outside address", func(in *Input) { in.Endpoint.Client.Host = "203.0.113.11" }, []string{Admin}},
		{"server name", func(in *Input) { in.Endpoint.Client.ServerName = "other.example.com" }, []string{Admin}},
		{"port", func(in *Input) { in.LocalPort = 7443 }, []string{ControllerManager, Konnectivity, Scheduler}},
		{"rotate", func(in *Input) { in.Rotate = map[string]bool{Scheduler: true} }, []string{Scheduler}},
		{"lost", func(in *Input) { in.Existing = nil }, every},
		{"new authority", func(in *Input) {
			other, _ := pki.Issue(pki.Input{Now: start})
			in.CACert, in.CAKey = other.Authority()
		}, every},
		{"no konnectivity", func(in *Input) { in.KonnectivityCert, in.KonnectivityKey = nil, nil }, nil},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			in := base
			in.Existing = first.Data
			tc.change(&in)
			got, err := Issue(in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Changed); diff != "" {
				t.Errorf("changed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddressChangeKeepsCertificate(t *testing.T) {
	in := input(t)
	first, err := Issue(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Existing = first.Data
	in.Endpoint.Client.Host = "203.0.113.11"
	second, err := Issue(in)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := ClientCertificate(first.Data[Admin][AdminConf])
	after, _, _ := ClientCertificate(second.Data[Admin][AdminConf])
	if !cmp.Equal(before, after) {
		t.Error("a new address replaced the certificate, too")
	}
}

func TestPublicName(t *testing.T) {
	in := input(t)
	in.Public = &endpoint.Server{Host: "www.example.com", Port: 6443}
	got, err := Issue(in)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{AdminConf: "https://www.example.com:6443", AdminService: "https://demo.tenants.svc:6443"} {
		config, err := clientcmd.RESTConfigFromKubeConfig(got.Data[Admin][key])
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != want || config.ServerName != "" || (len(config.CAData) == 0) != (key == AdminConf) {
			t.Errorf("%s: server %s, name %q, %d bytes of authorities", key, config.Host, config.ServerName, len(config.CAData))
		}
	}
}
