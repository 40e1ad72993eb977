// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

const (
	// frozenTable holds, for each schema that is frozen, the token of the attempt.
	frozenTable = "`" + registry + "`.frozen"
	// killPoll is how often connections that were ended are looked for.
	killPoll = 20 * time.Millisecond
	// unauthenticated is the user of a connection that is being made.
	unauthenticated = "unauthenticated user"

	errNoThread = 1094
)

// Freeze implements storage.Mover. The tenant's user can't give itself rights. A
// connection keeps those that it had when it chose its database, so all that were
// there when they were taken away are ended.
func (s *store) Freeze(ctx context.Context, tenant storage.Tenant, token string) (string, error) {
	if err := s.admissible(tenant); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	owners, err := s.owners(ctx, tenant)
	if err != nil {
		return "", err
	}
	if owners["schema"] != tenant.Owner || owners["user"] != tenant.Owner {
		return "", storage.Errorf(storage.ReasonTaken, "schema %s and user %s are not those of %s", tenant.Schema, tenant.User, tenant.Owner)
	}
	if err := s.ensureTable(ctx, tenant); err != nil {
		return "", err
	}
	frozen, err := s.frozen(ctx, tenant, token)
	if err != nil {
		return "", err
	}
	if !frozen {
		if err := s.takeWrites(ctx, tenant, token); err != nil {
			return "", err
		}
		if frozen, err = s.frozen(ctx, tenant, token); err != nil {
			return "", err
		} else if !frozen {
			return "", storage.Errorf(storage.ReasonInternal, "user %s may still write to schema %s of DataStore %s; something else changes its rights",
				tenant.User, tenant.Schema, s.config.Name)
		}
	}
	if err := s.foreign(ctx, tenant); err != nil {
		return "", err
	}
	return s.seal(ctx, tenant)
}

// frozen reads back what takeWrites has written, of which the token came last.
func (s *store) frozen(ctx context.Context, tenant storage.Tenant, token string) (bool, error) {
	lines, err := s.grants(ctx, tenant.User)
	if err != nil {
		return false, err
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "GRANT USAGE ON *.* ") && !strings.HasPrefix(line, "GRANT SELECT ON "+pattern(tenant.Schema)+".* ") || strings.Contains(line, "GRANT OPTION") {
			return false, nil
		}
	}
	var held string
	err = s.db.QueryRowContext(ctx, "SELECT token FROM "+frozenTable+" WHERE name = ?", tenant.Schema).Scan(&held)
	n := number(err)
	switch {
	case errors.Is(err, sql.ErrNoRows), n == errNoTable, n == errNoDatabase:
		return false, nil
	case err != nil:
		return false, s.explain(err, "reading who holds schema "+tenant.Schema)
	}
	return held == token, nil
}

func (s *store) takeWrites(ctx context.Context, tenant storage.Tenant, token string) error {
	lines, err := s.grants(ctx, tenant.User)
	if err != nil {
		return err
	}
	user, doing := account(tenant.User), "freezing schema "+tenant.Schema
	statements := append(revokeRoles(lines, user),
		"REVOKE ALL PRIVILEGES, GRANT OPTION FROM "+user, "GRANT SELECT ON "+pattern(tenant.Schema)+".* TO "+user)
	if err := s.do(ctx, doing, statements...); err != nil {
		return err
	}
	if err := s.endConnections(ctx, tenant.User); err != nil {
		return err
	}
	err = s.do(ctx, doing, "CREATE DATABASE IF NOT EXISTS "+quoted(registry), "CREATE TABLE IF NOT EXISTS "+frozenTable+
		" (name VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, token VARCHAR(80) NOT NULL)")
	if err != nil {
		return err
	}
	if _, err := s.db.ExecContext(ctx, "REPLACE INTO "+frozenTable+" (name, token) VALUES (?, ?)", tenant.Schema, token); err != nil {
		return s.explain(err, doing)
	}
	return nil
}

// release takes the token away, before the tenant gets its rights back. It waits
// for an import under way.
func (s *store) release(ctx context.Context, schema string) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM "+frozenTable+" WHERE name = ?", schema)
	if n := number(err); err == nil || n == errNoTable || n == errNoDatabase {
		return nil
	}
	return s.explain(err, "ending the freeze of schema "+schema)
}

// endConnections ends those of a user that are there now, and returns when they
// are gone. One that is only being made may become the user's, and is waited for.
func (s *store) endConnections(ctx context.Context, user string) error {
	doing := "ending the connections of user " + user
	old, err := s.connections(ctx, user)
	if err != nil {
		return s.explain(err, doing)
	}
	for now := old; ; {
		open := false
		for id, who := range now {
			if _, was := old[id]; !was {
				continue
			}
			open = true
			if who != user {
				continue
			}
			if _, err := s.db.ExecContext(ctx, fmt.Sprintf("KILL %d", id)); err != nil && number(err) != errNoThread {
				return s.explain(err, doing)
			}
		}
		if !open {
			return nil
		}
		select {
		case <-ctx.Done():
			return s.explain(ctx.Err(), doing)
		case <-time.After(killPoll):
		}
		if now, err = s.connections(ctx, user); err != nil {
			return s.explain(err, doing)
		}
	}
}

// connections are those of a user, and those of which it is not yet known whose they are.
func (s *store) connections(ctx context.Context, user string) (out map[int64]string, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT id, user FROM information_schema.processlist WHERE user IN (?, ?)", user, unauthenticated)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Err(), rows.Close()) }()
	out = map[int64]string{}
	for rows.Next() {
		var id int64
		var who string
		if err := rows.Scan(&id, &who); err != nil {
			return nil, err
		}
		out[id] = who
	}
	return out, nil
}

// foreign looks for keys that a move would leave behind.
func (s *store) foreign(ctx context.Context, tenant storage.Tenant) error {
	var name sql.NullString
	err := s.db.QueryRowContext(ctx, "SELECT min(name) FROM "+tableOf(tenant)+" WHERE (name < ? OR name >= ?) AND name NOT IN (?, ?) AND name NOT LIKE ?",
		kine.Prefix, kine.End, kine.CompactKey, kine.APICompactKey, kine.GapPrefix+"%").Scan(&name)
	if err != nil {
		return s.explain(err, "reading the keys of schema "+tenant.Schema)
	}
	if name.Valid {
		return kine.Foreign(s.config.Name, tenant.Schema, name.String)
	}
	return nil
}

// seal is the last change and the number of rows. kine removes what has expired as
// the tenant, so while it is frozen nothing goes.
func (s *store) seal(ctx context.Context, tenant storage.Tenant) (string, error) {
	var rows, last int64
	if err := s.db.QueryRowContext(ctx, "SELECT count(*), coalesce(max(id), 0) FROM "+tableOf(tenant)).Scan(&rows, &last); err != nil {
		return "", s.explain(err, "counting the rows of schema "+tenant.Schema)
	}
	return fmt.Sprintf("%d rows, the last is %d", rows, last), nil
}

// revokeRoles are the statements that take the roles away that grants tell of.
func revokeRoles(lines []string, user string) []string {
	var out []string
	for _, line := range lines {
		if strings.HasPrefix(line, "GRANT ") && !strings.Contains(line, " ON ") {
			role, _, _ := strings.Cut(strings.TrimPrefix(line, "GRANT "), " TO ")
			out = append(out, "REVOKE "+role+" FROM "+user)
		}
	}
	return slices.Clip(out)
}
