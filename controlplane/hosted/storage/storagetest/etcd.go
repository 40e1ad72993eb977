// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// Etcd is a real etcd process with TLS and client certificates, on loopback.
type Etcd struct {
	// Config reaches it as administrator root.
	Config storage.Config
	Authority
	cmd *exec.Cmd

	mu      sync.Mutex
	clients map[string]*clientv3.Client
}

// StartEtcd runs etcd until the test ends. Authentication is off at first.
func StartEtcd(t testing.TB) *Etcd {
	t.Helper()
	binary := filepath.Join(testenv.Assets(), "etcd")
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("no etcd in %q: run `make test`, or `go run ./test/lab assets` once", testenv.Assets())
	}
	dir := t.TempDir()
	e := &Etcd{Authority: NewAuthority(t), clients: map[string]*clientv3.Client{}}
	caPEM, caKeyPEM := e.CA, e.CAKey
	serverCert, serverKey := e.Certificate(t, "etcd")
	rootCert, rootKey := e.Certificate(t, "root")
	for name, content := range map[string][]byte{"ca.crt": caPEM, "server.crt": serverCert, "server.key": serverKey} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clientPort, peerPort := freePort(t), freePort(t)
	clientURL, peerURL := "https://127.0.0.1:"+clientPort, "http://127.0.0.1:"+peerPort
	out := &log{}
	e.cmd = exec.Command(binary, "--name=test", "--data-dir="+filepath.Join(dir, "data"),
		"--listen-client-urls="+clientURL, "--advertise-client-urls="+clientURL,
		"--listen-peer-urls="+peerURL, "--initial-advertise-peer-urls="+peerURL, "--initial-cluster=test="+peerURL,
		"--client-cert-auth", "--trusted-ca-file="+filepath.Join(dir, "ca.crt"),
		"--cert-file="+filepath.Join(dir, "server.crt"), "--key-file="+filepath.Join(dir, "server.key"),
		"--unsafe-no-fsync", "--log-level=fatal")
	e.cmd.Stderr = out
	if err := e.cmd.Start(); err != nil {
		t.Fatalf("starting etcd: %v", err)
	}
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Logf("etcd: %s", out.Tail())
		}
	})
	e.Config = storage.Config{
		Name: "test", Driver: "etcd", Endpoints: []string{"127.0.0.1:" + clientPort},
		CA: caPEM, CAKey: caKeyPEM, Certificate: rootCert, Key: rootKey,
	}
	client := e.Client(t, rootCert, rootKey)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		call, done := context.WithTimeout(ctx, time.Second)
		_, err := client.Get(call, "ready")
		done()
		if err == nil {
			return e
		}
		if ctx.Err() != nil {
			t.Fatalf("etcd does not answer: %v\n%s", err, out)
		}
	}
}

// Stop kills the process; nothing answers at its address afterwards.
func (e *Etcd) Stop() {
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for certificate, client := range e.clients {
		_ = client.Close()
		delete(e.clients, certificate)
	}
}

// Client connects with a certificate, until the process is stopped.
func (e *Etcd) Client(t testing.TB, certificate, key []byte) *clientv3.Client {
	t.Helper()
	client, err := e.dial(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// dial returns one client for each certificate, which lives as long as the process.
func (e *Etcd) dial(certificate, key []byte) (*clientv3.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if client, ok := e.clients[string(certificate)]; ok {
		return client, nil
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(e.certificate)
	endpoint := "https://" + e.Config.Endpoints[0]
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}},
	})
	if err == nil {
		e.clients[string(certificate)] = client
	}
	return client, err
}

// Put implements Store.
func (e *Etcd) Put(_ storage.Tenant, credentials storage.Credentials, key, value string) error {
	client, err := e.dial(credentials.Certificate, credentials.Key)
	if err != nil {
		return err
	}
	_, err = client.Put(context.Background(), key, value)
	return err
}

// Value implements Store.
func (e *Etcd) Value(_ storage.Tenant, credentials storage.Credentials, key string) (string, error) {
	client, err := e.dial(credentials.Certificate, credentials.Key)
	if err != nil {
		return "", err
	}
	got, err := client.Get(context.Background(), key)
	if err != nil || len(got.Kvs) == 0 {
		return "", err
	}
	return string(got.Kvs[0].Value), nil
}

// Keys implements Store. It returns -1 when etcd does not answer.
func (e *Etcd) Keys(prefix string) int {
	client, err := e.dial(e.Config.Certificate, e.Config.Key)
	if err != nil {
		return -1
	}
	got, err := client.Get(context.Background(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return -1
	}
	return int(got.Count)
}

// Revision counts the changes of users, roles and permissions.
func (e *Etcd) Revision(t testing.TB) uint64 {
	t.Helper()
	status, err := e.Client(t, e.Config.Certificate, e.Config.Key).AuthStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.AuthRevision
}
