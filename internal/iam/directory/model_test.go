package directory_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/iam/directory"
)

// model is what the directory of one account should hold, kept in the plainest way.
type model struct {
	users, groups, roles map[string]bool
	keys                 map[string][]string // of users
	members              map[[2]string]bool  // user, group
	policies             map[string]*modelPolicy
	scopes               map[string]string // resource groups' ids by name
	attached             map[modelAttachment]bool
}

type modelPolicy struct {
	inForce, last int
	versions      map[int]string
}

type modelAttachment struct{ kind, name, policyType, policy, scope string }

func newModel() *model {
	return &model{
		map[string]bool{},
		map[string]bool{},
		map[string]bool{},
		map[string][]string{},
		map[[2]string]bool{},
		map[string]*modelPolicy{},
		map[string]string{},
		map[modelAttachment]bool{},
	}
}

func (m *model) hasPolicy(kind, name string) bool {
	return m.any(func(a modelAttachment) bool { return a.kind == kind && a.name == name })
}

func (m *model) any(is func(modelAttachment) bool) bool {
	for a := range m.attached {
		if is(a) {
			return true
		}
	}
	return false
}

func (m *model) inGroup(is func(user, group string) bool) bool {
	for member := range m.members {
		if is(member[0], member[1]) {
			return true
		}
	}
	return false
}

// first is the code of the first refusal that applies, "" when none does.
func first(refusals ...refusal) string {
	for _, r := range refusals {
		if r.applies {
			return r.code
		}
	}
	return ""
}

type refusal struct {
	applies bool
	code    string
}

// player draws changes, makes them and says what the model makes of them.
type player struct {
	*rapid.T
	*world
	*model
	account string
}

func (p *player) one(label string, of ...string) string {
	return rapid.SampledFrom(of).Draw(p.T, label)
}

// change returns the code that the directory should refuse with, and what it said.
func (p *player) change(ctx context.Context) (want string, got error) {
	user, group, role, policy := p.one("user", "a", "b"), p.one("group", "g", "h"), "r", p.one("policy", "p", "p", "p", "q")
	switch p.one("change", "user", "rename", "-user", "group", "-group", "role", "-role", "key", "-key", "+member", "-member",
		"policy", "policy", "policy", "policy", "policy", "policy", "policy", "policy", "policy", "policy", "attach", "attach", "attach", "detach", "scope", "-scope") {
	case "user":
		_, err := p.CreateUser(ctx, p.account, directory.User{Name: user})
		return p.make(p.users, user, "User"), err
	case "rename":
		to := p.one("to", "a", "b", "c")
		_, err := p.UpdateUser(ctx, p.account, user, directory.UserChange{Name: &to})
		return p.rename(user, to), err
	case "-user":
		return p.remove(p.users, user, "User", refusal{p.inGroup(func(u, _ string) bool { return u == user }), "DeleteConflict.User.Group"},
			refusal{len(p.keys[user]) > 0, "DeleteConflict.User.AccessKey"}), p.DeleteUser(ctx, p.account, user)
	case "group":
		_, err := p.CreateGroup(ctx, p.account, group, "")
		return p.make(p.groups, group, "Group"), err
	case "-group":
		return p.remove(p.groups, group, "Group",
			refusal{p.inGroup(func(_, g string) bool { return g == group }), "DeleteConflict.Group.User"}), p.DeleteGroup(ctx, p.account, group)
	case "role":
		_, err := p.CreateRole(ctx, p.account, directory.Role{Name: role, TrustPolicy: trustAll, MaxSessionSeconds: 3600})
		return p.make(p.roles, role, "Role"), err
	case "-role":
		return p.remove(p.roles, role, "Role"), p.DeleteRole(ctx, p.account, role)
	case "key", "-key":
		return p.key(ctx, user)
	case "+member":
		return p.member(user, group, true), p.AddToGroup(ctx, p.account, user, group)
	case "-member":
		return p.member(user, group, false), p.RemoveFromGroup(ctx, p.account, user, group)
	case "scope", "-scope":
		return p.scope(ctx, p.one("scope", "x", "y"))
	case "attach":
		return p.attachment(ctx, user, group, role, policy, true)
	case "detach":
		return p.attachment(ctx, user, group, role, policy, false)
	}
	return p.policyChange(ctx, policy)
}

