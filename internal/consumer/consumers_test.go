package consumer_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	account  = "1000000000000001"
	stranger = "1000000000000002"
	env      = "env-00000000000000000001"
	otherEnv = "env-00000000000000000002"
)

var everything = instance.Page{Number: 1, Size: 100}

// world is an account with two Model APIs, beside a stranger with one.
type world struct {
	*pgtest.DB
	consumers *consumer.Consumers
	publisher *publish.Publisher
	published *secret.Box // under the snapshot key
	apis      []string
	strangers string   // Model API
	before    []string // what was published when it last worked
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := pgtest.New(t)
	w := &world{DB: db, apis: []string{ids.New(ids.HTTPAPI), ids.New(ids.HTTPAPI)}, strangers: ids.New(ids.HTTPAPI)}
	slices.Sort(w.apis)
	w.exec(t, `INSERT INTO account (id, name) VALUES ($1, 'a'), ($2, 'b')`, account, stranger)
	w.exec(t, `
		INSERT INTO gateway (id, account_id, name, resource_group_id) VALUES ('gw-1', $1, 'main', 'rg-default')`, account)
	w.exec(t, `
		INSERT INTO environment (id, account_id, gateway_id, name, alias, resource_group_id)
		VALUES ($2, $1, 'gw-1', 'one', 'One', 'rg-default'), ($3, $1, 'gw-1', 'two', 'Two', 'rg-default')`, account, env, otherEnv)
	for n, id := range append(slices.Clone(w.apis), w.strangers) {
		owner := account
		if id == w.strangers {
			owner = stranger
		}
		w.exec(t, `
			INSERT INTO http_api (id, account_id, name, type, model_category, ai_protocols, base_path, gateway_id,
				environment_id, deploy_config, resource_group_id)
			VALUES ($1, $2, $3, 'LLM', 'Text', '{OpenAI/v1}', '/', 'gw-1', $4, '{}', 'rg-default')`,
			id, owner, fmt.Sprintf("api-%d", n), env)
	}
	client, err := jobs.NewInserter(db.Control)
	require.NoError(t, err)
	master, err := secret.NewBox()
	require.NoError(t, err)
	w.published, err = secret.NewBox()
	require.NoError(t, err)
	w.consumers = consumer.New(consumer.Config{DB: db.Control, Jobs: client, Master: master, Snapshot: w.published})
	w.publisher = publish.NewPublisher(db.Control, client, w.consumers)
	return w
}

func (w *world) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	_, err := w.Owner.Exec(t.Context(), statement, args...)
	require.NoError(t, err)
}

func (w *world) create(t *testing.T, name string, keys ...consumer.Key) consumer.Consumer {
	t.Helper()
	made, err := w.consumers.Create(t.Context(), account, consumer.Spec{Name: name, Keys: keys})
	require.NoError(t, err)
	return made
}

// work publishes what jobs ask for. It returns whom they asked for, and who was published since the last time, each
// once, in order.
func (w *world) work(t *testing.T) []string {
	t.Helper()
	asked := w.ids(t, `DELETE FROM river_job WHERE kind = 'publish_item' RETURNING args->>'id'`)
	for _, id := range asked {
		require.NoError(t, w.publisher.Publish(t.Context(), snapshot.KindConsumer, id))
	}
	now := w.ids(t, `SELECT concat_ws(' ', id, source_version, revision) FROM published_item`)
	for _, item := range now {
		if id, _, _ := strings.Cut(item, " "); !slices.Contains(w.before, item) {
			asked = append(asked, id)
		}
	}
	w.before = now
	slices.Sort(asked)
	return slices.Compact(asked)
}

func (w *world) ids(t *testing.T, statement string, args ...any) []string {
	t.Helper()
	rows, err := w.Owner.Query(t.Context(), statement, args...)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return found
}

