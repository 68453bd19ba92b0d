package consumer_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
)

func ofConsumer(id, api string) consumer.RuleSpec {
	return consumer.RuleSpec{ConsumerID: id, ResourceType: "LLM", APIID: api, EnvironmentID: env, ExpireMode: "LongTerm"}
}

func ofGroup(id, api string) consumer.RuleSpec {
	return consumer.RuleSpec{GroupID: id, ResourceType: "LLM", APIID: api}
}

func (w *world) allow(t *testing.T, specs ...consumer.RuleSpec) []string {
	t.Helper()
	rules, err := w.consumers.CreateRules(t.Context(), account, specs)
	require.NoError(t, err)
	return rules
}

func (w *world) group(t *testing.T, name string, members ...string) consumer.Group {
	t.Helper()
	g, err := w.consumers.CreateGroup(t.Context(), account, name, "")
	require.NoError(t, err)
	require.True(t, ids.Valid(ids.ConsumerGroup, g.ID))
	if len(members) > 0 {
		require.NoError(t, w.consumers.AddMembers(t.Context(), account, g.ID, members))
	}
	return g
}

func sorted(s ...string) []string { return slices.Sorted(slices.Values(s)) }

func TestARuleAllowsItsConsumerAndRevokingItRefusesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.create(t, "alice", system()), w.create(t, "bob", system())
	w.work(t)
	rules := w.allow(t, ofConsumer(alice.ID, w.apis[0]), ofConsumer(alice.ID, w.apis[1]))
	require.True(t, ids.Valid(ids.AuthorizationRule, rules[0]))
	require.Equal(t, []string{alice.ID}, w.work(t), "nobody else is published")
	require.Equal(t, w.apis, w.shown(t, alice.ID).Allowed)
	require.Empty(t, w.shown(t, bob.ID).Allowed)

	require.NoError(t, w.consumers.DeleteRules(t.Context(), account, rules[:1]))
	require.Equal(t, []string{alice.ID}, w.work(t))
	require.Equal(t, w.apis[1:], w.shown(t, alice.ID).Allowed)
	w.requireConverged(t)
}

func TestARuleOfAGroupReachesItsMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.create(t, "alice"), w.create(t, "bob"), w.create(t, "carol")
	team := w.group(t, "team", alice.ID, bob.ID)
	w.work(t)

	rules := w.allow(t, ofGroup(team.ID, w.apis[0]))
	require.Equal(t, sorted(alice.ID, bob.ID), w.work(t))
	require.Equal(t, w.apis[:1], w.shown(t, bob.ID).Allowed)
	require.Empty(t, w.shown(t, carol.ID).Allowed)

	require.NoError(t, w.consumers.AddMembers(t.Context(), account, team.ID, []string{carol.ID, alice.ID}))
	require.Equal(t, []string{carol.ID}, w.work(t), "alice is in it already")
	require.Equal(t, w.apis[:1], w.shown(t, carol.ID).Allowed)

	require.NoError(t, w.consumers.RemoveMembers(t.Context(), account, team.ID, []string{alice.ID}))
	require.NoError(t, w.consumers.RemoveMembers(t.Context(), account, team.ID, []string{alice.ID}))
	require.Equal(t, []string{alice.ID}, w.work(t))
	require.Empty(t, w.shown(t, alice.ID).Allowed)
	members, total, err := w.consumers.ListMembers(t.Context(), account, team.ID, instance.Page{Number: 1, Size: 1})
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Equal(t, bob.ID, members[0].ID)

	w.allow(t, ofConsumer(bob.ID, w.apis[0]), ofGroup(team.ID, w.apis[1]))
	require.Equal(t, sorted(bob.ID, carol.ID), w.work(t))
	require.Equal(t, w.apis, w.shown(t, bob.ID).Allowed, "by two ways, named once")

	require.NoError(t, w.consumers.DeleteRules(t.Context(), account, rules))
	require.Equal(t, sorted(bob.ID, carol.ID), w.work(t))
	require.Equal(t, w.apis, w.shown(t, bob.ID).Allowed, "its own rule is there yet")
	require.Equal(t, w.apis[1:], w.shown(t, carol.ID).Allowed)

	require.NoError(t, w.consumers.DeleteGroup(t.Context(), account, team.ID))
	require.Equal(t, sorted(bob.ID, carol.ID), w.work(t))
	require.Equal(t, w.apis[:1], w.shown(t, bob.ID).Allowed)
	require.Empty(t, w.shown(t, carol.ID).Allowed)
	w.requireConverged(t)
}

func TestBadRulesAreRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.create(t, "alice")
	team := w.group(t, "team", alice.ID)
	theirs, err := w.consumers.Create(t.Context(), stranger, consumer.Spec{Name: "alice"})
	require.NoError(t, err)
	theirTeam, err := w.consumers.CreateGroup(t.Context(), stranger, "team", "")
	require.NoError(t, err)
	w.allow(t, ofConsumer(alice.ID, w.apis[1]))
	before := w.rows(t)
	change := func(change func(*consumer.RuleSpec)) consumer.RuleSpec {
		s := ofConsumer(alice.ID, w.apis[0])
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		spec consumer.RuleSpec
		want string
	}{
		"again":                {ofConsumer(alice.ID, w.apis[1]), "Conflict.ConsumerAuthorizationForbidden"},
		"twice in one call":    {ofConsumer(alice.ID, w.apis[0]), "Conflict.ConsumerAuthorizationForbidden"},
		"unknown consumer":     {ofConsumer(ids.New(ids.Consumer), w.apis[0]), "NotFound.ConsumerNotFound"},
		"a stranger's":         {ofConsumer(theirs.ID, w.apis[0]), "NotFound.ConsumerNotFound"},
		"unknown group":        {ofGroup(ids.New(ids.ConsumerGroup), w.apis[0]), "NotFound.ConsumerGroupNotFound"},
		"a stranger's group":   {ofGroup(theirTeam.ID, w.apis[0]), "NotFound.ConsumerGroupNotFound"},
		"unknown API":          {ofConsumer(alice.ID, ids.New(ids.HTTPAPI)), "DatabaseError.RecordNotFound"},
		"a stranger's API":     {ofConsumer(alice.ID, w.strangers), "DatabaseError.RecordNotFound"},
		"another environment":  {change(func(s *consumer.RuleSpec) { s.EnvironmentID = otherEnv }), "NotFound.EnvironmentNotFound"},
		"unknown environment":  {change(func(s *consumer.RuleSpec) { s.EnvironmentID = "env-x" }), "NotFound.EnvironmentNotFound"},
		"nobody":               {change(func(s *consumer.RuleSpec) { s.ConsumerID = "" }), "InvalidParameter"},
		"consumer and group":   {change(func(s *consumer.RuleSpec) { s.GroupID = team.ID }), "InvalidParameter"},
		"no API":               {change(func(s *consumer.RuleSpec) { s.APIID = "" }), "MissingParameter"},
		"another resourceType": {change(func(s *consumer.RuleSpec) { s.ResourceType = "MCP" }), "resourceType"},
		"short term":           {change(func(s *consumer.RuleSpec) { s.ExpireMode = "ShortTerm" }), "expireMode"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.consumers.CreateRules(t.Context(), account, []consumer.RuleSpec{ofConsumer(alice.ID, w.apis[0]), c.spec})
			require.ErrorContains(t, err, c.want)
		})
	}
	for _, n := range []int{0, 1001} {
		_, err := w.consumers.CreateRules(t.Context(), account, make([]consumer.RuleSpec, n))
		require.ErrorContains(t, err, "authorizationRules")
		require.ErrorContains(t, w.consumers.DeleteRules(t.Context(), account, make([]string, n)), "consumerAuthorizationRuleIds")
		require.ErrorContains(t, w.consumers.AddMembers(t.Context(), account, team.ID, make([]string, n)), "consumerIds")
		require.ErrorContains(t, w.consumers.RemoveMembers(t.Context(), account, team.ID, make([]string, n)), "consumerIds")
	}
	require.Equal(t, before, w.rows(t))
}

