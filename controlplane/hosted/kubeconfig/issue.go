// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// AdminGroup is the group of the admin kubeconfig. A ClusterRoleBinding of the same
// name in the tenant gives it its rights.
const AdminGroup = "kubeadm:cluster-admins"

var (
	admin             = pki.Leaf{CommonName: "kubernetes-admin", Organization: []string{AdminGroup}, Usage: x509.ExtKeyUsageClientAuth}
	superAdmin        = pki.Leaf{CommonName: "kubernetes-super-admin", Organization: []string{"system:masters"}, Usage: x509.ExtKeyUsageClientAuth}
	controllerManager = pki.Leaf{CommonName: "system:kube-controller-manager", Usage: x509.ExtKeyUsageClientAuth}
	scheduler         = pki.Leaf{CommonName: "system:kube-scheduler", Usage: x509.ExtKeyUsageClientAuth}
)

// Issue returns the complete set of kubeconfig Secrets. Konnectivity is part of it
// when the input has a certificate for it.
func Issue(in Input) (Result, error) {
	ca, err := pki.ParseAuthority(in.CACert, in.CAKey)
	if err != nil {
		return Result{}, fmt.Errorf("authority for kubeconfigs: %w", err)
	}
	// The components are in the same pod as the API server that they use.
	local := endpoint.Server{Host: "127.0.0.1", Port: in.LocalPort}
	client, clientCA := in.Endpoint.Client, in.CACert
	if in.Public != nil {
		client, clientCA = *in.Public, nil
	}
	files := []struct {
		secret, key string
		cluster     clientcmdapi.Cluster
		leaf        pki.Leaf
	}{
		{Admin, AdminConf, cluster(client, clientCA), admin},
		{Admin, AdminService, cluster(in.Endpoint.Service, in.CACert), admin},
		{Admin, SuperAdminConf, cluster(client, clientCA), superAdmin},
		{Admin, SuperAdminService, cluster(in.Endpoint.Service, in.CACert), superAdmin},
		{ControllerManager, "controller-manager.conf", cluster(local, in.CACert), controllerManager},
		{Scheduler, "scheduler.conf", cluster(local, in.CACert), scheduler},
	}
	out := Result{Data: map[string]map[string][]byte{}}
	for _, f := range files {
		have := in.Existing[f.secret][f.key]
		data, due, why, err := file{in.Cluster, f.cluster, f.leaf}.renew(ca, have, in.Rotate[f.secret], in.Now)
		if err != nil {
			return Result{}, fmt.Errorf("%s in Secret %s: %w", f.key, f.secret, err)
		}
		if why != "" {
			out.Notes = append(out.Notes, pki.Note{Secret: f.secret, Change: why})
		}
		if out.Data[f.secret] == nil {
			out.Data[f.secret] = map[string][]byte{}
		}
		out.Data[f.secret][f.key] = data
		if !due.IsZero() && (out.NextRenewal.IsZero() || due.Before(out.NextRenewal)) {
			out.NextRenewal = due
		}
	}
	if len(in.KonnectivityCert) > 0 {
		data, err := render(in.Cluster, cluster(local, in.CACert), pki.KonnectivityUser, in.KonnectivityCert, in.KonnectivityKey)
		if err != nil {
			return Result{}, fmt.Errorf("kubeconfig in Secret %s: %w", Konnectivity, err)
		}
		out.Data[Konnectivity] = map[string][]byte{"konnectivity-server.conf": data}
	}
	out.Changed = changed(out.Data, in.Existing)
	return out, nil
}

// file is one kubeconfig as it should be.
type file struct {
	name    string
	cluster clientcmdapi.Cluster
	leaf    pki.Leaf
}

func cluster(server endpoint.Server, caCert []byte) clientcmdapi.Cluster {
	return clientcmdapi.Cluster{Server: server.URL(), TLSServerName: server.ServerName, CertificateAuthorityData: caCert}
}