// begin makes what most changes need.
func (p *player) begin(ctx context.Context) {
	for _, name := range []string{"a", "b"} {
		_, err := p.CreateUser(ctx, p.account, directory.User{Name: name})
		require.NoError(p, err)
		p.users[name] = true
	}
	_, err := p.CreateGroup(ctx, p.account, "g", "")
	require.NoError(p, err)
	_, err = p.CreatePolicy(ctx, p.account, "p", "", readAll)
	require.NoError(p, err)
	p.groups["g"], p.policies["p"] = true, &modelPolicy{1, 1, map[int]string{1: readAll}}
}

func (p *player) make(of map[string]bool, name, kind string) string {
	if of[name] {
		return "EntityAlreadyExists." + kind
	}
	of[name] = true
	return ""
}

func (p *player) remove(of map[string]bool, name, kind string, held ...refusal) string {
	code := first(append(append([]refusal{{!of[name], "EntityNotExist." + kind}}, held...),
		refusal{p.hasPolicy(kind, name), "DeleteConflict." + kind + ".Policy"})...)
	if code == "" {
		delete(of, name)
	}
	return code
}

func (p *player) rename(user, to string) string {
	if code := first(refusal{!p.users[user], "EntityNotExist.User"}, refusal{p.users[to] && to != user, "EntityAlreadyExists.User"}); code != "" {
		return code
	}
	delete(p.users, user)
	p.users[to] = true
	keys := p.keys[user]
	delete(p.keys, user)
	p.keys[to] = keys
	for member := range maps.Clone(p.members) {
		if member[0] == user {
			delete(p.members, member)
			p.members[[2]string{to, member[1]}] = true
		}
	}
	for a := range maps.Clone(p.attached) {
		if a.kind == "User" && a.name == user {
			delete(p.attached, a)
			a.name = to
			p.attached[a] = true
		}
	}
	return ""
}

func (p *player) key(ctx context.Context, user string) (want string, got error) {
	if have := p.keys[user]; len(have) > 0 && p.one("key", "make", "delete") == "delete" {
		p.keys[user] = have[1:]
		return "", p.DeleteKey(ctx, p.account, user, have[0])
	}
	made, _, err := p.CreateKey(ctx, p.account, user)
	want = first(refusal{!p.users[user], "EntityNotExist.User"}, refusal{len(p.keys[user]) == 2, "LimitExceeded.User.AccessKey"})
	if want == "" {
		p.keys[user] = append(p.keys[user], made.ID)
	}
	return want, err
}

func (p *player) member(user, group string, in bool) string {
	member := [2]string{user, group}
	code := first(refusal{!p.users[user], "EntityNotExist.User"}, refusal{!p.groups[group], "EntityNotExist.Group"},
		refusal{in && p.members[member], "EntityAlreadyExists.User.Group"}, refusal{!in && !p.members[member], "EntityNotExist.User.Group"})
	if code == "" && in {
		p.members[member] = true
	} else if code == "" {
		delete(p.members, member)
	}
	return code
}

func (p *player) scope(ctx context.Context, name string) (want string, got error) {
	id, exists := p.scopes[name]
	if !exists {
		made, err := p.resourceGroups.Create(ctx, p.account, name, name)
		p.scopes[name] = made.ID
		return "", err
	}
	delete(p.scopes, name)
	maps.DeleteFunc(p.attached, func(a modelAttachment, _ bool) bool { return a.scope == id })
	_, err := p.resourceGroups.Delete(ctx, p.account, id)
	return "", err
}

