package resource_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/modelapi"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/secret"
)

const (
	account  = "1000000000000001"
	stranger = "1000000000000002"
)

var kinds = slices.Concat(ingress.Kinds, consumer.Kinds, []resource.Kind{aiservice.Kind, modelapi.Kind})

// world is an installation with two accounts, the first of which has one resource of each kind.
type world struct {
	*pgtest.DB
	resources *resource.Resources
	ids       map[string]string // by kind
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := pgtest.New(t)
	w := &world{DB: db, resources: resource.New(db.Control, kinds...), ids: map[string]string{
		"Gateway": ids.New(ids.Gateway), "Environment": ids.New(ids.Environment), "Domain": ids.New(ids.Domain),
		"Service": ids.New(ids.AIService), "Consumer": ids.New(ids.Consumer), "ConsumerGroup": ids.New(ids.ConsumerGroup),
		"HttpApi": ids.New(ids.HTTPAPI),
	}}
	w.exec(t, `INSERT INTO account (id, name) VALUES ($1, 'a'), ($2, 'b')`, account, stranger)
	w.exec(t, `INSERT INTO gateway (id, account_id, name, resource_group_id) VALUES ($1, $2, 'g', 'rg-old')`, w.ids["Gateway"], account)
	w.exec(t, `
		INSERT INTO environment (id, account_id, gateway_id, name, resource_group_id) VALUES ($1, $2, $3, 'e', 'rg-old')`,
		w.ids["Environment"], account, w.ids["Gateway"])
	w.exec(t, `
		INSERT INTO domain (id, account_id, name, protocol, resource_group_id) VALUES ($1, $2, 'd.example.com', 'HTTP', 'rg-old')`,
		w.ids["Domain"], account)
	w.exec(t, `
		INSERT INTO ai_service (id, account_id, gateway_id, name, source_type, resource_group_id) VALUES ($1, $2, $3, 's', 'AI', 'rg-old')`,
		w.ids["Service"], account, w.ids["Gateway"])
	w.exec(t, `INSERT INTO consumer (id, account_id, name) VALUES ($1, $2, 'c')`, w.ids["Consumer"], account)
	w.exec(t, `INSERT INTO consumer_group (id, account_id, name) VALUES ($1, $2, 'c')`, w.ids["ConsumerGroup"], account)
	w.exec(t, `
		INSERT INTO http_api (id, account_id, name, type, model_category, ai_protocols, base_path, gateway_id,
			environment_id, deploy_config, resource_group_id)
		VALUES ($1, $2, 'api', 'LLM', 'Text', '{OpenAI/v1}', '/', $3, $4, '{}', 'rg-old')`,
		w.ids["HttpApi"], account, w.ids["Gateway"], w.ids["Environment"])
	return w
}

func (w *world) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	_, err := w.Owner.Exec(t.Context(), statement, args...)
	require.NoError(t, err)
}

// gateways adds n gateways to the account.
func (w *world) gateways(t *testing.T, n int) []string {
	t.Helper()
	made := make([]string, n)
	for i := range made {
		made[i] = ids.New(ids.Gateway)
		w.exec(t, `INSERT INTO gateway (id, account_id, name, resource_group_id) VALUES ($1, $2, $1, 'rg-default')`, made[i], account)
	}
	slices.Sort(made)
	return made
}

// tags returns what is on a resource, as key=value in the order of the keys.
func (w *world) tags(t *testing.T, kind, id string) string {
	t.Helper()
	page, next, err := w.resources.ListTags(t.Context(), account, resource.Filter{Kind: kind, IDs: []string{id}})
	require.NoError(t, err)
	require.Empty(t, next)
	var list []string
	for _, tag := range page {
		require.Equal(t, []string{id, kind}, []string{tag.ResourceID, tag.Kind})
		list = append(list, tag.Key+"="+tag.Value)
	}
	return strings.Join(list, " ")
}

