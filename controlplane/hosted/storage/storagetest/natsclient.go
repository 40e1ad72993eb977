// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

// Connect logs in with a credentials file. Connections last until the test ends,
// or the server ends them.
func (n *NATS) Connect(file []byte) (*nats.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if nc := n.clients[string(file)]; nc != nil && nc.IsConnected() {
		return nc, nil
	}
	pair, err := tls.X509KeyPair(n.Config.Certificate, n.Config.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(n.certificate)
	nc, err := nats.Connect("nats://"+strings.Join(n.Config.Endpoints, ",nats://"), nats.UserCredentialBytes(file), nats.NoReconnect(),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err == nil {
		n.clients[string(file)] = nc
	}
	return nc, err
}

// bucket opens the bucket that a key is in, and returns the key's name there.
func (n *NATS) bucket(ctx context.Context, credentials storage.Credentials, key string) (jetstream.KeyValue, string, error) {
	nc, err := n.Connect(credentials.Login)
	if err != nil {
		return nil, "", err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, "", err
	}
	schema, rest, _ := strings.Cut(strings.TrimPrefix(key, "/"), "/")
	bucket, err := js.KeyValue(ctx, schema)
	return bucket, kine.EncodeKey(kine.Prefix + rest), err
}

// Put implements Store: as kine does.
func (n *NATS) Put(_ storage.Tenant, credentials storage.Credentials, key, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	bucket, name, err := n.bucket(ctx, credentials, key)
	if err != nil {
		return err
	}
	plain, err := kine.DecodeKey(name)
	if err != nil {
		return err
	}
	body, err := kine.Change{KV: &kine.KeyValue{Key: plain, Value: []byte(value)}, Create: true}.Encode()
	if err != nil {
		return err
	}
	_, err = bucket.Put(ctx, name, body)
	return err
}

// Value implements Store.
func (n *NATS) Value(_ storage.Tenant, credentials storage.Credentials, key string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	bucket, name, err := n.bucket(ctx, credentials, key)
	if err != nil {
		return "", err
	}
	entry, err := bucket.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	change, err := kine.DecodeChange(entry.Value())
	if err != nil {
		return "", err
	}
	return string(change.KV.Value), nil
}
