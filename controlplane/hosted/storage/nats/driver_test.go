// SPDX-License-Identifier: Apache-2.0

package nats_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/nats"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

func open(t *testing.T, config storage.Config) storage.Driver {
	t.Helper()
	driver, err := nats.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := driver.Close(); err != nil {
			t.Error(err)
		}
	})
	return driver
}

// damage makes a mistake out of a change of the tenant's account.
func damage(server *storagetest.NATS, change func(*jwt.AccountClaims)) func(*testing.T, storage.Tenant) {
	return func(t *testing.T, tenant storage.Tenant) { server.Edit(t, tenant.Schema, change) }
}

// stranger is the public half of a key that signs for accounts.
func stranger(t *testing.T) string {
	t.Helper()
	key, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func harness(server *storagetest.NATS, driver storage.Driver) storagetest.Harness {
	return storagetest.Harness{
		Driver: driver, Store: server, UsersOfSchemas: true,
		Fingerprint: func(t *testing.T, tenant storage.Tenant) string {
			return server.Accounts(t)[tenant.Schema].Written.String()
		},
		Retire: damage(server, func(c *jwt.AccountClaims) {
			c.Tags = slices.DeleteFunc(c.Tags, func(tag string) bool { return strings.HasPrefix(tag, "retire:") })
			c.Tags.Add(fmt.Sprintf("retire:%d", time.Now().Add(-time.Minute).Unix()))
		}),
		Damage: map[string]func(*testing.T, storage.Tenant){
			"key lost":       damage(server, func(c *jwt.AccountClaims) { c.SigningKeys = nil }),
			"owner lost":     damage(server, func(c *jwt.AccountClaims) { c.Description = "" }),
			"limits lifted":  damage(server, func(c *jwt.AccountClaims) { c.Limits.Streams, c.Limits.Conn = -1, -1 }),
			"JetStream lost": damage(server, func(c *jwt.AccountClaims) { c.Limits.JetStreamLimits = jwt.JetStreamLimits{} }),
			"no connections": damage(server, func(c *jwt.AccountClaims) { c.Limits.Conn = 0 }),
			"expires":        damage(server, func(c *jwt.AccountClaims) { c.Expires = time.Now().Add(time.Hour).Unix() }),
			"users revoked":  damage(server, func(c *jwt.AccountClaims) { c.Revoke(jwt.All) }),
			"may do nothing": damage(server, func(c *jwt.AccountClaims) { c.DefaultPermissions.Pub.Deny.Add(">") }),
			"another's key": func(t *testing.T, tenant storage.Tenant) {
				server.Edit(t, tenant.Schema, func(c *jwt.AccountClaims) { c.SigningKeys.Add(stranger(t)) })
			},
			"data offered": damage(server, func(c *jwt.AccountClaims) {
				c.Limits.Exports, c.Limits.WildcardExports = -1, true
				c.Exports.Add(&jwt.Export{Name: "all", Subject: "$KV.>", Type: jwt.Stream})
			}),
			"account lost": func(t *testing.T, tenant storage.Tenant) { server.Delete(t, tenant.Schema) },
		},
	}
}

func TestContract(t *testing.T) {
	server := storagetest.StartNATS(t, 1)
	storagetest.Run(t, harness(server, open(t, server.Config)))
	for name := range server.Accounts(t) {
		if name != "SYS" {
			t.Errorf("the account of %s is left", name)
		}
	}
}

// Three servers, each tenant's data on all of them, and everybody has to show a
// certificate as well.
func TestContractInCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers")
	}
	server := storagetest.StartNATSWith(t, 3, strings.NewReplacer("tls: {", "tls: { verify: true,"))
	config := server.Config
	config.CAKey = server.CAKey
	replicated := *config.NATS
	replicated.Replicas, replicated.TenantStorage = 3, 64<<20
	config.NATS = &replicated
	h := harness(server, open(t, config))
	// A cluster starts no bucket again that has lost JetStream, before its servers are started again.
	delete(h.Damage, "JetStream lost")
	delete(h.Damage, "account lost")
	storagetest.Run(t, h)
	t.Run("replicas", func(t *testing.T) { moreReplicas(t, server, config) })
}

// moreReplicas puts the data of a tenant on more servers, and keeps it.
func moreReplicas(t *testing.T, server *storagetest.NATS, config storage.Config) {
	one := *config.NATS
	one.Replicas = 1
	three := config
	config.NATS = &one
	tenant := storage.Tenant{Owner: "ns/grows", Schema: "grows", User: "grows"}
	credentials := ensure(t, open(t, config), tenant)
	if err := server.Put(tenant, credentials, "/grows/a", "1"); err != nil {
		t.Fatal(err)
	}
	if err := open(t, three).EnsureTenant(t.Context(), tenant, credentials); err != nil {
		t.Fatal(err)
	}
	nc, err := server.Connect(credentials.Login)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_grows")
	if err != nil || stream.CachedInfo().Config.Replicas != 3 {
		t.Errorf("%v, %v", stream, err)
	}
	if got, err := server.Value(tenant, credentials, "/grows/a"); err != nil || got != "1" {
		t.Errorf("the data is %q, %v", got, err)
	}
}

