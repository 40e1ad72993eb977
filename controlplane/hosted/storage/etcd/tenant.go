// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// claimPrefix holds who owns which schema and user. It does not begin with a
// slash, and all tenants' prefixes do, so no schema can be chosen that would
// let a tenant write here.
const claimPrefix = "kamaji.clastix.io/tenants/"

// deletePage bounds one deletion, so that removing a tenant with a million keys
// is many small Raft entries instead of one that stalls every other tenant.
const deletePage = 1000

// prefix is the range of keys that belongs to a schema. The apiserver of the
// tenant runs with --etcd-prefix=/<schema> and adds the second slash itself.
func prefix(schema string) (begin, end string) {
	begin = "/" + schema + "/"
	return begin, clientv3.GetPrefixRangeEnd(begin)
}

// EnsureTenant implements storage.Driver. It reads before it writes: for a
// tenant that is complete it costs three reads. The certificate among the
// credentials needs no record in etcd. The mark of a freeze goes before the right
// to write comes back, so that an import can't overtake the tenant.
func (d *driver) EnsureTenant(ctx context.Context, tenant storage.Tenant, _ storage.Credentials) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := d.claim(ctx, tenant); err != nil {
		return err
	}
	if err := d.ensureRole(ctx, tenant.Schema, clientv3.PermReadWrite); err != nil {
		return err
	}
	return d.ensureUser(ctx, tenant.User, tenant.Schema)
}

// admissible refuses the names that no tenant may have here: those reserved everywhere, and the administrator's, which its
// certificate decides. A tenant of that name would take the administrator's rights away, or its user with it.
func (d *driver) admissible(tenant storage.Tenant) error {
	if err := tenant.Validate(); err != nil {
		return err
	}
	if tenant.User == d.admin || tenant.Schema == d.admin {
		return storage.Errorf(storage.ReasonInvalid, "%q is the administrator of DataStore %s; give %s another schema and user",
			d.admin, d.config.Name, tenant.Owner)
	}
	return nil
}

// claim records the owner of the schema and of the user, or fails with
// ReasonTaken. Both records are written in one transaction.
func (d *driver) claim(ctx context.Context, tenant storage.Tenant) error {
	keys := claims(tenant)
	gets := []clientv3.Op{clientv3.OpGet(keys[0]), clientv3.OpGet(keys[1]), clientv3.OpGet(frozenKey(tenant.Schema), clientv3.WithCountOnly())}
	read, err := d.client.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return d.explain(err, "reading the owner of schema "+tenant.Schema)
	}
	var missing []string
	for i, r := range read.Responses[:len(keys)] {
		kvs := r.GetResponseRange().Kvs
		switch {
		case len(kvs) == 0:
			missing = append(missing, keys[i])
		case string(kvs[0].Value) != tenant.Owner:
			return taken(tenant, keys[i], string(kvs[0].Value))
		}
	}
	frozen := read.Responses[len(keys)].GetResponseRange().Count > 0
	if len(missing) == 0 && !frozen {
		return nil
	}
	var free []clientv3.Cmp
	puts := []clientv3.Op{clientv3.OpDelete(frozenKey(tenant.Schema))}
	for _, key := range missing {
		free = append(free, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
		puts = append(puts, clientv3.OpPut(key, tenant.Owner))
	}
	written, err := d.client.Txn(ctx).If(free...).Then(puts...).Commit()
	if err != nil {
		return d.explain(err, "claiming schema "+tenant.Schema)
	}
	if !written.Succeeded {
		return taken(tenant, missing[0], "another tenant, just now")
	}
	return nil
}

func claims(tenant storage.Tenant) [2]string {
	return [2]string{claimPrefix + "schemas/" + tenant.Schema, claimPrefix + "users/" + tenant.User}
}

func taken(tenant storage.Tenant, key, owner string) error {
	return storage.Errorf(storage.ReasonTaken, "%s is taken by %s; give %s another schema and user",
		key[len(claimPrefix):], owner, tenant.Owner)
}

// ensureRole leaves the role with exactly one permission. Anything wider that
// somebody added by hand is revoked, since a role is all that keeps tenants apart.
func (d *driver) ensureRole(ctx context.Context, role string, wanted authpb.Permission_Type) error {
	begin, end := prefix(role)
	got, err := d.client.RoleGet(ctx, role)
	switch {
	case errors.Is(err, rpctypes.ErrRoleNotFound):
		if _, err := d.client.RoleAdd(ctx, role); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
			return d.explain(err, "adding role "+role)
		}
		got = &clientv3.AuthRoleGetResponse{}
	case err != nil:
		return d.explain(err, "reading role "+role)
	}
	granted := false
	for _, p := range got.Perm {
		if string(p.Key) == begin && string(p.RangeEnd) == end {
			// Granting another kind for the same range replaces it at once.
			granted = p.PermType == wanted
			continue
		}
		_, err := d.client.RoleRevokePermission(ctx, role, string(p.Key), string(p.RangeEnd))
		if err != nil && !errors.Is(err, rpctypes.ErrPermissionNotGranted) {
			return d.explain(err, "revoking a foreign permission of role "+role)
		}
	}
	if granted {
		return nil
	}
	if _, err := d.client.RoleGrantPermission(ctx, role, begin, end, clientv3.PermissionType(wanted)); err != nil {
		return d.explain(err, "granting role "+role+" its prefix")
	}
	return nil
}