// shown is what a gateway sees of the consumer; nil is a tombstone.
func (w *world) shown(t *testing.T, id string) *snapshot.Consumer {
	t.Helper()
	var deleted bool
	var body []byte
	require.NoError(t, w.Gateway.QueryRow(t.Context(), `
		SELECT deleted, body FROM published_item WHERE kind = 'consumer' AND id = $1`, id).Scan(&deleted, &body))
	if deleted {
		require.Empty(t, body)
		return nil
	}
	view := new(snapshot.Consumer)
	require.NoError(t, json.Unmarshal(body, view))
	return view
}

// rows counts what a refused call must not leave.
func (w *world) rows(t *testing.T) (counts string) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT format('consumers %s, keys %s, tokens %s, access keys %s, groups %s, members %s, rules %s, jobs %s, audit %s, versions %s',
			(SELECT count(*) FROM consumer), (SELECT count(*) FROM consumer_key),
			(SELECT count(*) FROM consumer_token), (SELECT count(*) FROM consumer_access_key), (SELECT count(*) FROM consumer_group),
			(SELECT count(*) FROM consumer_group_member), (SELECT count(*) FROM authorization_rule),
			(SELECT count(*) FROM river_job), (SELECT count(*) FROM audit_event), (SELECT sum(version) FROM consumer))`).Scan(&counts))
	return counts
}

func system() consumer.Key { return consumer.Key{GenerateMode: consumer.System} }

func custom(text string) consumer.Key {
	return consumer.Key{Secret: secret.New(text), GenerateMode: consumer.Custom}
}

func to[T any](v T) *T { return &v }

func TestAConsumerIsPublishedWithTheHashesOfItsKeysAndNothingElseOfThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made, err := w.consumers.Create(t.Context(), account, consumer.Spec{
		Name: "alice", Description: "the first", KeySource: consumer.Header, KeyName: "X-Key",
		Keys: []consumer.Key{system(), custom("my-own-key-canary")},
	})
	require.NoError(t, err)
	require.True(t, ids.Valid(ids.Consumer, made.ID))
	require.Regexp(t, `^sk-[A-Z2-7]{26}$`, made.Keys[0].Secret.Reveal(), "130 random bits")

	got, err := w.consumers.Get(t.Context(), account, made.ID)
	require.NoError(t, err)
	require.Equal(t, made, got)

	require.Equal(t, []string{made.ID}, w.work(t))
	require.Equal(t, &snapshot.Consumer{
		ID: made.ID, Name: "alice", AccountID: account, Allowed: []string{},
		Keys: []snapshot.ConsumerKey{
			{Hash: snapshot.HashKey(made.Keys[0].Secret.Reveal()), Source: "Header", Name: "X-Key"},
			{Hash: snapshot.HashKey("my-own-key-canary"), Source: "Header", Name: "X-Key"},
		},
	}, w.shown(t, made.ID))

	var everywhere string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT concat((SELECT string_agg(k::text || encode(k.key_sealed, 'escape'), '') FROM consumer_key k),
			(SELECT string_agg(p::text || convert_from(p.body, 'UTF8'), '') FROM published_item p),
			(SELECT string_agg(j::text, '') FROM river_job j), (SELECT string_agg(a::text, '') FROM audit_event a))`).Scan(&everywhere))
	require.NotContains(t, everywhere, "canary")
	require.NotContains(t, everywhere, made.Keys[0].Secret.Reveal())
}

func TestTheDefaultPlaceOfAKeyIsTheAuthorizationHeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.create(t, "alice", system())
	require.Equal(t, "Default", made.KeySource)
	require.Equal(t, "Authorization", made.KeyName)
	w.work(t)
	require.Equal(t, "Default", w.shown(t, made.ID).Keys[0].Source)
	require.Empty(t, w.shown(t, made.ID).Keys[0].Name)
}

func TestBadConsumersAreRefusedAndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "taken", custom("taken-key"))
	before := w.rows(t)
	for name, c := range map[string]struct {
		spec consumer.Spec
		want string
	}{
		"one character":       {consumer.Spec{Name: "a"}, "InvalidParameter.Name"},
		"65 characters":       {consumer.Spec{Name: strings.Repeat("a", 65)}, "InvalidParameter.Name"},
		"ends with a dot":     {consumer.Spec{Name: "alice."}, "InvalidParameter.Name"},
		"begins with a dash":  {consumer.Spec{Name: "-alice"}, "InvalidParameter.Name"},
		"underscore":          {consumer.Spec{Name: "al_ice"}, "InvalidParameter.Name"},
		"line break":          {consumer.Spec{Name: "alice\n"}, "InvalidParameter.Name"},
		"name taken":          {consumer.Spec{Name: "taken"}, "Conflict.ConsumerNameDuplicate"},
		"key taken":           {consumer.Spec{Name: "bob", Keys: []consumer.Key{system(), custom("taken-key")}}, "Conflict.ApiKeyUnavailable"},
		"key twice":           {consumer.Spec{Name: "bob", Keys: []consumer.Key{custom("one-and-the-same"), custom("one-and-the-same")}}, "the same key twice"},
		"short key":           {consumer.Spec{Name: "bob", Keys: []consumer.Key{custom("1234567")}}, "8 to 128"},
		"key with a space":    {consumer.Spec{Name: "bob", Keys: []consumer.Key{custom("1234 5678")}}, "without spaces"},
		"no custom key":       {consumer.Spec{Name: "bob", Keys: []consumer.Key{{GenerateMode: "Custom"}}}, "8 to 128"},
		"chosen system key":   {consumer.Spec{Name: "bob", Keys: []consumer.Key{{Secret: secret.New("sk-chosen-by-me"), GenerateMode: "System"}}}, "is generated"},
		"unknown mode":        {consumer.Spec{Name: "bob", Keys: []consumer.Key{{GenerateMode: "Manual"}}}, "generateMode"},
		"11 keys":             {consumer.Spec{Name: "bob", Keys: slices.Repeat([]consumer.Key{system()}, 11)}, "at most 10"},
		"unknown source":      {consumer.Spec{Name: "bob", KeySource: "Cookie", KeyName: "k"}, "apikeySource.source"},
		"default elsewhere":   {consumer.Spec{Name: "bob", KeyName: "X-Key"}, "apikeySource.value"},
		"header without name": {consumer.Spec{Name: "bob", KeySource: "Header"}, "apikeySource.value"},
		"header Host":         {consumer.Spec{Name: "bob", KeySource: "Header", KeyName: "hOsT"}, "apikeySource.value"},
		"header with colon":   {consumer.Spec{Name: "bob", KeySource: "Header", KeyName: "X:Y"}, "apikeySource.value"},
		"query with ampers":   {consumer.Spec{Name: "bob", KeySource: "QueryString", KeyName: "a&b"}, "apikeySource.value"},
		"long description":    {consumer.Spec{Name: "bob", Description: strings.Repeat("x", 257)}, "description"},
		"null character":      {consumer.Spec{Name: "bob", Description: "a\x00b"}, "description"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.consumers.Create(t.Context(), account, c.spec)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "taken-key")
		})
	}
	require.Equal(t, before, w.rows(t))
}

func TestAKeyIsOneOfTheWholeInstallation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	theirs, err := w.consumers.Create(t.Context(), stranger, consumer.Spec{Name: "alice", Keys: []consumer.Key{custom("the-key-of-bob")}})
	require.NoError(t, err, "names are the account's own, keys are not")
	_, err = w.consumers.Create(t.Context(), account, consumer.Spec{Name: "alice", Keys: []consumer.Key{custom("the-key-of-bob")}})
	require.ErrorIs(t, err, consumer.ErrKeyTaken)
	require.NotContains(t, err.Error(), theirs.ID)

	mine := w.create(t, "alice", system())
	err = w.consumers.Update(t.Context(), account, mine.ID, consumer.Change{Keys: &[]consumer.Key{custom("the-key-of-bob")}})
	require.ErrorIs(t, err, consumer.ErrKeyTaken)
	got, err := w.consumers.Get(t.Context(), account, mine.ID)
	require.NoError(t, err)
	require.Equal(t, mine.Keys, got.Keys, "a refused update changes nothing")
}

