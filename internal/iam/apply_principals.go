package iam

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// principalKind is a kind of principals that files may have.
type principalKind struct {
	name, kind string // in words, and of a Difference
	table      string
	digit      string // of ids, so that those of different kinds never meet
	columns    []column
}

// column is what a row holds of a principal beside its name, and what files call it.
type column struct{ fact, name string }

// The kinds, in the order they are put.
var (
	userKind  = principalKind{"user", KindUser, "ram_user", "2", []column{{"displayName", "display_name"}}}
	groupKind = principalKind{"group", KindGroup, "ram_group", "3", []column{{"comments", "comments"}}}
	roleKind  = principalKind{"role", KindRole, "ram_role", "4", []column{
		{"description", "description"}, {"trustPolicy", "trust_policy"}, {"maxSessionSeconds", "max_session_seconds"},
	}}
	principalKinds = []principalKind{userKind, groupKind, roleKind}
)

// holder names a principal, who holds policies.
type holder struct{ accountID, kind, name string }

// of returns the principals of a kind.
func (a account) of(kind principalKind) []principal {
	switch kind.name {
	case userKind.name:
		return a.users
	case groupKind.name:
		return a.groups
	}
	return a.roles
}

type storedPrincipal struct {
	ID, AccountID, Name, Source string
	Texts                       []string
}

// principals puts the principals of the files that are of a kind, and adds their ids to ids.
func (c *change) principals(ctx context.Context, files Files, kind principalKind, ids map[holder]string) error {
	var texts []string
	for _, column := range kind.columns {
		texts = append(texts, column.name+"::text")
	}
	rows, _ := c.tx.Query(ctx, `
		SELECT id, account_id, name, source, ARRAY[`+strings.Join(texts, ", ")+`] AS texts FROM `+kind.table+` WHERE account_id = ANY ($1)`,
		files.accountIDs())
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[storedPrincipal])
	if err != nil {
		return fmt.Errorf("read the %ss: %w", kind.name, err)
	}
	stored := map[holder]storedPrincipal{}
	for _, p := range found {
		stored[holder{p.AccountID, kind.name, p.Name}] = p
	}
	for _, a := range files.accounts {
		for _, p := range a.of(kind) {
			name := holder{a.id, kind.name, p.name}
			if ids[name], err = c.principal(ctx, kind, a.id, p, stored[name]); err != nil {
				return fmt.Errorf("%s: %s %s: %w", p.place, kind.name, p.name, err)
			}
		}
	}
	return nil
}

func (c *change) principal(ctx context.Context, kind principalKind, accountID string, p principal, have storedPrincipal) (id string, err error) {
	d := Difference{Change: Changed, Kind: kind.kind, AccountID: accountID, Name: p.name}
	for n, column := range kind.columns {
		before := ""
		if have.ID != "" {
			before = have.Texts[n]
		}
		d.Facts = append(d.Facts, facts(Fact{column.fact, before, p.texts[n]})...)
	}
	switch {
	case have.ID == "":
		d.Change = Created
		return c.newPrincipal(ctx, kind, d, p)
	case have.Source != "file":
		c.complain(p.place, "account %s has a %s %s that was made through the API: delete it there or use another name",
			accountID, kind.name, p.name)
	case d.Facts != nil:
		args, set := []any{have.ID}, ""
		for n, column := range kind.columns {
			args = append(args, p.texts[n])
			set += column.name + " = $" + strconv.Itoa(len(args)) + ", "
		}
		err = c.execute(ctx, d, `UPDATE `+kind.table+` SET `+set+`updated_at = now() WHERE id = $1`, args...)
	}
	return have.ID, err
}

func (c *change) newPrincipal(ctx context.Context, kind principalKind, d Difference, p principal) (id string, err error) {
	id = c.newID(kind.digit)
	args, names, values := []any{id, d.AccountID, p.name}, "", ""
	for n, column := range kind.columns {
		args = append(args, p.texts[n])
		names += ", " + column.name
		values += ", $" + strconv.Itoa(len(args))
	}
	err = c.execute(ctx, d, `
		INSERT INTO `+kind.table+` (id, account_id, name`+names+`, source) VALUES ($1, $2, $3`+values+`, 'file')`, args...)
	return id, err
}