func TestAStrangersIdAnswersAsAnUnknownOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.create(t, "alice", system())
	team := w.group(t, "team", alice.ID)
	rules := w.allow(t, ofConsumer(alice.ID, w.apis[0]))
	before := w.rows(t)
	c, ctx := w.consumers, t.Context()
	for name, call := range map[string]func(consumerID, groupID, ruleID string) error{
		"Get":      func(id, _, _ string) error { _, err := c.Get(ctx, stranger, id); return err },
		"Update":   func(id, _, _ string) error { return c.Update(ctx, stranger, id, consumer.Change{Enabled: to(false)}) },
		"Delete":   func(id, _, _ string) error { return c.Delete(ctx, stranger, id) },
		"GetGroup": func(_, id, _ string) error { _, err := c.GetGroup(ctx, stranger, id); return err },
		"UpdateGroup": func(_, id, _ string) error {
			return c.UpdateGroup(ctx, stranger, id, consumer.GroupChange{Description: to("x")})
		},
		"DeleteGroup":   func(_, id, _ string) error { return c.DeleteGroup(ctx, stranger, id) },
		"AddMembers":    func(id, group, _ string) error { return c.AddMembers(ctx, stranger, group, []string{id}) },
		"RemoveMembers": func(id, group, _ string) error { return c.RemoveMembers(ctx, stranger, group, []string{id}) },
		"ListMembers": func(_, id, _ string) error {
			_, _, err := c.ListMembers(ctx, stranger, id, everything)
			return err
		},
		"DeleteRules": func(_, _, id string) error { return c.DeleteRules(ctx, stranger, []string{id}) },
	} {
		t.Run(name, func(t *testing.T) {
			unknownConsumer, unknownGroup, unknownRule := ids.New(ids.Consumer), ids.New(ids.ConsumerGroup), ids.New(ids.AuthorizationRule)
			theirs := call(alice.ID, team.ID, rules[0])
			unknown := call(unknownConsumer, unknownGroup, unknownRule)
			require.ErrorContains(t, theirs, "NotFound.Consumer")
			require.ErrorIs(t, theirs, unknown)
			require.Equal(t, len(unknown.Error()), len(theirs.Error()), "the same sentence with another id")
		})
	}
	theirGroup, err := c.CreateGroup(ctx, stranger, "team", "")
	require.NoError(t, err)
	require.ErrorIs(t, c.AddMembers(ctx, stranger, theirGroup.ID, []string{alice.ID}), consumer.ErrNotFound)
	w.exec(t, `DELETE FROM consumer_group WHERE id = $1`, theirGroup.ID)
	w.exec(t, `DELETE FROM audit_event WHERE resource_id = $1`, theirGroup.ID)
	require.Equal(t, before, w.rows(t))

	found, total, err := c.ListRules(ctx, stranger, consumer.RuleFilter{Page: everything})
	require.NoError(t, err)
	require.Empty(t, found)
	require.Zero(t, total)
}

func TestRulesAreListedWithWhatTheyName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.create(t, "alice"), w.create(t, "bob")
	team := w.group(t, "team", bob.ID)
	rules := w.allow(t, ofConsumer(alice.ID, w.apis[0]), ofConsumer(bob.ID, w.apis[1]))
	rules = append(rules, w.allow(t, ofGroup(team.ID, w.apis[0]))...)
	list := func(f consumer.RuleFilter) (found []string) {
		f.Page = everything
		listed, total, err := w.consumers.ListRules(t.Context(), account, f)
		require.NoError(t, err)
		require.Len(t, listed, total)
		for _, r := range listed {
			found = append(found, r.ID)
		}
		return found
	}
	require.ElementsMatch(t, rules, list(consumer.RuleFilter{}))
	require.Equal(t, rules[1:2], list(consumer.RuleFilter{ConsumerID: bob.ID}))
	require.Equal(t, rules[2:], list(consumer.RuleFilter{GroupID: team.ID}))
	require.Equal(t, rules[2:], list(consumer.RuleFilter{PrincipalType: consumer.OfGroup}))
	require.ElementsMatch(t, rules[:2], list(consumer.RuleFilter{PrincipalType: consumer.OfConsumer, EnvironmentID: env}))
	require.Equal(t, rules[:1], list(consumer.RuleFilter{ConsumerNameLike: "lic"}))
	require.Equal(t, rules[1:2], list(consumer.RuleFilter{APINameLike: "i-1"}))
	require.Equal(t, rules[1:2], list(consumer.RuleFilter{APIID: w.apis[1]}))
	require.Empty(t, list(consumer.RuleFilter{EnvironmentID: otherEnv}))

	listed, _, err := w.consumers.ListRules(t.Context(), account, consumer.RuleFilter{ConsumerID: alice.ID, Page: everything})
	require.NoError(t, err)
	want := consumer.Rule{
		ID: rules[0], ConsumerID: alice.ID, ConsumerName: "alice", ConsumerEnabled: true, APIID: w.apis[0], APIName: "api-0",
		EnvironmentID: env, EnvironmentName: "one", EnvironmentAlias: "One", GatewayID: "gw-1", GatewayName: "main",
		CreatedAt: listed[0].CreatedAt, UpdatedAt: listed[0].UpdatedAt,
	}
	require.Equal(t, want, listed[0])
	require.Equal(t, "Consumer", listed[0].PrincipalType())
	listed, _, err = w.consumers.ListRules(t.Context(), account, consumer.RuleFilter{GroupID: team.ID, Page: everything})
	require.NoError(t, err)
	require.Equal(t, "team", listed[0].GroupName)
	require.Equal(t, "ConsumerGroup", listed[0].PrincipalType())
}

func TestAGroupIsRenamedWithinItsRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.create(t, "alice")
	team := w.group(t, "team", alice.ID)
	w.group(t, "other")
	w.work(t)
	_, err := w.consumers.CreateGroup(t.Context(), account, "team", "")
	require.ErrorIs(t, err, consumer.ErrGroupNameTaken)
	_, err = w.consumers.CreateGroup(t.Context(), account, "te am", "")
	require.ErrorIs(t, err, consumer.ErrName)
	update := func(change consumer.GroupChange) error {
		return w.consumers.UpdateGroup(t.Context(), account, team.ID, change)
	}
	require.ErrorIs(t, update(consumer.GroupChange{Name: to("other")}), consumer.ErrGroupNameTaken)
	require.ErrorContains(t, update(consumer.GroupChange{Description: to("\x00")}), "description")
	require.NoError(t, update(consumer.GroupChange{Name: to("crew")}))
	require.NoError(t, update(consumer.GroupChange{Description: to("of the ship")}))
	got, err := w.consumers.GetGroup(t.Context(), account, team.ID)
	require.NoError(t, err)
	require.Equal(t, "crew", got.Name)
	require.Equal(t, "of the ship", got.Description)
	require.Equal(t, 1, got.Members)
	require.Empty(t, w.work(t), "gateways know no groups")
}

// Rules, members and consumers change at once, and each call publishes whom it touched. Whatever the order was, in the
// end gateways see exactly what the rows say.
func TestChangesAtTheSameTimeEndInWhatTheRowsSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var members []string
	for n := range 6 {
		members = append(members, w.create(t, fmt.Sprintf("member-%d", n)).ID)
	}
	teams := []string{w.group(t, "team-a").ID, w.group(t, "team-b").ID}
	var wait sync.WaitGroup
	ctx := t.Context()
	attempt := func(call func() error) {
		wait.Go(func() {
			for range 10 {
				if err := call(); err != nil && !errors.Is(err, consumer.ErrRuleExists) {
					t.Error(err)
				}
			}
		})
	}
	for n, team := range teams {
		attempt(func() error { return w.consumers.AddMembers(ctx, account, team, members[n:]) })
		attempt(func() error { return w.consumers.RemoveMembers(ctx, account, team, members[:4]) })
		attempt(func() error {
			rules, err := w.consumers.CreateRules(ctx, account, []consumer.RuleSpec{
				ofConsumer(members[5-n], w.apis[1]), ofGroup(teams[1-n], w.apis[n]), ofGroup(team, w.apis[1-n]),
			})
			if err == nil {
				err = w.consumers.DeleteRules(ctx, account, rules)
			}
			return err
		})
	}
	wait.Go(func() {
		for range 20 {
			for _, id := range members {
				_ = w.publisher.Publish(ctx, "consumer", id)
			}
		}
	})
	wait.Wait()
	w.allowQuietly(t, ofGroup(teams[0], w.apis[0]))
	w.work(t)
	w.requireConverged(t)
	for _, id := range members {
		var want []string
		require.NoError(t, w.Owner.QueryRow(ctx, `
			SELECT coalesce(array_agg(DISTINCT http_api_id ORDER BY http_api_id), '{}') FROM authorization_rule r
			WHERE r.consumer_id = $1 OR EXISTS (
				SELECT FROM consumer_group_member m WHERE m.group_id = r.group_id AND m.consumer_id = $1)`, id).Scan(&want))
		require.Equal(t, want, w.shown(t, id).Allowed)
	}
}

// allowQuietly makes sure that the rule is there.
func (w *world) allowQuietly(t *testing.T, spec consumer.RuleSpec) {
	t.Helper()
	if _, err := w.consumers.CreateRules(t.Context(), account, []consumer.RuleSpec{spec}); err != nil {
		require.ErrorIs(t, err, consumer.ErrRuleExists)
	}
}

// What is taken from a few is published with it, although no worker runs; what is taken from many is left to workers.
func TestWhatIsTakenIsPublishedAtOnceUnlessItIsOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	team, err := w.consumers.CreateGroup(t.Context(), account, "team", "")
	require.NoError(t, err)
	w.exec(t, `INSERT INTO consumer (id, account_id, name) SELECT 'cs-' || n, $1, 'consumer-' || n FROM generate_series(1, 100) n`, account)
	w.exec(t, `INSERT INTO consumer_group_member (group_id, consumer_id) SELECT $1, id FROM consumer`, team.ID)
	jobs := func() int {
		t.Helper()
		return len(w.ids(t, `DELETE FROM river_job RETURNING args->>'id'`))
	}
	rules := w.allow(t, ofGroup(team.ID, w.apis[0]))
	require.Equal(t, w.apis[:1], w.shown(t, "cs-100").Allowed)
	require.NoError(t, w.consumers.DeleteRules(t.Context(), account, rules))
	require.Empty(t, w.shown(t, "cs-100").Allowed)
	require.Zero(t, jobs())

	last := w.create(t, "last")
	require.NoError(t, w.consumers.AddMembers(t.Context(), account, team.ID, []string{last.ID}))
	jobs()
	w.allow(t, ofGroup(team.ID, w.apis[0]))
	require.Empty(t, w.shown(t, "cs-100").Allowed)
	require.Equal(t, 101, jobs())
}
