// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// NATS is a real NATS in operator mode, with JetStream and TLS, on loopback. Its
// servers run in the test's process.
type NATS struct {
	// Config reaches it with a signing key of the operator.
	Config storage.Config
	Authority
	// Servers are all members.
	Servers []*server.Server
	// OtherSeed is that of the operator's other signing key.
	OtherSeed []byte
	// The operator's own key signs nothing but the operator's token.
	operator, signing nkeys.KeyPair
	// folders are where the servers store accounts.
	folders []string

	mu      sync.Mutex
	clients map[string]*nats.Conn
}

// natsConfig is what an administrator writes. Its values are addresses and files.
const natsConfig = `
server_name: "%[1]s"
listen: "127.0.0.1:%[2]s"
max_payload: 2MB
operator: "%[3]s"
system_account: "%[4]s"
resolver: { type: full, dir: "%[5]s/accounts", allow_delete: true, interval: "1s" }
resolver_preload: { %[4]s: "%[6]s" }
jetstream: { store_dir: "%[5]s/data" }
tls: { cert_file: "%[7]s/server.crt", key_file: "%[7]s/server.key", ca_file: "%[7]s/ca.crt" }
`

// StartNATS runs a number of servers, which form a cluster if there are several,
// until the test ends.
func StartNATS(t testing.TB, servers int) *NATS {
	t.Helper()
	return StartNATSWith(t, servers, strings.NewReplacer())
}

// StartNATSWith is StartNATS with changes to the configuration of each server.
func StartNATSWith(t testing.TB, servers int, changes *strings.Replacer) *NATS {
	t.Helper()
	dir := t.TempDir()
	n := &NATS{Authority: NewAuthority(t), clients: map[string]*nats.Conn{}, operator: newKey(t, nkeys.CreateOperator), signing: newKey(t, nkeys.CreateOperator)}
	certificate, private := n.Certificate(t, "nats")
	for name, content := range map[string][]byte{"ca.crt": n.CA, "server.crt": certificate, "server.key": private} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	operator, account, system, file := n.identities(t)
	n.Config = storage.Config{Name: "test", Driver: "NATS", CA: n.CA, Certificate: certificate, Key: private, NATS: &storage.NATS{OperatorSeed: seed(t, n.signing), SystemCredentials: file, Replicas: 1}}
	routes := make([]string, servers)
	for i := range routes {
		routes[i] = "127.0.0.1:" + freePort(t)
	}
	for i := range servers {
		port := freePort(t)
		folder := filepath.Join(dir, fmt.Sprint(i))
		text := fmt.Sprintf(changes.Replace(natsConfig), fmt.Sprintf("nats-%d", i), port, operator, account, folder, system, dir)
		if servers > 1 {
			text += fmt.Sprintf("\ncluster: { name: test, listen: %q, routes: [ nats://%s ] }\n", routes[i], strings.Join(routes, ", nats://"))
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.conf", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n.folders = append(n.folders, filepath.Join(folder, "accounts"))
		n.Servers = append(n.Servers, startNATS(t, path))
		n.Config.Endpoints = append(n.Config.Endpoints, "127.0.0.1:"+port)
	}
	n.wait(t)
	return n
}

func startNATS(t testing.TB, path string) *server.Server {
	t.Helper()
	options, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	options.NoSigs, options.NoLog = true, true
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS does not answer")
	}
	return s
}

// wait returns when a cluster has a leader for JetStream.
func (n *NATS) wait(t testing.TB) {
	t.Helper()
	if len(n.Servers) == 1 {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		for _, s := range n.Servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(n.Servers) {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal("the cluster finds no leader")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// identities makes what `nsc init` does: the operator's token, the system account
// and its token, and the credentials of a user in it.
func (n *NATS) identities(t testing.TB) (operator, account, system string, file []byte) {
	t.Helper()
	sys, signing, user := newKey(t, nkeys.CreateAccount), newKey(t, nkeys.CreateAccount), newKey(t, nkeys.CreateUser)
	account = public(t, sys)
	o := jwt.NewOperatorClaims(public(t, n.operator))
	o.Name, o.SystemAccount, o.StrictSigningKeyUsage = "test", account, true
	other := newKey(t, nkeys.CreateOperator)
	n.OtherSeed = seed(t, other)
	o.SigningKeys.Add(public(t, n.signing), public(t, other))
	a := jwt.NewAccountClaims(account)
	a.Name = "SYS"
	a.SigningKeys.Add(public(t, signing))
	u := jwt.NewUserClaims(public(t, user))
	u.Name, u.IssuerAccount = "kamaji", account
	file, err := jwt.FormatUserConfig(signed(t, u, signing), seed(t, user))
	if err != nil {
		t.Fatal(err)
	}
	return signed(t, o, n.operator), account, signed(t, a, n.signing), file
}

func newKey(t testing.TB, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	out, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func public(t testing.TB, k nkeys.KeyPair) string {
	t.Helper()
	out, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func seed(t testing.TB, k nkeys.KeyPair) []byte {
	t.Helper()
	out, err := k.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func signed(t testing.TB, claims jwt.Claims, by nkeys.KeyPair) string {
	t.Helper()
	out, err := claims.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Account is what a server has stored of an account.
type Account struct {
	*jwt.AccountClaims
	// Written is when it was stored last.
	Written time.Time
}

// Accounts are those that the first server has stored, by their names.
func (n *NATS) Accounts(t testing.TB) map[string]Account {
	t.Helper()
	out := map[string]Account{}
	err := filepath.WalkDir(n.folders[0], func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".jwt" {
			return err
		}
		token, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		claims, err := jwt.DecodeAccountClaims(string(token))
		if err == nil {
			out[claims.Name] = Account{AccountClaims: claims, Written: info.ModTime()}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Edit changes the account of a schema, as somebody with a key of the operator could.
func (n *NATS) Edit(t testing.TB, schema string, change func(*jwt.AccountClaims)) {
	t.Helper()
	claims := n.Accounts(t)[schema].AccountClaims
	if claims == nil {
		t.Fatalf("there is no account of schema %s", schema)
	}
	change(claims)
	n.Send(t, "$SYS.REQ.CLAIMS.UPDATE", signed(t, claims, n.signing))
}

// Delete makes all servers forget the account of a schema, and close its connections.
func (n *NATS) Delete(t testing.TB, schema string) {
	t.Helper()
	claims := jwt.NewGenericClaims(public(t, n.signing))
	claims.Data["accounts"] = []string{n.Accounts(t)[schema].Subject}
	n.Send(t, "$SYS.REQ.CLAIMS.DELETE", signed(t, claims, n.signing))
}

// Send asks something as the user of the system account, and waits until every
// server has done it.
func (n *NATS) Send(t testing.TB, subject, request string) {
	t.Helper()
	nc, err := n.Connect(n.Config.NATS.SystemCredentials)
	if err != nil {
		t.Fatal(err)
	}
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, []byte(request)); err != nil {
		t.Fatal(err)
	}
	for range n.Servers {
		answer, err := answers.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(answer.Data), `"code":200`) {
			t.Fatalf("%s: %s", subject, answer.Data)
		}
	}
}

// Keys implements Store. It returns -1 when the servers don't tell.
func (n *NATS) Keys(prefix string) int {
	keys := 0
	for _, s := range n.Servers {
		info, err := s.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
		if err != nil {
			return -1
		}
		for _, account := range info.AccountDetails {
			for _, stream := range account.Streams {
				if stream.Name == "KV_"+strings.Trim(prefix, "/") {
					keys = max(keys, stream.State.NumSubjects)
				}
			}
		}
	}
	return keys
}