// changed is a driver for a server with other settings.
func changed(t *testing.T, server *storagetest.NATS, change func(*storage.NATS)) storage.Driver {
	t.Helper()
	config, own := server.Config, *server.Config.NATS
	change(&own)
	config.NATS = &own
	return open(t, config)
}

// A stolen signing key can be replaced without a change for tenants.
func TestOperatorKeyChanges(t *testing.T) {
	server := storagetest.StartNATS(t, 1)
	tenant := storage.Tenant{Owner: "ns/it", Schema: "it", User: "it"}
	credentials := ensure(t, open(t, server.Config), tenant)
	nc, err := server.Connect(credentials.Login)
	if err != nil {
		t.Fatal(err)
	}
	before := server.Accounts(t)["it"].Issuer
	driver := changed(t, server, func(n *storage.NATS) { n.OperatorSeed = server.OtherSeed })
	if err := driver.EnsureTenant(t.Context(), tenant, credentials); err != nil {
		t.Fatal(err)
	}
	if after := server.Accounts(t)["it"].Issuer; after == before {
		t.Error("the account is still signed with the former key")
	}
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Errorf("the tenant's connection: %v", err)
	}
	if err := driver.DeleteTenant(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
}

func TestTooFewServers(t *testing.T) {
	server := storagetest.StartNATS(t, 1)
	driver := changed(t, server, func(n *storage.NATS) { n.Replicas = 3 })
	tenant := storage.Tenant{Owner: "ns/it", Schema: "it", User: "it"}
	credentials, err := driver.Credentials(tenant, storage.Credentials{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	err = driver.EnsureTenant(t.Context(), tenant, credentials)
	if storage.ReasonOf(err) != storage.ReasonUnreachable || !strings.Contains(err.Error(), "spec.nats.replicas") {
		t.Errorf("got %v", err)
	}
}

// One tenant can't fill the disks of all.
func TestTenantStorage(t *testing.T) {
	server := storagetest.StartNATS(t, 1)
	driver := changed(t, server, func(n *storage.NATS) { n.TenantStorage = 1 << 20 })
	tenant := storage.Tenant{Owner: "ns/it", Schema: "it", User: "it"}
	credentials := ensure(t, driver, tenant)
	for i := range 16 {
		// kine compresses.
		value := make([]byte, 64<<10)
		_, _ = rand.Read(value)
		if err := server.Put(tenant, credentials, fmt.Sprintf("/it/%d", i), hex.EncodeToString(value)); err != nil {
			if i < 4 {
				t.Errorf("value %d of 64 KiB: %v", i, err)
			}
			return
		}
	}
	t.Error("1 MiB and more fits into 1 MiB")
}

func ensure(t *testing.T, driver storage.Driver, tenant storage.Tenant) storage.Credentials {
	t.Helper()
	credentials, err := driver.Credentials(tenant, storage.Credentials{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := driver.EnsureTenant(t.Context(), tenant, credentials); err != nil {
		t.Fatal(err)
	}
	return credentials
}

// What a tenant can do with its login beyond kine's protocol.
func TestHostileTenant(t *testing.T) {
	server := storagetest.StartNATS(t, 1)
	driver := open(t, server.Config)
	victim, hostile := storage.Tenant{Owner: "ns/victim", Schema: "victim", User: "u"}, storage.Tenant{Owner: "ns/hostile", Schema: "hostile", User: "u"}
	theirs, mine := ensure(t, driver, victim), ensure(t, driver, hostile)
	nc, err := server.Connect(mine.Login)
	if err != nil {
		t.Fatal(err)
	}
	everything, err := nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Put(victim, theirs, "/victim/secret", "hidden"); err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("$KV.victim.secret", []byte("forged")); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, err := server.Value(victim, theirs, "/victim/secret"); err != nil || got != "hidden" {
		t.Errorf("the victim reads %q, %v", got, err)
	}
	for {
		message, err := everything.NextMsg(100 * time.Millisecond)
		if err != nil {
			break
		}
		if strings.Contains(string(message.Data), "hidden") {
			t.Errorf("the message %s of another reached it", message.Subject)
		}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "second"}); err == nil {
		t.Error("it makes another bucket")
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "mirror", Mirror: &jetstream.StreamSource{Name: "KV_victim"}}); err == nil {
		t.Error("it mirrors another's bucket")
	}
	for _, subject := range []string{"$SYS.REQ.CLAIMS.LIST", "$SYS.REQ.CLAIMS.PACK", "$SYS.REQ.SERVER.PING.VARZ", "$JS.API.ACCOUNT.PURGE.x"} {
		if answer, err := nc.Request(subject, nil, 200*time.Millisecond); err == nil && !strings.Contains(string(answer.Data), `"error"`) {
			t.Errorf("%s answers it: %s", subject, answer.Data)
		}
	}
}

// The connections of running pods must not end before the pods are replaced.
func TestRotationKeepsConnections(t *testing.T) {
	server := storagetest.StartNATS(t, 1)
	driver := open(t, server.Config)
	tenant := storage.Tenant{Owner: "ns/it", Schema: "it", User: "it"}
	first := ensure(t, driver, tenant)
	nc, err := server.Connect(first.Login)
	if err != nil {
		t.Fatal(err)
	}
	second := ensure(t, driver, tenant)
	for range 2 {
		if err := nc.Flush(); err != nil || !nc.IsConnected() {
			t.Fatalf("the connection of the first login: %v", err)
		}
		if err := driver.EnsureTenant(t.Context(), tenant, second); err != nil {
			t.Fatal(err)
		}
	}
	harness(server, driver).Retire(t, tenant)
	if err := driver.EnsureTenant(t.Context(), tenant, second); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(5 * time.Second); err == nil {
		t.Error("the connection outlives its login")
	}
	if keys := server.Accounts(t)["it"].SigningKeys; len(keys) != 2 {
		t.Errorf("the account has the keys %v, want the tenant's and the engine's", keys.Keys())
	}
}

func TestProbe(t *testing.T) {
	server, stranger := storagetest.StartNATS(t, 1), storagetest.StartNATS(t, 1)
	gone := "127.0.0.1:1"
	tenant := ensure(t, open(t, server.Config), storage.Tenant{Owner: "ns/it", Schema: "it", User: "it"})
	for name, c := range map[string]struct {
		change func(*storage.Config)
		want   storage.Reason
	}{
		"first member lost":         {func(c *storage.Config) { c.Endpoints = []string{gone, c.Endpoints[0]} }, ""},
		"nobody listens":            {func(c *storage.Config) { c.Endpoints = []string{gone} }, storage.ReasonUnreachable},
		"foreign authority":         {func(c *storage.Config) { c.CA = stranger.CA }, storage.ReasonTLSFailed},
		"foreign operator":          {func(c *storage.Config) { c.NATS.OperatorSeed = stranger.Config.NATS.OperatorSeed }, storage.ReasonPermissionDenied},
		"foreign user":              {func(c *storage.Config) { c.NATS.SystemCredentials = stranger.Config.NATS.SystemCredentials }, storage.ReasonPermissionDenied},
		"not of the system account": {func(c *storage.Config) { c.NATS.SystemCredentials = tenant.Login }, storage.ReasonInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			config, own := server.Config, *server.Config.NATS
			config.NATS = &own
			c.change(&config)
			err := open(t, config).Probe(t.Context())
			if (err != nil || c.want != "") && storage.ReasonOf(err) != c.want {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
	for name, c := range map[string]struct {
		from, to string
		want     storage.Reason
		says     string
	}{
		"small messages":    {"max_payload: 2MB", "", storage.ReasonInvalid, "max_payload: 2MB"},
		"no deletion":       {"allow_delete: true", "allow_delete: false", storage.ReasonInvalid, "allow_delete: true"},
		"nothing stored":    {"type: full", "type: mem", storage.ReasonInvalid, "resolver of type full"},
		"without JetStream": {`jetstream: { store_dir: "%[5]s/data" }`, "", storage.ReasonInvalid, "JetStream"},
	} {
		t.Run(name, func(t *testing.T) {
			other := storagetest.StartNATSWith(t, 1, strings.NewReplacer(c.from, c.to))
			err := open(t, other.Config).Probe(t.Context())
			if storage.ReasonOf(err) != c.want || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %s with %q, got %v", c.want, c.says, err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	server := storagetest.StartNATS(t, 1)
	for name, change := range map[string]func(*storage.Config){
		"basicAuth alone": func(c *storage.Config) { c.NATS, c.Username, c.Password = nil, "admin", "hunter2" },
		"a user's seed": func(c *storage.Config) {
			c.NATS.OperatorSeed = []byte("SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4")
		},
		"no seed":                func(c *storage.Config) { c.NATS.OperatorSeed = []byte("hunter2") },
		"credentials of nothing": func(c *storage.Config) { c.NATS.SystemCredentials = []byte("hunter2") },
	} {
		t.Run(name, func(t *testing.T) {
			config, own := server.Config, *server.Config.NATS
			config.NATS = &own
			change(&config)
			_, err := nats.Open(config)
			if storage.ReasonOf(err) != storage.ReasonInvalid || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "spec.nats") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	server := storagetest.StartNATS(t, 1)
	driver := open(t, server.Config)
	for _, schema := range []string{"a.b", strings.Repeat("x", 201)} {
		if _, err := driver.Credentials(storage.Tenant{Owner: "a/b", Schema: schema, User: "u"}, storage.Credentials{}, time.Now()); storage.ReasonOf(err) != storage.ReasonInvalid {
			t.Errorf("%q: %v", schema, err)
		}
	}
	credentials := ensure(t, driver, storage.Tenant{Owner: "a/b", Schema: strings.Repeat("x", 200), User: strings.Repeat("u", 253)})
	if printed := fmt.Sprintf("%v %+v %#v", credentials, credentials, credentials); strings.Contains(printed, "SEED") {
		t.Errorf("prints the seed: %s", printed)
	}
}