func (p *player) attachment(ctx context.Context, user, group, role, policy string, attach bool) (want string, got error) {
	kind := rapid.SampledFrom([]directory.Kind{directory.OfUser, directory.OfGroup, directory.OfRole}).Draw(p.T, "kind")
	a := modelAttachment{kind.Name, map[string]string{"User": user, "Group": group, "Role": role}[kind.Name], directory.Custom, policy, ""}
	if p.one("type", directory.Custom, directory.System) == directory.System {
		a.policyType, a.policy = directory.System, "ReadOnlyAccess"
	}
	scope := p.one("scope", "", "", "x", "rg-00000000000000000000")
	a.scope = scope
	if id, ok := p.scopes[scope]; ok {
		a.scope = id
	}
	real := slices.Contains(slices.Collect(maps.Values(p.scopes)), a.scope) || a.scope == ""
	principals := map[string]map[string]bool{"User": p.users, "Group": p.groups, "Role": p.roles}[kind.Name]
	want = first(refusal{!real, "InvalidResourceGroupId.NotFound"}, refusal{!principals[a.name], "EntityNotExist." + kind.Name},
		refusal{a.policyType == directory.Custom && p.policies[a.policy] == nil, "EntityNotExist.Policy"},
		refusal{attach && p.attached[a], "EntityAlreadyExists." + kind.Name + ".Policy"},
		refusal{!attach && !p.attached[a], "EntityNotExist." + kind.Name + ".Policy"})
	asked := directory.Attachment{
		AccountID: p.account, Policy: directory.PolicyName{Type: a.policyType, Name: a.policy},
		Principal: directory.Principal{Kind: kind, Name: a.name}, ResourceGroupID: a.scope,
	}
	if attach {
		got = p.Attach(ctx, asked)
	} else {
		got = p.Detach(ctx, asked)
	}
	if want == "" && attach {
		p.attached[a] = true
	} else if want == "" {
		delete(p.attached, a)
	}
	return want, got
}

func (p *player) policyChange(ctx context.Context, name string) (want string, got error) {
	have := p.policies[name]
	if have == nil {
		_, err := p.CreatePolicy(ctx, p.account, name, "", readAll)
		p.policies[name] = &modelPolicy{1, 1, map[int]string{1: readAll}}
		return "", err
	}
	number := rapid.IntRange(1, 8).Draw(p.T, "version")
	id, exists := fmt.Sprint("v", number), have.versions[number] != ""
	switch p.one("of the policy", "again", "delete", "version", "version", "version", "version", "version", "version", "default", "-version") {
	case "again":
		_, err := p.CreatePolicy(ctx, p.account, name, "", readAll)
		return "EntityAlreadyExists.Policy", err
	case "delete":
		of := func(kind string) refusal {
			return refusal{p.any(func(a modelAttachment) bool { return a.kind == kind && a.policy == name }), "DeleteConflict.Policy." + kind}
		}
		want = first(of("User"), of("Group"), of("Role"), refusal{len(have.versions) > 1, "DeleteConflict.Policy.Version"})
		if want == "" {
			delete(p.policies, name)
		}
		return want, p.DeletePolicy(ctx, p.account, name)
	case "default":
		if exists {
			have.inForce = number
		}
		return first(refusal{!exists, "EntityNotExist.Policy.Version"}), p.SetDefaultVersion(ctx, p.account, name, id)
	case "-version":
		want = first(refusal{!exists, "EntityNotExist.Policy.Version"}, refusal{number == have.inForce, "DeleteConflict.Policy.Version.Default"})
		if want == "" {
			delete(have.versions, number)
		}
		return want, p.DeleteVersion(ctx, p.account, name, id)
	}
	return p.newVersion(ctx, name, have)
}

