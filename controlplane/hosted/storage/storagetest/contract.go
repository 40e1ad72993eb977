// SPDX-License-Identifier: Apache-2.0

// Package storagetest is what every storage.Driver must do, written once.
package storagetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// Store is the store under test, seen from outside the driver.
type Store interface {
	// Put and Value act as the tenant who holds the credentials. A key is a slash,
	// a schema, a slash, and the rest: where schemas are databases, the first part
	// says in which of them the rest is.
	Put(tenant storage.Tenant, credentials storage.Credentials, key, value string) error
	Value(tenant storage.Tenant, credentials storage.Credentials, key string) (string, error)
	// Keys counts the keys under a prefix, as an administrator. There are none in
	// a database that does not exist.
	Keys(prefix string) int
}

// Harness is a driver, the store behind it, and ways to damage a tenant there.
type Harness struct {
	Driver storage.Driver
	Store  Store
	// Damage maps the name of a mistake that an administrator could make to a
	// function that makes it. EnsureTenant must repair each.
	Damage map[string]func(t *testing.T, tenant storage.Tenant)
	// Retire makes former credentials end at the next EnsureTenant, in a store where
	// they are good for a while beside new ones. It is nil where they end at once.
	Retire func(t *testing.T, tenant storage.Tenant)
	// UsersOfSchemas is for a store whose users are within schemas, so that those of
	// two tenants can have the same name.
	UsersOfSchemas bool
	// Fingerprint changes whenever something about the tenant is written to the
	// store, even if it is what was there before. May be nil.
	Fingerprint func(t *testing.T, tenant storage.Tenant) string
}

// Run checks the contract against a store without tenants.
func Run(t *testing.T, h Harness) {
	t.Helper()
	t.Run("probe", func(t *testing.T) {
		if err := h.Driver.Probe(t.Context()); err != nil {
			t.Fatalf("a healthy store: %v", err)
		}
	})
	t.Run("lifecycle", h.lifecycle)
	t.Run("isolation", h.isolation)
	t.Run("claims", h.claims)
	t.Run("repair", h.repair)
	t.Run("credentials", h.credentials)
	t.Run("names", h.names)
	t.Run("many keys", h.manyKeys)
	t.Run("parallel", h.parallel)
}

func tenant(name string) storage.Tenant {
	return storage.Tenant{Owner: "ns/" + name, Schema: name + "-schema", User: name + "-user"}
}

func key(tn storage.Tenant, name string) string { return "/" + tn.Schema + "/" + name }

// up creates a tenant and returns its credentials; it is deleted at the end.
func (h Harness) up(t *testing.T, tn storage.Tenant) storage.Credentials {
	t.Helper()
	credentials, err := h.Driver.Credentials(tn, storage.Credentials{}, time.Now())
	if err != nil {
		t.Fatalf("credentials of %v: %v", tn, err)
	}
	if err := h.Driver.EnsureTenant(t.Context(), tn, credentials); err != nil {
		t.Fatalf("creating %v: %v", tn, err)
	}
	t.Cleanup(func() {
		if err := h.Driver.DeleteTenant(context.Background(), tn); err != nil {
			t.Errorf("deleting %v: %v", tn, err)
		}
	})
	return credentials
}

func (h Harness) lifecycle(t *testing.T) {
	tn := tenant("life")
	credentials := h.up(t, tn)
	before := ""
	if h.Fingerprint != nil {
		before = h.Fingerprint(t, tn)
	}
	if err := h.Driver.EnsureTenant(t.Context(), tn, credentials); err != nil {
		t.Fatalf("creating twice: %v", err)
	}
	if h.Fingerprint != nil {
		if diff := cmp.Diff(before, h.Fingerprint(t, tn)); diff != "" {
			t.Errorf("creating twice wrote to the store:\n%s", diff)
		}
	}
	if err := h.Store.Put(tn, credentials, key(tn, "a"), "1"); err != nil {
		t.Fatalf("writing as the tenant: %v", err)
	}
	if got, err := h.Store.Value(tn, credentials, key(tn, "a")); err != nil || got != "1" {
		t.Fatalf("reading as the tenant: %q, %v", got, err)
	}
	for _, attempt := range []string{"first", "second"} {
		if err := h.Driver.DeleteTenant(t.Context(), tn); err != nil {
			t.Fatalf("%s deletion: %v", attempt, err)
		}
	}
	if n := h.Store.Keys("/" + tn.Schema + "/"); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	if err := h.Store.Put(tn, credentials, key(tn, "a"), "2"); err == nil {
		t.Error("the credentials still work after the deletion")
	}
	h.up(t, tn)
	if n := h.Store.Keys("/" + tn.Schema + "/"); n != 0 {
		t.Errorf("a tenant of the same name finds %d keys", n)
	}
}