// count counts the audit rows and the tags.
func (w *world) count(t *testing.T) (audits, tags int) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM audit_event), (SELECT count(*) FROM resource_tag)`).Scan(&audits, &tags))
	return audits, tags
}

func tags(pairs ...string) []resource.Tag {
	var list []resource.Tag
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		list = append(list, resource.Tag{Key: key, Value: value})
	}
	return list
}

func TestEveryKindIsTaggedAndUntagged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Len(t, kinds, len(w.ids))
	for _, kind := range kinds {
		id := w.ids[kind.Name]
		require.NoError(t, w.resources.Tag(t.Context(), account, strings.ToLower(kind.Name), []string{id, id}, tags("team=search", "stage=test")))
		require.NoError(t, w.resources.Tag(t.Context(), account, kind.Name, []string{id}, tags("stage=live", "Stage")))
		require.Equal(t, "Stage= stage=live team=search", w.tags(t, kind.Name, id), "keys are told apart by case")
		require.NoError(t, w.resources.Untag(t.Context(), account, kind.Name, []string{id}, []string{"stage", "nothing"}, true))
		require.Equal(t, "Stage= team=search", w.tags(t, kind.Name, id), "with keys, all is not all")
		require.NoError(t, w.resources.Untag(t.Context(), account, kind.Name, []string{id}, nil, true))
		require.Empty(t, w.tags(t, kind.Name, id))
	}
}

func TestAChangeOfTagsIsAuditedWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	two := w.gateways(t, 2)
	ctx := audit.With(t.Context(), &audit.Entry{RequestID: "one", AccountID: account, Action: "apig:TagResources"})
	require.NoError(t, w.resources.Tag(ctx, account, "Gateway", []string{two[1], two[0]}, tags("a=b")))
	var resourceID, outcome string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT resource_id, outcome FROM audit_event WHERE request_id = 'one'`).Scan(&resourceID, &outcome))
	require.Equal(t, []string{two[0] + "," + two[1], "done"}, []string{resourceID, outcome})

	w.exec(t, `ALTER TABLE audit_event RENAME TO gone`)
	require.Error(t, w.resources.Tag(t.Context(), account, "Gateway", two, tags("c=d")))
	require.Error(t, w.resources.Untag(t.Context(), account, "Gateway", two, nil, true))
	require.Error(t, w.resources.Move(t.Context(), account, "Gateway", w.ids["Gateway"], instance.DefaultResourceGroup))
	require.Equal(t, "a=b", w.tags(t, "Gateway", two[0]), "what is not recorded does not happen")
	require.Equal(t, "rg-old", w.group(t, "gateway", w.ids["Gateway"]))
}

func TestAStrangersResourceAnswersAsAnUnknownOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		id := w.ids[kind.Name]
		require.NoError(t, w.resources.Tag(t.Context(), account, kind.Name, []string{id}, tags("team=search")))
		for name, ask := range map[string]func(id string) error{
			"Tag": func(id string) error {
				return w.resources.Tag(t.Context(), stranger, kind.Name, []string{id}, tags("a=b"))
			},
			"Untag": func(id string) error {
				return w.resources.Untag(t.Context(), stranger, kind.Name, []string{id}, nil, true)
			},
			"Move": func(id string) error {
				if !kind.Grouped {
					return kind.NotFound(id)
				}
				return w.resources.Move(t.Context(), stranger, kind.Name, id, instance.DefaultResourceGroup)
			},
		} {
			unknown := strings.Replace(id, id[len(id)-4:], "0000", 1)
			theirs, nobodys := ask(id), ask(unknown)
			require.ErrorIs(t, theirs, kind.NotFound(""), "%s %s", name, kind.Name)
			require.Equal(t, theirs.Error(), strings.ReplaceAll(nobodys.Error(), unknown, id))
		}
		for _, f := range []resource.Filter{{IDs: []string{id}}, {Tags: tags("team")}} {
			f.Kind = kind.Name
			page, next, err := w.resources.ListTags(t.Context(), stranger, f)
			require.NoError(t, err)
			require.Empty(t, page)
			require.Empty(t, next)
		}
		require.Equal(t, "team=search", w.tags(t, kind.Name, id))
	}
	err := w.resources.Tag(t.Context(), account, "Domain", []string{w.ids["Gateway"]}, tags("a=b"))
	require.ErrorIs(t, err, ingress.ErrDomainNotFound, "an id of another kind is no id of this one")
}

func TestTagsAreOnAllResourcesOrOnNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	two := w.gateways(t, 2)
	err := w.resources.Tag(t.Context(), account, "Gateway", append([]string{"gw-nobody"}, two...), tags("a=b"))
	require.ErrorIs(t, err, ingress.ErrGatewayNotFound)
	require.ErrorContains(t, err, "gw-nobody")
	require.NoError(t, w.resources.Tag(t.Context(), account, "Gateway", two[:1], numbered(20)))
	err = w.resources.Tag(t.Context(), account, "Gateway", two, tags("one=more"))
	require.ErrorContains(t, err, two[0]+" would have more than 20 tags")
	require.NoError(t, w.resources.Tag(t.Context(), account, "Gateway", two, tags("key-01=replaced")))
	audits, held := w.count(t)
	require.Equal(t, []int{2, 21}, []int{audits, held})
	require.ErrorIs(t, w.resources.Untag(t.Context(), account, "Gateway", append(two, "gw-nobody"), nil, true), ingress.ErrGatewayNotFound)
	_, held = w.count(t)
	require.Equal(t, 21, held)
}

func numbered(n int) []resource.Tag {
	list := make([]resource.Tag, n)
	for i := range list {
		list[i] = resource.Tag{Key: fmt.Sprintf("key-%02d", i), Value: "v"}
	}
	return list
}

func TestTwoCallsTogetherDoNotPassTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateway := w.gateways(t, 1)
	require.NoError(t, w.resources.Tag(t.Context(), account, "Gateway", gateway, numbered(19)))
	other, err := w.Control.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = other.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = other.Exec(t.Context(), `SELECT FROM gateway WHERE id = $1 FOR NO KEY UPDATE`, gateway[0])
	require.NoError(t, err)
	require.NoError(t, resource.InsertTags(t.Context(), other, gateway[0], tags("first")))

	second := make(chan error, 1)
	go func() { second <- w.resources.Tag(t.Context(), account, "Gateway", gateway, tags("second")) }()
	require.Eventually(t, func() bool {
		var waiting bool
		err := w.Owner.QueryRow(t.Context(), `
			SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE datname = current_database() AND NOT granted)`).Scan(&waiting)
		return err == nil && waiting || len(second) > 0
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, other.Commit(t.Context()))
	require.ErrorContains(t, <-second, "more than 20 tags")
}