func TestOfManyCallsForOneNameOrOneKeyOneSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	race := func(spec func(n int) consumer.Spec, loses error) {
		var wait sync.WaitGroup
		results := make([]error, 12)
		for n := range results {
			wait.Go(func() { _, results[n] = w.consumers.Create(t.Context(), account, spec(n)) })
		}
		wait.Wait()
		won := 0
		for _, err := range results {
			if err == nil {
				won++
			} else {
				require.ErrorIs(t, err, loses)
			}
		}
		require.Equal(t, 1, won)
	}
	race(func(int) consumer.Spec { return consumer.Spec{Name: "one-name"} }, consumer.ErrNameTaken)
	race(func(n int) consumer.Spec {
		keys := []consumer.Key{custom("first-key-of-two"), custom("second-key-of-two"), custom("third-key-of-two")}
		if n%2 == 1 {
			slices.Reverse(keys) // in the other order: they must not wait for each other
		}
		return consumer.Spec{Name: fmt.Sprintf("racer-%d", n), Keys: keys}
	}, consumer.ErrKeyTaken)
}

func TestAnUpdateKeepsWhatItDoesNotName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.create(t, "alice", system(), custom("a-key-of-my-own"))
	update := func(change consumer.Change) consumer.Consumer {
		require.NoError(t, w.consumers.Update(t.Context(), account, made.ID, change))
		require.Equal(t, []string{made.ID}, w.work(t))
		got, err := w.consumers.Get(t.Context(), account, made.ID)
		require.NoError(t, err)
		return got
	}
	got := update(consumer.Change{Description: to("second")})
	require.Equal(t, "second", got.Description)
	require.Equal(t, made.Keys, got.Keys)

	got = update(consumer.Change{KeySource: to("QueryString"), KeyName: to("key")})
	require.Equal(t, "key", w.shown(t, made.ID).Keys[1].Name)
	got = update(consumer.Change{KeySource: to("Default")})
	require.Equal(t, "Authorization", got.KeyName, "the name of the query parameter does not outlive it")

	// What was read is written back, with one more and one less: the client may rotate its keys.
	got = update(consumer.Change{Keys: &[]consumer.Key{{Secret: got.Keys[0].Secret, GenerateMode: "System"}, system()}})
	require.Equal(t, made.Keys[0], got.Keys[0])
	require.NotEqual(t, made.Keys[0].Secret.Reveal(), got.Keys[1].Secret.Reveal())
	hashes := [][]byte{}
	for _, key := range w.shown(t, made.ID).Keys {
		hashes = append(hashes, key.Hash)
	}
	require.Equal(t, [][]byte{snapshot.HashKey(got.Keys[0].Secret.Reveal()), snapshot.HashKey(got.Keys[1].Secret.Reveal())}, hashes)

	got = update(consumer.Change{Keys: &[]consumer.Key{}})
	require.Empty(t, got.Keys)
	require.Equal(t, []snapshot.ConsumerKey{}, w.shown(t, made.ID).Keys)

	for _, bad := range []consumer.Change{
		{Description: to(strings.Repeat("x", 257))},
		{KeySource: to("Header")},
		{Keys: &[]consumer.Key{{Secret: secret.New("sk-not-one-of-mine"), GenerateMode: "System"}}},
	} {
		require.ErrorContains(t, w.consumers.Update(t.Context(), account, made.ID, bad), "InvalidParameter")
	}
	require.Empty(t, w.work(t))
}

func TestADisabledConsumerIsATombstone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	off, err := w.consumers.Create(t.Context(), account, consumer.Spec{Name: "born-off", Enabled: to(false), Keys: []consumer.Key{system()}})
	require.NoError(t, err)
	w.work(t)
	w.requireConverged(t)
	var items int
	require.NoError(t, w.Gateway.QueryRow(t.Context(), `SELECT count(*) FROM published_item`).Scan(&items))
	require.Zero(t, items)

	require.NoError(t, w.consumers.Update(t.Context(), account, off.ID, consumer.Change{Enabled: to(true)}))
	w.work(t)
	require.Len(t, w.shown(t, off.ID).Keys, 1)
	require.NoError(t, w.consumers.Update(t.Context(), account, off.ID, consumer.Change{Enabled: to(false)}))
	w.work(t)
	require.Nil(t, w.shown(t, off.ID))
	w.requireConverged(t)
}

