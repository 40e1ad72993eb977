// SPDX-License-Identifier: Apache-2.0

package quickstart

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcd says what the lab's etcd has of a tenant: keys, user and role, or nothing.
func (l *Lab) etcd(ctx context.Context, of leftovers) (string, error) {
	client, stop, err := l.dialEtcd(ctx)
	if err != nil {
		return "", err
	}
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var found []string
	keys, err := client.Get(ctx, "/"+of.schema+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return "", fmt.Errorf("counting keys: %w", err)
	}
	if keys.Count > 0 {
		found = append(found, fmt.Sprintf("%d keys", keys.Count))
	}
	users, err := client.UserList(ctx)
	if err != nil {
		return "", fmt.Errorf("listing users: %w", err)
	}
	if slices.Contains(users.Users, of.user) {
		found = append(found, "user "+of.user)
	}
	roles, err := client.RoleList(ctx)
	if err != nil {
		return "", fmt.Errorf("listing roles: %w", err)
	}
	if slices.ContainsFunc(roles.Roles, func(role string) bool { return strings.Contains(role, of.schema) }) {
		found = append(found, "a role of "+of.schema)
	}
	return strings.Join(found, ", "), nil
}

// dialEtcd reaches etcd-0 through kubectl port-forward, as root.
func (l *Lab) dialEtcd(ctx context.Context) (*clientv3.Client, func(), error) {
	config, err := l.etcdTLS(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	forward := exec.CommandContext(ctx, l.tool("kubectl"), "--kubeconfig", l.Kubeconfig, "-n", "kamaji-system", "port-forward", "--address", "127.0.0.1", "pod/etcd-0", ":2379")
	out, err := forward.StdoutPipe()
	if err != nil {
		cancel()
		return nil, nil, err
	}
	if err := forward.Start(); err != nil {
		cancel()
		return nil, nil, err
	}
	stop := func() { cancel(); _ = forward.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("forwarding a port to etcd-0: %w", err)
	}
	// "Forwarding from 127.0.0.1:40321 -> 2379"
	fields := strings.Fields(line)
	if len(fields) < 3 {
		stop()
		return nil, nil, fmt.Errorf("forwarding a port to etcd-0: %q", line)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + fields[2]}, TLS: config, DialTimeout: 10 * time.Second})
	if err != nil {
		stop()
		return nil, nil, err
	}
	return client, func() { _ = client.Close(); stop() }, nil
}

func (l *Lab) etcdTLS(ctx context.Context) (*tls.Config, error) {
	read := func(secret, key string) []byte {
		text, getErr := l.Kubectl(ctx, "-n", "kamaji-system", "get", "secret", secret, "-o", "jsonpath={.data."+strings.ReplaceAll(key, ".", `\.`)+"}")
		data, decodeErr := base64.StdEncoding.DecodeString(text)
		if errors.Join(getErr, decodeErr) != nil {
			return nil
		}
		return data
	}
	pair, err := tls.X509KeyPair(read("etcd-root-client", "tls.crt"), read("etcd-root-client", "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("reading Secret etcd-root-client: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(read("etcd-ca", "tls.crt")) {
		return nil, errors.New("Secret etcd-ca has no certificate")
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}