// Two calls that name the same resources in another order wait for each other in turn.
func TestCallsDoNotLockEachOtherOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := w.gateways(t, 20)
	var calls sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		order := slices.Clone(many)
		if i%2 > 0 {
			slices.Reverse(order)
		}
		calls.Go(func() {
			errs[i] = w.resources.Tag(t.Context(), account, "Gateway", order, tags(fmt.Sprintf("own-%d", i)))
		})
	}
	calls.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func TestBadTagsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := []string{w.ids["Gateway"]}
	long := strings.Repeat("ä", 128)
	require.NoError(t, w.resources.Tag(t.Context(), account, "Gateway", id, tags(long+"="+long)))
	audits, held := w.count(t)
	for says, err := range map[string]error{
		"tag is required":                    w.resources.Tag(t.Context(), account, "Gateway", id, nil),
		"resourceId is required":             w.resources.Tag(t.Context(), account, "Gateway", nil, tags("a")),
		"ResourceId is required":             w.resources.Untag(t.Context(), account, "Gateway", nil, nil, true),
		"TagKey is required":                 w.resources.Untag(t.Context(), account, "Gateway", id, nil, false),
		"TagKey is not valid: name at most":  w.resources.Untag(t.Context(), account, "Gateway", id, make([]string, 21), false),
		"51":                                 w.resources.Tag(t.Context(), account, "Gateway", w.gateways(t, 51), tags("a")),
		"21 tags are given":                  w.resources.Tag(t.Context(), account, "Gateway", id, numbered(21)),
		"tag.2.key is not valid: the key is": w.resources.Tag(t.Context(), account, "Gateway", id, tags("a=1", "a=2")),
		"tag.1.key is not valid: a key has":  w.resources.Tag(t.Context(), account, "Gateway", id, tags("=x")),
		"1 to 128 characters":                w.resources.Tag(t.Context(), account, "Gateway", id, tags(long+"x")),
		"tag.1.value":                        w.resources.Tag(t.Context(), account, "Gateway", id, tags("a="+long+"x")),
		"the system's own":                   w.resources.Tag(t.Context(), account, "Gateway", id, tags("Aliyun-x")),
		"begin with aliyun or acs:":          w.resources.Tag(t.Context(), account, "Gateway", id, tags("ACS:x")),
		"a null character":                   w.resources.Tag(t.Context(), account, "Gateway", id, tags("a=\x00")),
	} {
		require.ErrorContains(t, err, says)
		_, isFault := fault.From(err)
		require.True(t, isFault, says)
	}
	for _, kind := range []string{"", "Route", "gateway; DROP TABLE gateway"} {
		require.ErrorIs(t, w.resources.Tag(t.Context(), account, kind, id, tags("a")), resource.ErrType)
		require.ErrorIs(t, w.resources.Untag(t.Context(), account, kind, id, nil, true), resource.ErrType)
		_, _, err := w.resources.ListTags(t.Context(), account, resource.Filter{Kind: kind, IDs: id})
		require.ErrorIs(t, err, resource.ErrType)
	}
	_, _, err := w.resources.ListTags(t.Context(), account, resource.Filter{Kind: "Gateway"})
	require.ErrorIs(t, err, resource.ErrBothEmpty)
	for _, token := range []string{"!", "YQ", "AAo", "/wo"} {
		_, _, err := w.resources.ListTags(t.Context(), account, resource.Filter{Kind: "Gateway", IDs: id, NextToken: token})
		require.ErrorContains(t, err, "NextToken", token)
	}
	_, _, err = w.resources.ListTags(t.Context(), account, resource.Filter{Kind: "Gateway", Tags: numbered(21)})
	require.ErrorContains(t, err, "21 tags")
	after, stillHeld := w.count(t)
	require.Equal(t, []int{audits, held}, []int{after, stillHeld})
}

func TestTagsAreFoundByTag(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateways(t, 3)
	for i, list := range [][]resource.Tag{tags("team=search", "stage=live"), tags("team=search", "stage=test"), tags("team=ads")} {
		require.NoError(t, w.resources.Tag(t.Context(), account, "Gateway", g[i:i+1], list))
	}
	require.NoError(t, w.resources.Tag(t.Context(), account, "Domain", []string{w.ids["Domain"]}, tags("team=search")))
	for _, c := range []struct {
		filter resource.Filter
		want   []string
	}{
		{resource.Filter{Tags: tags("team=search")}, []string{g[0], g[0], g[1], g[1]}},
		{resource.Filter{Tags: tags("team")}, []string{g[0], g[0], g[1], g[1], g[2]}},
		{resource.Filter{Tags: tags("team=search", "stage=live")}, []string{g[0], g[0]}},
		{resource.Filter{Tags: tags("team=search"), IDs: []string{g[1], g[2], "gw-nobody"}}, []string{g[1], g[1]}},
		{resource.Filter{Tags: tags("team=se%")}, nil},
		{resource.Filter{IDs: []string{g[2]}}, []string{g[2]}},
	} {
		c.filter.Kind = "gateway"
		page, next, err := w.resources.ListTags(t.Context(), account, c.filter)
		require.NoError(t, err)
		require.Empty(t, next)
		var found []string
		for _, tag := range page {
			require.Equal(t, "Gateway", tag.Kind)
			found = append(found, tag.ResourceID)
		}
		require.Equal(t, c.want, found, "%+v", c.filter)
	}
}

func TestManyTagsComeInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateways(t, 11)
	require.NoError(t, w.resources.Tag(t.Context(), account, "Gateway", g, numbered(19)))
	seen, pages, token := map[string]bool{}, 0, ""
	for {
		page, next, err := w.resources.ListTags(t.Context(), account, resource.Filter{Kind: "Gateway", Tags: tags("key-00"), NextToken: token})
		require.NoError(t, err)
		for _, tag := range page {
			require.False(t, seen[tag.ResourceID+tag.Key], "twice")
			seen[tag.ResourceID+tag.Key] = true
		}
		pages++
		if token = next; token == "" {
			break
		}
	}
	require.Len(t, seen, 11*19)
	require.Equal(t, 3, pages)
}

func (w *world) group(t *testing.T, table, id string) (group string) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT resource_group_id FROM `+table+` WHERE id = $1`, id).Scan(&group))
	return group
}

func TestAResourceIsMovedToAGroupThatIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		id := w.ids[kind.Name]
		move := func(group string) error { return w.resources.Move(t.Context(), account, kind.Name, id, group) }
		if !kind.Grouped {
			require.ErrorContains(t, move(instance.DefaultResourceGroup), "belongs to no resource group")
			continue
		}
		require.ErrorIs(t, move("rg-other"), instance.ErrResourceGroup)
		require.Equal(t, "rg-old", w.group(t, kind.Table, id))
		require.NoError(t, move(instance.DefaultResourceGroup))
		require.NoError(t, move(instance.DefaultResourceGroup), "its own group")
		require.Equal(t, instance.DefaultResourceGroup, w.group(t, kind.Table, id))
	}
	audits, _ := w.count(t)
	require.Equal(t, 10, audits)
	require.ErrorContains(t, w.resources.Move(t.Context(), account, "Route", "hr-1", instance.DefaultResourceGroup), "ResourceType")
}

// What is deleted leaves no tags, whatever deletes it.
func TestTagsGoWithTheirResource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		require.NoError(t, w.resources.Tag(t.Context(), account, kind.Name, []string{w.ids[kind.Name]}, tags("team=search")))
	}
	client, err := jobs.NewInserter(w.Control)
	require.NoError(t, err)
	box, err := secret.NewBox()
	require.NoError(t, err)
	entrances := ingress.New(ingress.Config{DB: w.Control, Jobs: client, Snapshot: box, BaseDomain: "test"})
	consumers := consumer.New(consumer.Config{DB: w.Control, Jobs: client, Master: box, Snapshot: box})
	ctx, left := t.Context(), len(kinds)
	for _, step := range []struct {
		deletes int
		how     func() error
	}{
		{1, func() error {
			return modelapi.New(modelapi.Config{DB: w.Control, Jobs: client}).Delete(ctx, account, w.ids["HttpApi"])
		}},
		{1, func() error {
			return aiservice.New(aiservice.Config{DB: w.Control, Jobs: client}).Delete(ctx, account, w.ids["Service"])
		}},
		{1, func() error { return entrances.DeleteDomain(ctx, account, w.ids["Domain"]) }},
		{1, func() error { return consumers.Delete(ctx, account, w.ids["Consumer"]) }},
		{1, func() error { return consumers.DeleteGroup(ctx, account, w.ids["ConsumerGroup"]) }},
		{2, func() error { return entrances.DeleteGateway(ctx, account, w.ids["Gateway"]) }},
	} {
		require.NoError(t, step.how())
		left -= step.deletes
		_, held := w.count(t)
		require.Equal(t, left, held)
	}

	gateway, err := entrances.CreateGateway(ctx, account, ingress.GatewaySpec{Name: "other"})
	require.NoError(t, err)
	made, err := entrances.CreateEnvironment(ctx, account, ingress.EnvironmentSpec{GatewayID: gateway.ID, Name: "staging"})
	require.NoError(t, err)
	require.NoError(t, w.resources.Tag(ctx, account, "Environment", []string{made.ID}, tags("team=search")))
	require.NoError(t, entrances.DeleteEnvironment(ctx, account, made.ID))
	_, held := w.count(t)
	require.Zero(t, held)
}