func TestADeletedConsumerIsATombstoneAndItsKeyIsFree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.create(t, "alice", custom("the-key-of-alice"))
	group, err := w.consumers.CreateGroup(t.Context(), account, "team", "")
	require.NoError(t, err)
	require.NoError(t, w.consumers.AddMembers(t.Context(), account, group.ID, []string{made.ID}))
	_, err = w.consumers.CreateRules(t.Context(), account, []consumer.RuleSpec{{ConsumerID: made.ID, ResourceType: "LLM", APIID: w.apis[0]}})
	require.NoError(t, err)
	w.work(t)
	require.NoError(t, w.consumers.Delete(t.Context(), account, made.ID))
	require.Equal(t, []string{made.ID}, w.work(t))
	require.Nil(t, w.shown(t, made.ID))
	require.Contains(t, w.rows(t), "consumers 0, keys 0, tokens 0, access keys 0, groups 1, members 0, rules 0")
	w.create(t, "alice", custom("the-key-of-alice"))
}

func TestListsFilterAndPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"alice", "bob", "alicia"} {
		w.create(t, name, system())
		_, err := w.consumers.CreateGroup(t.Context(), account, "team-"+name, "")
		require.NoError(t, err)
	}
	consumers, total, err := w.consumers.List(t.Context(), account, consumer.Filter{NameLike: "ali", Page: instance.Page{Number: 2, Size: 1}})
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Equal(t, "alicia", consumers[0].Name)
	require.Nil(t, consumers[0].Keys)
	groups, total, err := w.consumers.ListGroups(t.Context(), account, consumer.Filter{NameLike: "bob", Page: everything})
	require.NoError(t, err)
	require.Equal(t, 1, total)
	require.Equal(t, "team-bob", groups[0].Name)
}

func TestEveryChangeIsAuditedInItsTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.create(t, "alice", system())
	var resource, outcome string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT resource_id, outcome FROM audit_event`).Scan(&resource, &outcome))
	require.Equal(t, made.ID, resource)
	require.Equal(t, "done", outcome)

	before := w.rows(t)
	w.exec(t, `REVOKE INSERT ON audit_event FROM engineshed_control`)
	ctx := audit.With(t.Context(), &audit.Entry{RequestID: "r"})
	_, err := w.consumers.Create(ctx, account, consumer.Spec{Name: "bob"})
	require.Error(t, err)
	require.Error(t, w.consumers.Delete(ctx, account, made.ID))
	require.Error(t, w.consumers.Update(ctx, account, made.ID, consumer.Change{Enabled: to(false)}))
	require.Equal(t, before, w.rows(t))
}

// requireConverged checks that a reconcile finds nothing to do.
func (w *world) requireConverged(t *testing.T) {
	t.Helper()
	require.NoError(t, w.publisher.Reconcile(t.Context()))
	require.Empty(t, w.work(t))
}

func TestReconcileFindsWhatGatewaysSeeOtherwise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	shown, behind, off, gone := w.create(t, "shown"), w.create(t, "behind"), w.create(t, "off"), w.create(t, "gone")
	w.work(t)
	w.requireConverged(t)
	unseen := w.create(t, "unseen")
	w.exec(t, `UPDATE consumer SET version = version + 1 WHERE id = $1`, behind.ID)
	w.exec(t, `UPDATE consumer SET enabled = false WHERE id = $1`, off.ID)
	w.exec(t, `DELETE FROM consumer WHERE id = $1`, gone.ID)
	w.exec(t, `DELETE FROM river_job`)
	require.NoError(t, w.publisher.Reconcile(t.Context()))
	require.ElementsMatch(t, []string{unseen.ID, behind.ID, off.ID, gone.ID}, w.work(t))
	require.Nil(t, w.shown(t, off.ID))
	require.Nil(t, w.shown(t, gone.ID))
	require.NotNil(t, w.shown(t, shown.ID))
	w.requireConverged(t)
}