// ensureUser leaves the user with exactly one role and without a password.
func (d *driver) ensureUser(ctx context.Context, user, role string) error {
	got, err := d.client.UserGet(ctx, user)
	switch {
	case errors.Is(err, rpctypes.ErrUserNotFound):
		_, err := d.client.UserAddWithOptions(ctx, user, "", &clientv3.UserAddOptions{NoPassword: true})
		if err != nil && !errors.Is(err, rpctypes.ErrUserAlreadyExist) {
			return d.explain(err, "adding user "+user)
		}
		got = &clientv3.AuthUserGetResponse{}
	case err != nil:
		return d.explain(err, "reading user "+user)
	}
	granted := false
	for _, r := range got.Roles {
		if r == role {
			granted = true
			continue
		}
		if _, err := d.client.UserRevokeRole(ctx, user, r); err != nil && !errors.Is(err, rpctypes.ErrRoleNotGranted) {
			return d.explain(err, "revoking role "+r+" of user "+user)
		}
	}
	if granted {
		return nil
	}
	if _, err := d.client.UserGrantRole(ctx, user, role); err != nil {
		return d.explain(err, "granting role "+role+" to user "+user)
	}
	return nil
}

// DeleteTenant implements storage.Driver. The user goes first: without it
// nothing can write behind the deletion's back. The claim goes last, so that
// nobody else gets the schema before it is empty.
func (d *driver) DeleteTenant(ctx context.Context, tenant storage.Tenant) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	mine, err := d.owned(ctx, tenant)
	if err != nil {
		return err
	}
	keys := claims(tenant)
	if mine[1] {
		if _, err := d.client.UserDelete(ctx, tenant.User); err != nil && !errors.Is(err, rpctypes.ErrUserNotFound) {
			return d.explain(err, "deleting user "+tenant.User)
		}
		if _, err := d.client.Delete(ctx, keys[1]); err != nil {
			return d.explain(err, "releasing user "+tenant.User)
		}
	}
	if !mine[0] {
		return nil
	}
	if err := d.deleteKeys(ctx, tenant.Schema); err != nil {
		return err
	}
	if _, err := d.client.RoleDelete(ctx, tenant.Schema); err != nil && !errors.Is(err, rpctypes.ErrRoleNotFound) {
		return d.explain(err, "deleting role "+tenant.Schema)
	}
	if _, err := d.client.Txn(ctx).Then(clientv3.OpDelete(keys[0]), clientv3.OpDelete(frozenKey(tenant.Schema))).Commit(); err != nil {
		return d.explain(err, "releasing schema "+tenant.Schema)
	}
	return nil
}

// owned tells for schema and user whether they may be deleted: they are ours,
// or nobody has claimed them (a store that another version has filled).
func (d *driver) owned(ctx context.Context, tenant storage.Tenant) ([2]bool, error) {
	// The first call of a deletion, so a store that is gone is noticed here.
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var mine [2]bool
	for i, key := range claims(tenant) {
		got, err := d.client.Get(ctx, key)
		if err != nil {
			return mine, d.explain(err, "reading the owner of schema "+tenant.Schema)
		}
		mine[i] = len(got.Kvs) == 0 || string(got.Kvs[0].Value) == tenant.Owner
	}
	return mine, nil
}

func (d *driver) deleteKeys(ctx context.Context, schema string) error {
	for {
		if more, err := d.deletePage(ctx, schema); err != nil || !more {
			return err
		}
	}
}

func (d *driver) deletePage(ctx context.Context, schema string) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	begin, end := prefix(schema)
	page, err := d.client.Get(ctx, begin, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(deletePage))
	if err != nil {
		return false, d.explain(err, "listing the keys of schema "+schema)
	}
	if len(page.Kvs) == 0 {
		return false, nil
	}
	// The range end is exclusive: the smallest key behind the last one.
	last := string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	if _, err := d.client.Delete(ctx, begin, clientv3.WithRange(last)); err != nil {
		return false, d.explain(err, "deleting the keys of schema "+schema)
	}
	return page.More, nil
}