// memberships puts users into the groups that the files say, and takes them out of those that files put them into before.
func (c *change) memberships(ctx context.Context, files Files, ids map[holder]string) error {
	users, groups := []string{}, []string{}
	for _, a := range files.accounts {
		for _, g := range a.groups {
			for _, user := range g.users {
				users = append(users, ids[holder{a.id, userKind.name, user}])
				groups = append(groups, ids[holder{a.id, groupKind.name, g.name}])
			}
		}
	}
	const told = `
		SELECT u.account_id, g.name, 'user ' || u.name FROM m JOIN ram_user u ON u.id = m.user_id JOIN ram_group g ON g.id = m.group_id`
	err := c.write(ctx, Created, KindMembership, `
		WITH m AS (
			INSERT INTO ram_group_member (user_id, group_id, source)
			SELECT user_id, group_id, 'file' FROM unnest($1::text[], $2::text[]) AS wanted (user_id, group_id)
			ON CONFLICT DO NOTHING
			RETURNING user_id, group_id)`+told, users, groups)
	if err != nil {
		return fmt.Errorf("put users into groups: %w", err)
	}
	err = c.write(ctx, Deleted, KindMembership, `
		WITH m AS (
			DELETE FROM ram_group_member m
			WHERE source = 'file' AND NOT EXISTS (
				SELECT FROM unnest($1::text[], $2::text[]) AS wanted (user_id, group_id)
				WHERE wanted.user_id = m.user_id AND wanted.group_id = m.group_id)
			RETURNING user_id, group_id)`+told, users, groups)
	if err != nil {
		return fmt.Errorf("take users out of groups: %w", err)
	}
	return nil
}

// dropPrincipals removes the principals that came from files and are in none any more, with what the API has given them.
func (c *change) dropPrincipals(ctx context.Context, kept map[holder]string) error {
	const gone = `source = 'file' AND id <> ALL ($1)`
	ids := append([]string{}, slices.Collect(maps.Values(kept))...) // never nil, which would be NULL to SQL
	for _, drop := range []struct{ kind, sql string }{
		{KindAccessKey, `
			DELETE FROM access_key k USING ram_user u WHERE u.id = k.user_id AND u.source = 'file' AND u.id <> ALL ($1)
			RETURNING u.account_id, k.id, 'user ' || u.name`},
		{KindAttachment, `
			WITH a AS (
				DELETE FROM policy_attachment WHERE principal_id IN (
					SELECT id FROM ram_user WHERE ` + gone + ` UNION ALL SELECT id FROM ram_group WHERE ` + gone + `
					UNION ALL SELECT id FROM ram_role WHERE ` + gone + `)
				RETURNING *)` + attachmentsTold},
		{KindMembership, `
			WITH m AS (
				DELETE FROM ram_group_member WHERE user_id IN (SELECT id FROM ram_user WHERE ` + gone + `)
					OR group_id IN (SELECT id FROM ram_group WHERE ` + gone + `)
				RETURNING user_id, group_id)
			SELECT u.account_id, g.name, 'user ' || u.name FROM m JOIN ram_user u ON u.id = m.user_id JOIN ram_group g ON g.id = m.group_id`},
		{KindUser, `DELETE FROM ram_user WHERE ` + gone + ` RETURNING account_id, name, ''`},
		{KindGroup, `DELETE FROM ram_group WHERE ` + gone + ` RETURNING account_id, name, ''`},
		{KindRole, `DELETE FROM ram_role WHERE ` + gone + ` RETURNING account_id, name, ''`},
	} {
		if err := c.write(ctx, Deleted, drop.kind, drop.sql, ids); err != nil {
			return fmt.Errorf("remove users, groups and roles: %w", err)
		}
	}
	return nil
}
