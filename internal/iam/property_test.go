package iam_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	yaml "go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/iam"
)

func TestTheDatabaseEqualsTheLastFilesWhateverCameBefore(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	rapid.Check(t, func(rt *rapid.T) {
		apply(t, store, none) // one database serves all sequences; each begins without files
		var before []string
		for range rapid.IntRange(1, 5).Draw(rt, "directories") {
			epochs := epochsOf(t, db.Control)
			g := generator{t: rt, keys: []string{"ESAKkey1", "ESAKkey2", "ESAKkey3"}}
			files := g.files()
			present := written(t, db.Control)
			differences, err := store.Diff(t.Context(), load(t, files))
			require.NoError(t, err)
			require.Equal(rt, present, written(t, db.Control), "a diff writes nothing")
			apply(t, store, files)
			require.ElementsMatch(rt, g.lines, held(t, store, db.Control))

			raised := epochsOf(t, db.Control)
			for id, epoch := range epochs {
				changed := !slices.Equal(about(id, before), about(id, g.lines))
				require.Equal(rt, changed, raised[id] > epoch, "account %s", id)
				require.Equal(rt, changed, slices.ContainsFunc(differences, func(d iam.Difference) bool { return concerns(d, id) }), "account %s", id)
			}

			rows := written(t, db.Control)
			require.False(rt, apply(t, store, files), "applied again")
			require.Equal(rt, rows, written(t, db.Control))
			before = g.lines
		}
	})
}

// generator draws a policy directory of few names, so that one overlaps the next, and says in lines what the database
// holds once it is applied.
type generator struct {
	t     *rapid.T
	keys  []string // not given to anybody yet
	lines []string
}

const trustPolicy = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":["acs:ram::9000000000000009:root"]}}]}`

var documents = map[string]string{"x": readAll, "y": strings.Replace(readAll, "Describe", "List", 1)}

func (g *generator) files() map[string]string {
	accounts := []any{}
	for _, id := range g.some("accounts", accountID, neighbour) {
		policies, names := []any{}, g.some("policies", "P", "Q", "R")
		for _, name := range names {
			policies = append(policies, g.policy(id, name))
		}
		users, userNames := []any{}, g.some("users", "a", "b", "c")
		for _, name := range userNames {
			users = append(users, g.user(id, name, names))
		}
		groups, roles := []any{}, []any{}
		for _, name := range g.some("groups", "g", "h") {
			groups = append(groups, g.group(id, name, userNames, names))
		}
		for _, name := range g.some("roles", "r", "s") {
			roles = append(roles, g.role(id, name, names))
		}
		accounts = append(accounts, map[string]any{
			"id": id, "name": "n", "accessKeys": g.accessKeys(id + "/"), "policies": policies, "users": users, "groups": groups, "roles": roles,
		})
	}
	content, err := yaml.Marshal(map[string]any{"accounts": accounts})
	require.NoError(g.t, err)
	return map[string]string{"a.yaml": string(content), "x.json": documents["x"], "y.json": documents["y"], "trust.json": trustPolicy}
}

func (g *generator) policy(accountID, name string) any {
	description, document := g.one("x", "y"), g.one("x", "y")
	g.line("policy %s/%s %s %s", accountID, name, description, documents[document])
	return map[string]string{"name": name, "description": description, "document": document + ".json"}
}

func (g *generator) user(accountID, name string, custom []string) any {
	displayName := g.one("x", "y")
	g.line("user %s/%s %s", accountID, name, displayName)
	return map[string]any{
		"name": name, "displayName": displayName, "accessKeys": g.accessKeys(accountID + "/" + name),
		"policies": g.attached(accountID, "user "+name, custom),
	}
}

func (g *generator) group(accountID, name string, users, custom []string) any {
	comments, members := g.one("x", "y"), g.some("members", users...)
	g.line("group %s/%s %s", accountID, name, comments)
	for _, user := range members {
		g.line("member %s/%s %s", accountID, name, user)
	}
	return map[string]any{"name": name, "comments": comments, "users": members, "policies": g.attached(accountID, "group "+name, custom)}
}

func (g *generator) role(accountID, name string, custom []string) any {
	description, seconds := g.one("x", "y"), g.one("3600", "43200")
	g.line("role %s/%s %s %s %s", accountID, name, description, seconds, trustPolicy)
	return map[string]any{
		"name": name, "description": description, "maxSessionSeconds": seconds, "trustPolicy": "trust.json",
		"policies": g.attached(accountID, "role "+name, custom),
	}
}