func (p *player) newVersion(ctx context.Context, name string, have *modelPolicy) (want string, got error) {
	rotate, inForce := rapid.Bool().Draw(p.T, "rotate"), rapid.Bool().Draw(p.T, "in force")
	document := p.one("document", readAll, listAll)
	_, got = p.CreateVersion(ctx, directory.VersionSpec{AccountID: p.account, PolicyName: name, Document: document, SetAsDefault: inForce, Rotate: rotate})
	if len(have.versions) == 5 {
		if !rotate {
			return "LimitExceeded.Policy.Version", got
		}
		for _, number := range slices.Sorted(maps.Keys(have.versions)) {
			if number != have.inForce {
				delete(have.versions, number)
				break
			}
		}
	}
	have.last++
	have.versions[have.last] = document
	if inForce {
		have.inForce = have.last
	}
	return "", got
}

// lines says what the model holds.
func (m *model) lines() (all []string) {
	line := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for user := range m.users {
		line("user %s, keys %v", user, slices.Sorted(slices.Values(m.keys[user])))
	}
	for group := range m.groups {
		line("group %s", group)
	}
	for role := range m.roles {
		line("role %s", role)
	}
	for member := range m.members {
		line("%s in %s", member[0], member[1])
	}
	for name, policy := range m.policies {
		principals := map[[2]string]bool{}
		for a := range m.attached {
			if a.policyType == directory.Custom && a.policy == name {
				principals[[2]string{a.kind, a.name}] = true
			}
		}
		line("policy %s, had by %d", name, len(principals))
		for number, document := range policy.versions {
			line("policy %s v%d %t %s", name, number, number == policy.inForce, document)
		}
	}
	for a := range m.attached {
		line("%+v", a)
		if a.scope == "" {
			line("%s %s has %s %s", a.kind, a.name, a.policyType, a.policy)
			line("%s %s is had by %s %s", a.policyType, a.policy, a.kind, a.name)
		}
	}
	for user := range m.users {
		for scope, policies := range m.countsFor(user) {
			line("for %s count on %q %v", user, scope, slices.Sorted(maps.Keys(policies)))
		}
	}
	return all
}

// countsFor is which documents count for a user, by resource group.
func (m *model) countsFor(user string) map[string]map[string]bool {
	counts := map[string]map[string]bool{}
	for a := range m.attached {
		if a.kind == "User" && a.name == user || a.kind == "Group" && m.members[[2]string{user, a.name}] {
			if counts[a.scope] == nil {
				counts[a.scope] = map[string]bool{}
			}
			document := "as the program has it"
			if a.policyType == directory.Custom {
				document = m.policies[a.policy].versions[m.policies[a.policy].inForce]
			}
			counts[a.scope][a.policy+" "+document] = true
		}
	}
	return counts
}

// held says in the same lines what the directory answers.
func (p *player) held(ctx context.Context) (all []string) {
	line := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	page := directory.Page{Size: 100}
	users, _, err := p.Users(ctx, p.account, page)
	require.NoError(p, err)
	for _, u := range users {
		p.heldUser(ctx, u, line)
	}
	groups, _, err := p.Groups(ctx, p.account, page)
	require.NoError(p, err)
	for _, g := range groups {
		line("group %s", g.Name)
		members, _, err := p.Members(ctx, p.account, g.Name, page)
		require.NoError(p, err)
		for _, u := range members {
			line("%s in %s", u.Name, g.Name)
		}
		p.heldPolicies(ctx, directory.Principal{Kind: directory.OfGroup, Name: g.Name}, line)
	}
	roles, _, err := p.Roles(ctx, p.account, page)
	require.NoError(p, err)
	for _, r := range roles {
		line("role %s", r.Name)
		p.heldPolicies(ctx, directory.Principal{Kind: directory.OfRole, Name: r.Name}, line)
	}
	policies, _, err := p.Policies(ctx, p.account, "", page)
	require.NoError(p, err)
	for _, policy := range policies {
		p.heldPolicy(ctx, policy, line)
	}
	attachments, _, err := p.Attachments(ctx, directory.AttachedFilter{AccountID: p.account, PageNumber: 1, PageSize: 100})
	require.NoError(p, err)
	for _, a := range attachments {
		line("%+v", modelAttachment{a.Kind, a.Principal, a.Type, a.Name, a.ResourceGroupID})
	}
	return all
}