func (h Harness) isolation(t *testing.T) {
	one, two := tenant("one"), tenant("two")
	// A schema that begins with the other's name must not be within its reach.
	longer := storage.Tenant{Owner: "ns/longer", Schema: one.Schema + "-longer", User: "longer-user"}
	first, second, third := h.up(t, one), h.up(t, two), h.up(t, longer)
	if err := h.Store.Put(two, second, key(two, "secret"), "x"); err != nil {
		t.Fatal(err)
	}
	if err := h.Store.Put(longer, third, key(longer, "secret"), "x"); err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{key(two, "secret"), key(longer, "secret"), "/", "/other/x"} {
		if v, err := h.Store.Value(one, first, foreign); err == nil {
			t.Errorf("tenant one reads %s = %q", foreign, v)
		}
		if err := h.Store.Put(one, first, foreign, "y"); err == nil {
			t.Errorf("tenant one writes %s", foreign)
		}
	}
	if err := h.Driver.DeleteTenant(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if v, err := h.Store.Value(longer, third, key(longer, "secret")); err != nil || v != "x" {
		t.Errorf("deleting one tenant touched another: %q, %v", v, err)
	}
}

func (h Harness) claims(t *testing.T) {
	mine := tenant("mine")
	credentials := h.up(t, mine)
	if err := h.Store.Put(mine, credentials, key(mine, "a"), "1"); err != nil {
		t.Fatal(err)
	}
	thieves := map[string]storage.Tenant{
		"same schema": {Owner: "ns/thief", Schema: mine.Schema, User: "thief-user"},
		"same user":   {Owner: "ns/thief", Schema: "thief-schema", User: mine.User},
		"both":        {Owner: "ns/thief", Schema: mine.Schema, User: mine.User},
	}
	if h.UsersOfSchemas {
		delete(thieves, "same user")
	}
	for name, thief := range thieves {
		stolen, err := h.Driver.Credentials(thief, storage.Credentials{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		err = h.Driver.EnsureTenant(t.Context(), thief, stolen)
		if storage.ReasonOf(err) != storage.ReasonTaken || !storage.IsPermanent(err) {
			t.Errorf("%s: want a permanent %s, got %v", name, storage.ReasonTaken, err)
		}
		if err := h.Driver.DeleteTenant(t.Context(), thief); err != nil {
			t.Errorf("%s: a tenant that got nothing must still be deletable: %v", name, err)
		}
	}
	if v, err := h.Store.Value(mine, credentials, key(mine, "a")); err != nil || v != "1" {
		t.Errorf("the owner's data after the thieves are gone: %q, %v", v, err)
	}
}

func (h Harness) repair(t *testing.T) {
	for name, damage := range h.Damage {
		t.Run(name, func(t *testing.T) {
			tn := tenant("broken")
			credentials := h.up(t, tn)
			if err := h.Store.Put(tn, credentials, key(tn, "a"), "1"); err != nil {
				t.Fatal(err)
			}
			damage(t, tn)
			if err := h.Driver.EnsureTenant(t.Context(), tn, credentials); err != nil {
				t.Fatalf("repairing: %v", err)
			}
			if v, err := h.Store.Value(tn, credentials, key(tn, "a")); err != nil || v != "1" {
				t.Errorf("after the repair: %q, %v", v, err)
			}
			if v, err := h.Store.Value(tn, credentials, "/elsewhere/x"); err == nil {
				t.Errorf("after the repair the tenant reads elsewhere: %q", v)
			}
		})
	}
}

func (h Harness) credentials(t *testing.T) {
	tn := tenant("cred")
	now := time.Now()
	first := h.up(t, tn)
	same, err := h.Driver.Credentials(tn, first, now.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, same); diff != "" {
		t.Errorf("a day later other credentials:\n%s", diff)
	}
	renewed, err := h.Driver.Credentials(tn, first, now.Add(300*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Certificate) > 0 && cmp.Equal(first.Certificate, renewed.Certificate) {
		t.Error("not renewed in the last third of the life")
	}
	if first.Password != renewed.Password || !cmp.Equal(first.Login, renewed.Login) {
		t.Error("a password or login, which does not expire, was replaced")
	}
	other, err := h.Driver.Credentials(tenant("cred2"), first, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Certificate) > 0 && cmp.Equal(first.Certificate, other.Certificate) {
		t.Error("one tenant was given another's certificate")
	}
	if len(first.Login) > 0 && cmp.Equal(first.Login, other.Login) {
		t.Error("one tenant was given another's login")
	}
	if first.Password != "" || len(first.Login) > 0 {
		h.newPassword(t, tn, first)
	}
}

// newPassword replaces a password or login that somebody may have seen.
func (h Harness) newPassword(t *testing.T, tn storage.Tenant, first storage.Credentials) {
	second, err := h.Driver.Credentials(tn, storage.Credentials{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if second.Password == first.Password && cmp.Equal(second.Login, first.Login) {
		t.Fatal("the same password or login twice")
	}
	if err := h.Driver.EnsureTenant(t.Context(), tn, second); err != nil {
		t.Fatalf("with another password: %v", err)
	}
	if err := h.Store.Put(tn, second, key(tn, "a"), "2"); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	if h.Retire != nil {
		if err := h.Store.Put(tn, first, key(tn, "a"), "1"); err != nil {
			t.Errorf("the old one beside the new one: %v", err)
		}
		h.Retire(t, tn)
		if err := h.Driver.EnsureTenant(t.Context(), tn, second); err != nil {
			t.Fatalf("when the old one ends: %v", err)
		}
		if err := h.Store.Put(tn, second, key(tn, "a"), "2"); err != nil {
			t.Errorf("with the new password alone: %v", err)
		}
	}
	if err := h.Store.Put(tn, first, key(tn, "a"), "1"); err == nil {
		t.Error("the old password still works")
	}
}

func (h Harness) names(t *testing.T) {
	for _, bad := range []string{"", "a/b", "/", "root", "a b", "-a", "a;drop", "ü"} {
		for what, tn := range map[string]storage.Tenant{
			"schema": {Owner: "ns/x", Schema: bad, User: "x"}, "user": {Owner: "ns/x", Schema: "x", User: bad},
		} {
			if err := h.Driver.EnsureTenant(t.Context(), tn, storage.Credentials{}); storage.ReasonOf(err) != storage.ReasonInvalid {
				t.Errorf("%s %q: want %s, got %v", what, bad, storage.ReasonInvalid, err)
			}
			if _, err := h.Driver.Credentials(tn, storage.Credentials{}, time.Now()); err == nil {
				t.Errorf("%s %q: got credentials", what, bad)
			}
		}
	}
}

// manyKeys needs more than two pages of any reasonable size.
func (h Harness) manyKeys(t *testing.T) {
	tn := tenant("many")
	credentials := h.up(t, tn)
	for i := range 2100 {
		if err := h.Store.Put(tn, credentials, key(tn, fmt.Sprintf("k%05d", i)), "v"); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Driver.DeleteTenant(t.Context(), tn); err != nil {
		t.Fatal(err)
	}
	if n := h.Store.Keys("/" + tn.Schema + "/"); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func (h Harness) parallel(t *testing.T) {
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			tn := tenant(fmt.Sprintf("p%d", i))
			credentials := h.up(t, tn)
			if err := h.Store.Put(tn, credentials, key(tn, "a"), "1"); err != nil {
				t.Error(err)
			}
		})
	}
}
