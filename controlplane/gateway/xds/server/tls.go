// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/credentials"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// TLSFiles are the PEM files of the server's side of mutual TLS. They are read for each handshake, of which there is one per
// data plane every few hours, so that rotated certificates and authorities count at once.
type TLSFiles struct {
	// Cert and Key are the server's own, CA is what client certificates must be signed by.
	Cert, Key, CA string
}

// TLSFilesIn are the files of a Secret made by cert-manager, mounted at dir.
func TLSFilesIn(dir string) TLSFiles {
	return TLSFiles{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
}

// Config demands a client certificate and TLS 1.3: both sides are ours. It fails when the files can't be used now.
func (f TLSFiles) Config() (*tls.Config, error) {
	if _, err := f.load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.load() },
	}, nil
}

func (f TLSFiles) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("loading the xDS server's certificate: %w", err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("reading the authority of xDS clients: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading the authority of xDS clients: %s holds no certificate", f.CA)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}, nil
}

// reporting tells which client certificates were refused. Otherwise only the client would know, and it may be nobody's to look at.
type reporting struct {
	credentials.TransportCredentials
	log logr.Logger
}

// ServerHandshake is that of the credentials within.
func (r reporting) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := r.TransportCredentials.ServerHandshake(conn)
	var refused *tls.CertificateVerificationError
	if !errors.As(err, &refused) {
		return secured, info, err
	}
	reason := untrusted
	var invalid x509.CertificateInvalidError
	if errors.As(refused.Err, &invalid) && invalid.Reason == x509.Expired {
		reason = expired
	}
	refusals.WithLabelValues(reason).Inc()
	// The name is not verified: the certificate is not.
	name, notAfter := "", ""
	if len(refused.UnverifiedCertificates) > 0 {
		leaf := refused.UnverifiedCertificates[0]
		notAfter = leaf.NotAfter.UTC().Format(time.RFC3339)
		if gateway, err := route.GatewayOfIdentity(leaf.URIs); err == nil {
			name = gateway
		}
	}
	r.log.Info("refused the client certificate of a data plane, which keeps the routes it has", "reason", reason, "gateway", name,
		"client", conn.RemoteAddr().String(), "notAfter", notAfter, "error", refused.Error())
	return secured, info, err
}

// Clone keeps the reports.
func (r reporting) Clone() credentials.TransportCredentials {
	return reporting{r.TransportCredentials.Clone(), r.log}
}