func (p *player) heldUser(ctx context.Context, u directory.User, line func(string, ...any)) {
	keys, err := p.Keys(ctx, p.account, u.Name)
	require.NoError(p, err)
	ids := []string{}
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	slices.Sort(ids)
	line("user %s, keys %v", u.Name, ids)
	p.heldPolicies(ctx, directory.Principal{Kind: directory.OfUser, Name: u.Name}, line)
	counts, err := p.store.PoliciesOf(ctx, access.Caller{Identity: access.User, AccountID: p.account, UserID: u.ID})
	require.NoError(p, err)
	if len(counts.Account) > 0 {
		counts.ResourceGroups[""] = counts.Account
	}
	for scope, policies := range counts.ResourceGroups {
		var texts []string
		for _, a := range policies {
			if a.Type == directory.System {
				a.Document = "as the program has it"
			}
			texts = append(texts, a.Name+" "+a.Document)
		}
		slices.Sort(texts)
		line("for %s count on %q %v", u.Name, scope, texts)
	}
}

func (p *player) heldPolicies(ctx context.Context, principal directory.Principal, line func(string, ...any)) {
	policies, err := p.PoliciesOf(ctx, p.account, principal)
	require.NoError(p, err)
	for _, policy := range policies {
		line("%s %s has %s %s", principal.Kind.Name, principal.Name, policy.Type, policy.Name)
	}
}

func (p *player) heldPolicy(ctx context.Context, policy directory.Policy, line func(string, ...any)) {
	entities, err := p.EntitiesOf(ctx, p.account, policy.PolicyName)
	require.NoError(p, err)
	for _, u := range entities.Users {
		line("%s %s is had by User %s", policy.Type, policy.Name, u.Name)
	}
	for _, g := range entities.Groups {
		line("%s %s is had by Group %s", policy.Type, policy.Name, g.Name)
	}
	for _, r := range entities.Roles {
		line("%s %s is had by Role %s", policy.Type, policy.Name, r.Name)
	}
	if policy.Type == directory.System {
		return
	}
	line("policy %s, had by %d", policy.Name, policy.Attachments)
	versions, err := p.Versions(ctx, p.account, policy.PolicyName)
	require.NoError(p, err)
	for _, v := range versions {
		line("policy %s v%d %t %s", policy.Name, v.Version, v.IsDefault, v.Document)
	}
}

// Whatever is changed in whatever order, the directory answers as the model does, refuses with the code that it does,
// and raises the policy epoch for exactly what was done.
func TestTheDirectoryIsAsItsModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	accounts := 0
	seen := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		accounts++
		p := &player{rt, w, newModel(), fmt.Sprintf("2%015d", accounts)}
		w.exec(t, `INSERT INTO account (id, name) VALUES ($1, '')`, p.account)
		if rapid.Bool().Draw(rt, "begins with something") {
			p.begin(t.Context())
		}
		epoch := func() (epoch int64) {
			require.NoError(rt, w.Owner.QueryRow(t.Context(), `SELECT policy_epoch FROM account WHERE id = $1`, p.account).Scan(&epoch))
			return epoch
		}
		for range rapid.IntRange(30, 60).Draw(rt, "changes") {
			before := epoch()
			want, err := p.change(t.Context())
			got := ""
			if refused, ok := fault.From(err); ok {
				got = refused.Code
			} else {
				require.NoError(rt, err)
			}
			require.Equal(rt, want, got)
			require.Equal(rt, want == "", epoch() == before+1)
			seen[want]++
		}
		require.ElementsMatch(rt, p.lines(), p.held(t.Context()))
	})
	t.Logf("%d accounts: %v", accounts, seen)
}
