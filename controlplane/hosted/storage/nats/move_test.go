// SPDX-License-Identifier: Apache-2.0

package nats_test

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

func TestMoverContract(t *testing.T) {
	from, to := storagetest.StartNATS(t, 1), storagetest.StartNATS(t, 1)
	storagetest.RunMover(t, storagetest.MoveHarness{
		Source: harness(from, open(t, from.Config)), Target: harness(to, open(t, to.Config)),
	})
}

// Three servers on each side, each with all data: one that is behind must not be
// believed, and connections are ended at all of them.
func TestMoverContractInCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts six servers")
	}
	side := func() (*storagetest.NATS, storagetest.Harness) {
		server := storagetest.StartNATS(t, 3)
		return server, harness(server, changed(t, server, func(n *storage.NATS) { n.Replicas = 3 }))
	}
	_, source := side()
	server, target := side()
	storagetest.RunMover(t, storagetest.MoveHarness{Source: source, Target: target})
	t.Run("jump", func(t *testing.T) { jumpsEverywhere(t, server, target.Driver.(storage.Mover)) })
}

// jumpsEverywhere looks at what each server has after a bucket has jumped.
func jumpsEverywhere(t *testing.T, server *storagetest.NATS, m storage.Mover) {
	tn := storage.Tenant{Owner: "a/jumps", Schema: "jumps", User: "jumps"}
	ensure(t, m, tn)
	if _, err := m.Freeze(t.Context(), tn, "x"); err != nil {
		t.Fatal(err)
	}
	if err := m.Raise(t.Context(), tn, 1<<40); err != nil {
		t.Fatal(err)
	}
	if err := m.Import(t.Context(), tn, "x", []storage.Entry{{Key: "k", Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	at, err := m.Position(t.Context(), tn)
	if err != nil || at.Revision < 1<<40 {
		t.Fatalf("at %d, %v", at.Revision, err)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		same := 0
		for _, s := range server.Servers {
			info, err := s.Jsz(&natsserver.JSzOptions{Accounts: true, Streams: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, account := range info.AccountDetails {
				for _, stream := range account.Streams {
					if stream.Name == "KV_jumps" && stream.State.LastSeq == uint64(at.Revision) && stream.State.Msgs == 3 {
						same++
					}
				}
			}
		}
		if same == len(server.Servers) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d servers are at %d", same, len(server.Servers), at.Revision)
		}
	}
}

// tenancy is a tenant with one key, and its connection.
type tenancy struct {
	server      *storagetest.NATS
	m           storage.Mover
	tn          storage.Tenant
	credentials storage.Credentials
	nc          *client.Conn
	js          jetstream.JetStream
}

func settle(t *testing.T, change func(*storage.NATS)) *tenancy {
	t.Helper()
	s := &tenancy{server: storagetest.StartNATS(t, 1), tn: storage.Tenant{Owner: "a/b", Schema: "s", User: "u"}}
	s.m = changed(t, s.server, change).(storage.Mover)
	s.credentials = ensure(t, s.m, s.tn)
	if err := s.server.Put(s.tn, s.credentials, "/s/a", "1"); err != nil {
		t.Fatal(err)
	}
	s.connect(t)
	return s
}

func (s *tenancy) connect(t *testing.T) {
	t.Helper()
	var err error
	if s.nc, err = s.server.Connect(s.credentials.Login); err != nil {
		t.Fatal(err)
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		t.Fatal(err)
	}
}

func (s *tenancy) freeze(t *testing.T) string {
	t.Helper()
	seal, err := s.m.Freeze(t.Context(), s.tn, "x")
	if err != nil {
		t.Fatal(err)
	}
	return seal
}

// Neither what a tenant holds beforehand nor what it asks for afterwards ends a freeze.
func TestFreezeCannotBeLifted(t *testing.T) {
	s := settle(t, func(*storage.NATS) {})
	before, waiting := s.nc, jetstream.ConsumerConfig{Durable: "mine", DeliverSubject: "mine", AckPolicy: jetstream.AckNonePolicy}
	stream, err := s.js.Stream(t.Context(), "KV_s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CreatePushConsumer(t.Context(), waiting); err != nil {
		t.Fatal(err)
	}
	seal := s.freeze(t)
	if err := before.FlushTimeout(5 * time.Second); err == nil {
		t.Error("a connection outlives the freeze")
	}
	s.connect(t)
	config := stream.CachedInfo().Config
	config.MaxAge = time.Hour
	settings, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	request := func(subject, body string) func() error {
		return func() error { _, err := s.nc.Request(subject, []byte(body), 300*time.Millisecond); return err }
	}
	for name, try := range map[string]func() error{
		"a value":             request("$KV.s.a", "1"),
		"a purge":             request("$JS.API.STREAM.PURGE.KV_s", ""),
		"deletion":            request("$JS.API.STREAM.DELETE.KV_s", ""),
		"a message's":         request("$JS.API.STREAM.MSG.DELETE.KV_s", `{"seq":1}`),
		"a snapshot put back": request("$JS.API.STREAM.RESTORE.KV_s", `{}`),
		"a purged account":    request("$JS.API.ACCOUNT.PURGE.x", ""),
		"other settings":      request("$JS.API.STREAM.UPDATE.KV_s", string(settings)),
		"another stream":      request("$JS.API.STREAM.CREATE.x", `{"name":"x"}`),
	} {
		if err := try(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if again := s.freeze(t); again != seal {
		t.Errorf("the seal %q became %q", seal, again)
	}
	// Servers answer to whatever subject a request names, also to one of the bucket.
	// What can't be refused does not go unnoticed.
	for _, subject := range []string{"$JS.API.STREAM.INFO.KV_s", "$JS.API.DIRECT.GET.KV_s.$KV.s." + kine.EncodeKey("/registry/a")} {
		if err := s.nc.PublishRequest(subject, "$KV.s."+kine.EncodeKey("/registry/a"), nil); err != nil {
			t.Fatal(err)
		}
		if err := request(subject, "")(); err != nil {
			t.Fatal(err)
		}
	}
	at, err := s.m.Position(t.Context(), s.tn)
	if err != nil {
		t.Fatal(err)
	}
	if again := s.freeze(t); (again != seal) != (at.Revision != 1) {
		t.Errorf("the revision is %d, and the seal %q became %q", at.Revision, seal, again)
	}
}

// What was interrupted is done again: the account takes no connections for a moment.
func TestInterruptedFreeze(t *testing.T) {
	s := settle(t, func(*storage.NATS) {})
	seal := s.freeze(t)
	interrupt := func() { s.server.Edit(t, "s", func(c *jwt.AccountClaims) { c.Limits.Conn = 0 }) }
	interrupt()
	if again := s.freeze(t); again != seal {
		t.Errorf("the seal %q became %q", seal, again)
	}
	for range 2 {
		interrupt()
		if err := s.m.EnsureTenant(t.Context(), s.tn, s.credentials); err != nil {
			t.Fatal(err)
		}
		if err := s.server.Put(s.tn, s.credentials, "/s/b", "2"); err != nil {
			t.Errorf("writing after the freeze: %v", err)
		}
	}
	at, err := s.m.Position(t.Context(), s.tn)
	if err != nil {
		t.Fatal(err)
	}
	// Two values, and one message that makes late ones come to nothing.
	if at.Revision != 4 {
		t.Errorf("the revision is %d", at.Revision)
	}
}

// An account of an earlier release has no key of the engine's before the next pass.
func TestMovesFromEarlierReleases(t *testing.T) {
	s := settle(t, func(*storage.NATS) {})
	token, err := jwt.ParseDecoratedJWT(s.credentials.Login)
	if err != nil {
		t.Fatal(err)
	}
	user, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	s.server.Edit(t, "s", func(c *jwt.AccountClaims) {
		c.SigningKeys = jwt.SigningKeys{}
		c.SigningKeys.Add(user.Issuer)
	})
	if at, err := s.m.Position(t.Context(), s.tn); err != nil || at.Revision != 1 {
		t.Errorf("position %+v, %v", at, err)
	}
	if err := s.nc.FlushTimeout(5 * time.Second); err != nil {
		t.Errorf("the tenant's connection: %v", err)
	}
	// It is nobody else's business.
	at, err := s.m.Position(t.Context(), storage.Tenant{Owner: "a/other", Schema: "s", User: "u"})
	if err != nil || at.Revision != 0 {
		t.Errorf("another's position: %+v, %v", at, err)
	}
}

// What is not as kine makes it is refused by name.
func TestRefusedBuckets(t *testing.T) {
	settings := func(change func(*jetstream.StreamConfig)) func(*testing.T, *tenancy) error {
		return func(t *testing.T, s *tenancy) error {
			stream, err := s.js.Stream(t.Context(), "KV_s")
			if err != nil {
				return err
			}
			config := stream.CachedInfo().Config
			change(&config)
			_, err = s.js.UpdateStream(t.Context(), config)
			return err
		}
	}
	value := func(key string, body []byte) func(*testing.T, *tenancy) error {
		return func(t *testing.T, s *tenancy) error {
			_, err := s.js.Publish(t.Context(), "$KV.s."+key, body)
			return err
		}
	}
	body, err := kine.Change{KV: &kine.KeyValue{Key: "/registry/b"}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		do   func(*testing.T, *tenancy) error
		want string
	}{
		"more subjects": {settings(func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "more.>") }), "settings"},
		"an age":        {settings(func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }), "settings"},
		"a listener": {settings(func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		}), "settings"},
		"another source": {settings(func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "other"}} }), "settings"},
		"another prefix": {value(kine.EncodeKey("/elsewhere/a"), body), `"/elsewhere/a"`},
		"another name":   {value("0", body), `"0"`},
		"another key":    {value(kine.EncodeKey("/registry/c"), body), `"/registry/c"`},
		"no kine's":      {value(kine.EncodeKey("/registry/c"), []byte("hello")), `"/registry/c"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := settle(t, func(*storage.NATS) {})
			if err := c.do(t, s); err != nil {
				t.Fatal(err)
			}
			if page, err := s.m.Page(t.Context(), s.tn, "", 10); err != nil || page.Last == "" {
				t.Errorf("whether there is something: %+v, %v", page, err)
			}
			_, err := s.m.Freeze(t.Context(), s.tn, "x")
			if err == nil {
				_, err = s.m.Page(t.Context(), s.tn, "", 10)
			}
			if !storage.IsPermanent(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
		})
	}
}

// A tenant that may store no more can leave, and one can't bring more than it may store.
func TestFullTenantMoves(t *testing.T) {
	s := settle(t, func(n *storage.NATS) { n.TenantStorage = 1 << 20 })
	value := make([]byte, 32<<10)
	_, _ = rand.Read(value)
	text := hex.EncodeToString(value)
	for i := 0; s.server.Put(s.tn, s.credentials, fmt.Sprintf("/s/%d", i), text) == nil; i++ {
		if i > 100 {
			t.Fatal("it never gets full")
		}
	}
	s.freeze(t)
	page, err := s.m.Page(t.Context(), s.tn, "", 500)
	if err != nil || len(page.Entries) < 10 {
		t.Fatalf("%d entries, %v", len(page.Entries), err)
	}
	if err := s.m.EnsureTenant(t.Context(), s.tn, s.credentials); err != nil {
		t.Errorf("back: %v", err)
	}
	s.freeze(t)
	for range 5 {
		if err = s.m.Import(t.Context(), s.tn, "x", page.Entries); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("more fits into a bucket that is held than into the tenant's")
	}
}

// An empty bucket jumps, one with keys has to be written to.
func TestRaiseJumps(t *testing.T) {
	s := settle(t, func(*storage.NATS) {})
	seal := s.freeze(t)
	if err := s.m.Raise(t.Context(), s.tn, 100_000_000); storage.ReasonOf(err) != storage.ReasonInvalid {
		t.Errorf("100 million revisions: %v", err)
	}
	if again := s.freeze(t); again != seal {
		t.Errorf("%q was written to: %q", seal, again)
	}
	fresh := storage.Tenant{Owner: "a/c", Schema: "c", User: "c"}
	ensure(t, s.m, fresh)
	if _, err := s.m.Freeze(t.Context(), fresh, "x"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []int64{1 << 40, 1<<40 + 10, 1 << 41} {
		if err := s.m.Raise(t.Context(), fresh, to); err != nil {
			t.Fatal(err)
		}
		if at, err := s.m.Position(t.Context(), fresh); err != nil || at.Revision < to {
			t.Errorf("raised to %d, at %d, %v", to, at.Revision, err)
		}
	}
	entry := []storage.Entry{{Key: "k", Value: []byte("1")}}
	if err := s.m.Import(t.Context(), fresh, "x", entry); err != nil {
		t.Fatal(err)
	}
	if err := s.m.Raise(t.Context(), fresh, 1<<41+5000); err != nil {
		t.Fatal(err)
	}
	if page, err := s.m.Page(t.Context(), fresh, "", 10); err != nil || len(page.Entries) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
}

// What has a time to live keeps what is left of it, and is gone afterwards.
func TestLeasesMove(t *testing.T) {
	s := settle(t, func(*storage.NATS) {})
	put := func(key string, lease int64) {
		body, err := kine.Change{Create: true, KV: &kine.KeyValue{Key: "/registry/" + key, Value: []byte("1"), Lease: lease}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.js.Publish(t.Context(), "$KV.s."+kine.EncodeKey("/registry/"+key), body); err != nil {
			t.Fatal(err)
		}
	}
	put("long", 3600)
	put("short", 1)
	page, err := s.m.Page(t.Context(), s.tn, "a", 10)
	for end := time.Now().Add(10 * time.Second); err == nil && len(page.Entries) > 1 && time.Now().Before(end); {
		page, err = s.m.Page(t.Context(), s.tn, "a", 10)
	}
	if err != nil || len(page.Entries) != 1 || page.Entries[0].TTL < 59*time.Minute || page.Entries[0].TTL > time.Hour || page.Last != "short" {
		t.Fatalf("page %+v, %v", page, err)
	}
	s.freeze(t)
	if err := s.m.Import(t.Context(), s.tn, "x", page.Entries); err != nil {
		t.Fatal(err)
	}
	if page, err = s.m.Page(t.Context(), s.tn, "a", 10); err != nil || len(page.Entries) != 1 || page.Entries[0].TTL < 59*time.Minute {
		t.Errorf("page %+v, %v", page, err)
	}
}