// attached is what somebody has, in no, one or both of the places that policies count in.
func (g *generator) attached(accountID, who string, custom []string) any {
	attached := []any{}
	for _, scope := range g.some("scopes", "", "default") {
		where := map[string]string{"default": "rg-default"}[scope]
		for _, policy := range g.some("system policies", "ReadOnlyAccess", "AdministratorAccess") {
			g.line("attachment %s/%s /%s %s", accountID, who, policy, where)
			attached = append(attached, map[string]string{"type": "System", "name": policy, "resourceGroup": scope})
		}
		for _, policy := range g.some("custom policies", custom...) {
			g.line("attachment %s/%s %s/%s %s", accountID, who, accountID, policy, where)
			attached = append(attached, map[string]string{"type": "Custom", "name": policy, "resourceGroup": scope})
		}
	}
	return attached
}

func (g *generator) accessKeys(owner string) any {
	keys := []any{}
	for _, id := range g.some("keys", g.keys...) {
		if len(keys) == 1 {
			break // leaves keys for others
		}
		g.keys = slices.DeleteFunc(slices.Clone(g.keys), func(key string) bool { return key == id })
		status, text := g.one("Active", "Inactive"), g.one("first-secret-0123456789", "second-secret-0123456789")
		g.line("key %s of %s %s %s", id, owner, status, text)
		keys = append(keys, map[string]string{"id": id, "status": status, "secret": text})
	}
	return keys
}

func (g *generator) line(format string, args ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

func (g *generator) one(of ...string) string { return rapid.SampledFrom(of).Draw(g.t, "one of") }

func (g *generator) some(label string, of ...string) []string {
	if len(of) == 0 {
		return nil
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, len(of), rapid.ID[string]).Draw(g.t, label)
}

// held is what came from files into the database, in the lines of a generator.
func held(t *testing.T, store *iam.Store, db *pgxpool.Pool) []string {
	t.Helper()
	rows, _ := db.Query(t.Context(), `
		          SELECT format('user %s/%s %s', account_id, name, display_name) FROM ram_user
		UNION ALL SELECT format('key %s of %s/%s %s', k.id, k.account_id, u.name, status)
		          FROM access_key k LEFT JOIN ram_user u ON u.id = k.user_id
		UNION ALL SELECT format('policy %s/%s %s %s', account_id, name, description, document)
		          FROM policy p JOIN policy_version v ON v.policy_id = p.id AND v.version = p.default_version
		          WHERE source <> 'system'
		UNION ALL SELECT format('group %s/%s %s', account_id, name, comments) FROM ram_group
		UNION ALL SELECT format('member %s/%s %s', g.account_id, g.name, u.name)
		          FROM ram_group_member m JOIN ram_user u ON u.id = m.user_id JOIN ram_group g ON g.id = m.group_id
		UNION ALL SELECT format('role %s/%s %s %s %s', account_id, name, description, max_session_seconds, trust_policy) FROM ram_role
		UNION ALL SELECT format('attachment %s/%s %s/%s %s', coalesce(u.account_id, g.account_id, r.account_id),
		                        coalesce('user ' || u.name, 'group ' || g.name, 'role ' || r.name), p.account_id, p.name, resource_group_id)
		          FROM policy_attachment a JOIN policy p ON p.id = a.policy_id
		          LEFT JOIN ram_user u ON u.id = a.user_id LEFT JOIN ram_group g ON g.id = a.group_id LEFT JOIN ram_role r ON r.id = a.role_id`)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for i, line := range lines {
		if id, isKey := strings.CutPrefix(line, "key "); isKey {
			key, err := store.Find(t.Context(), strings.Fields(id)[0])
			require.NoError(t, err)
			lines[i] += " " + key.Secret.Reveal()
		}
	}
	slices.Sort(lines)
	return lines
}

func about(accountID string, lines []string) []string {
	return slices.Sorted(func(yield func(string) bool) {
		for _, line := range lines {
			if strings.Contains(line, accountID) && !yield(line) {
				return
			}
		}
	})
}

func epochsOf(t *testing.T, db *pgxpool.Pool) map[string]int64 {
	t.Helper()
	rows, _ := db.Query(context.Background(), `SELECT id, policy_epoch FROM account`)
	epochs := map[string]int64{}
	var id string
	var epoch int64
	_, err := pgx.ForEachRow(rows, []any{&id, &epoch}, func() error {
		epochs[id] = epoch
		return nil
	})
	require.NoError(t, err)
	return epochs
}

// concerns reports whether a difference is about an account: a key that moves is about two.
func concerns(d iam.Difference, accountID string) bool {
	return d.AccountID == accountID || slices.ContainsFunc(d.Facts, func(f iam.Fact) bool { return f.Name == "account" && f.Before == accountID })
}