// renew keeps the client certificate of an existing kubeconfig while it is good, and
// says why it doesn't. The rest is rendered anew, which gives the same bytes for the
// same contents.
func (f file) renew(ca *pki.Authority, have []byte, rotate bool, now time.Time) ([]byte, time.Time, pki.Change, error) {
	certPEM, keyPEM, _ := ClientCertificate(have)
	due, good := ca.Good(f.leaf, certPEM, keyPEM, now)
	why := pki.Change("")
	if !good || rotate {
		if why = pki.Why(certPEM, good, due, now); len(have) > 0 && len(certPEM) == 0 {
			why = pki.Repaired
		}
		var err error
		if certPEM, keyPEM, err = ca.Sign(f.leaf, now); err != nil {
			return nil, time.Time{}, why, err
		}
		due = ca.Due(certPEM)
	}
	data, err := render(f.name, f.cluster, f.leaf.CommonName, certPEM, keyPEM)
	if why == "" && !bytes.Equal(data, have) {
		why = pki.Reissued
	}
	return data, due, why, err
}

// For returns a kubeconfig for another identity: server and authorities are those of the present context of the
// kubeconfig like, the client certificate is signed by the authority (PEM). What have holds is kept while it is good; the
// time is when it is due for renewal, and the change is empty if nothing was done.
func For(like, caCert, caKey []byte, user string, groups []string, have []byte, now time.Time) ([]byte, time.Time, pki.Change, error) {
	config, err := clientcmd.Load(like)
	if err != nil {
		return nil, time.Time{}, "", fmt.Errorf("reading kubeconfig: %w", err)
	}
	current, ok := config.Contexts[config.CurrentContext]
	if !ok || config.Clusters[current.Cluster] == nil {
		return nil, time.Time{}, "", errors.New("the kubeconfig has no current context with a cluster")
	}
	ca, err := pki.ParseAuthority(caCert, caKey)
	if err != nil {
		return nil, time.Time{}, "", fmt.Errorf("authority for kubeconfigs: %w", err)
	}
	leaf := pki.Leaf{CommonName: user, Organization: groups, Usage: x509.ExtKeyUsageClientAuth}
	return file{name: current.Cluster, cluster: *config.Clusters[current.Cluster], leaf: leaf}.renew(ca, have, false, now)
}

// ClientCertificate returns the embedded certificate and key (PEM) of the current
// context's user. The error says what is missing.
func ClientCertificate(kubeconfig []byte) (certPEM, keyPEM []byte, err error) {
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	current, ok := config.Contexts[config.CurrentContext]
	if !ok {
		return nil, nil, errors.New("the kubeconfig has no current context")
	}
	user, ok := config.AuthInfos[current.AuthInfo]
	if !ok {
		return nil, nil, errors.New("the kubeconfig has no user")
	}
	return user.ClientCertificateData, user.ClientKeyData, nil
}

// Trusted are the certificates (PEM) that the kubeconfigs in the Secret Admin trust as authorities of the tenant; nil if
// they can't be read.
func Trusted(admin map[string][]byte) []byte {
	config, err := clientcmd.Load(admin[SuperAdminService])
	if err != nil {
		return nil
	}
	for _, c := range config.Clusters {
		return c.CertificateAuthorityData
	}
	return nil
}

func render(name string, server clientcmdapi.Cluster, user string, certPEM, keyPEM []byte) ([]byte, error) {
	current := user + "@" + name
	return clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: &server},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: {ClientCertificateData: certPEM, ClientKeyData: keyPEM}},
		Contexts:       map[string]*clientcmdapi.Context{current: {Cluster: name, AuthInfo: user}},
		CurrentContext: current,
	})
}

func changed(now, before map[string]map[string][]byte) []string {
	var out []string
	for secret, data := range now {
		have := before[secret]
		same := len(have) == len(data)
		for key, value := range data {
			same = same && bytes.Equal(have[key], value)
		}
		if !same {
			out = append(out, secret)
		}
	}
	slices.Sort(out)
	return out
}
