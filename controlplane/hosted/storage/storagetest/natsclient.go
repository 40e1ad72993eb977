// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

// session is a connection, and a channel that is closed when the server refuses
// something: to a client that waits for an answer that is silence.
type session struct {
	*nats.Conn
	mu      sync.Mutex
	refused chan struct{}
}

// patience ends with the next refusal.
func (s *session) patience() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	s.mu.Lock()
	refused := s.refused
	s.mu.Unlock()
	go func() {
		select {
		case <-refused:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (s *session) notice(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.refused)
		s.refused = make(chan struct{})
	}
}

// Connect logs in with a credentials file. Connections last until the test ends,
// or the server ends them.
func (n *NATS) Connect(file []byte) (*nats.Conn, error) {
	s, err := n.session(file)
	if err != nil {
		return nil, err
	}
	return s.Conn, nil
}

func (n *NATS) session(file []byte) (*session, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.clients[string(file)]; s != nil && s.IsConnected() {
		return s, nil
	}
	pair, err := tls.X509KeyPair(n.Config.Certificate, n.Config.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(n.certificate)
	s := &session{refused: make(chan struct{})}
	s.Conn, err = nats.Connect("nats://"+strings.Join(n.Config.Endpoints, ",nats://"), nats.UserCredentialBytes(file), nats.NoReconnect(),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}), nats.ErrorHandler(s.notice))
	if err != nil {
		return nil, err
	}
	n.clients[string(file)] = s
	return s, nil
}

// bucket opens the bucket that a key is in, and returns the key's name there.
func (s *session) bucket(ctx context.Context, key string) (jetstream.KeyValue, string, error) {
	js, err := jetstream.New(s.Conn)
	if err != nil {
		return nil, "", err
	}
	schema, rest, _ := strings.Cut(strings.TrimPrefix(key, "/"), "/")
	bucket, err := js.KeyValue(ctx, schema)
	return bucket, kine.EncodeKey(kine.Prefix + rest), err
}

// Put implements Store: as kine does.
func (n *NATS) Put(_ storage.Tenant, credentials storage.Credentials, key, value string) error {
	s, err := n.session(credentials.Login)
	if err != nil {
		return err
	}
	ctx, cancel := s.patience()
	defer cancel()
	bucket, name, err := s.bucket(ctx, key)
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
	s, err := n.session(credentials.Login)
	if err != nil {
		return "", err
	}
	ctx, cancel := s.patience()
	defer cancel()
	bucket, name, err := s.bucket(ctx, key)
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
