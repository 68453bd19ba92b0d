package modelapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// countLess is count without as many audit rows.
func (w *world) countLess(t *testing.T, audits int) string {
	t.Helper()
	return regexp.MustCompile(`audit (\d+)`).ReplaceAllStringFunc(w.count(t), func(found string) string {
		n, err := strconv.Atoi(strings.TrimPrefix(found, "audit "))
		require.NoError(t, err)
		return fmt.Sprintf("audit %d", n-audits)
	})
}

func everybody(string) error { return nil }

func (w *world) export(t *testing.T, id string) Document {
	t.Helper()
	doc, err := w.apis.Export(t.Context(), account, id, 0)
	require.NoError(t, err)
	return doc
}

func (w *world) take(t *testing.T, doc Document) Imported {
	t.Helper()
	result, err := w.apis.Import(t.Context(), account, doc, false, everybody)
	require.NoError(t, err)
	return result
}

// rich makes an API in which everything is said that a document can say.
func (w *world) rich(t *testing.T) API {
	t.Helper()
	spec := w.spec("rich")
	spec.RemoveBasePath, spec.EnableAuth, spec.AuthConfig, spec.Description = true, true, &AuthConfig{"Apikey", "Custom"}, "a note"
	spec.DeployConfigs[0].CustomDomainIDs = []string{w.domain, w.wildcard}
	spec.FirstByteTimeout, spec.TrafficConfig = 3000, TrafficConfig{1000, 2000, 10, 20, PrefixAware}
	spec.DeployConfigs[0].PolicyConfigs = append(fallingBack(FallbackService{ServiceID: w.service2, TargetModelName: "m"}), PolicyConfig{
		Type: "AiStatistics", AiStatistics: &AiStatistics{LogRequestContent: true},
	})
	spec.DeployConfigs[0].BuiltinRouteNames = []string{"chat-completions"}
	api := w.create(t, spec)
	_, err := w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{
		Name: "mine", Match: Match{
			Path: PathMatch{Regex, "/v[0-9]/mine"}, Methods: []string{"POST"}, Headers: []ValueMatch{{"X-Team", Exact, "a"}},
		}, Backend: &Backend{"Single", []ServiceConfig{{ServiceID: w.service2, ModelName: "other"}}},
		PolicyConfigs: fallingBack(FallbackService{ServiceID: w.service}),
	})
	require.NoError(t, err)
	_, err = w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{
		Name: "watched", Match: Match{Path: PathMatch{Exact, "/watched"}},
		Backend: &Backend{ByObservability, []ServiceConfig{watched(w.service, "LeastBusy", 0.8), {ServiceID: w.service2}}},
	})
	require.NoError(t, err)
	api, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	return api
}

func (w *world) consumer(t *testing.T, name string) string {
	t.Helper()
	c, err := w.consumers.Create(t.Context(), account, consumer.Spec{Name: name, Keys: []consumer.Key{{GenerateMode: consumer.System}}})
	require.NoError(t, err)
	return c.ID
}

// callers are the consumers that gateways let in.
func (w *world) callers(t *testing.T, apiID string) []string {
	t.Helper()
	w.publish(t)
	rows, err := w.Gateway.Query(t.Context(), `SELECT body FROM published_item WHERE kind = 'consumer' AND NOT deleted`)
	require.NoError(t, err)
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	names := []string{}
	for _, body := range bodies {
		var c snapshot.Consumer
		require.NoError(t, json.Unmarshal(body, &c))
		if slices.Contains(c.Allowed, apiID) {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

func TestAnAPIComesBackFromItsDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.rich(t)
	alice := w.consumer(t, "alice")
	_, err := w.consumers.CreateRules(t.Context(), account, []consumer.RuleSpec{{ConsumerID: alice, ResourceType: consumer.ModelAPI, APIID: api.ID}})
	require.NoError(t, err)
	served := w.served(t, api.ID)
	doc := w.export(t, api.ID)
	require.Equal(t, []string{"alice"}, doc.Consumers)
	text, err := json.Marshal(doc)
	require.NoError(t, err)
	for _, prefix := range []string{"gw-", "env-", "svc-", "hr-", "api-", "cs-"} {
		require.NotContains(t, string(text), `"`+prefix, "an id means nothing elsewhere")
	}

	require.NoError(t, w.apis.Delete(t.Context(), account, api.ID))
	require.Nil(t, w.served(t, api.ID))
	var read Document
	require.NoError(t, json.Unmarshal(text, &read))
	result := w.take(t, read)
	require.True(t, result.Created)
	require.EqualValues(t, 1, result.Revision)
	again := w.served(t, result.ID)
	require.NotEqual(t, served.ID, again.ID)
	same := *again
	same.ID, same.Revision = served.ID, served.Revision
	for i := range same.Routes {
		same.Routes[i].ID = served.Routes[i].ID
	}
	require.Equal(t, *served, same)
	require.Equal(t, []string{"alice"}, w.callers(t, result.ID))
	require.Equal(t, doc, w.export(t, result.ID))
}

func TestADocumentThatChangesNothingDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.rich(t)
	doc := w.export(t, api.ID)
	before := w.count(t)
	result := w.take(t, doc)
	require.Equal(t, Imported{ID: api.ID, Name: "rich", Revision: 2, Changes: []Change{}}, result)
	doc.Routes, doc.Consumers, doc.ConsumerGroups = nil, nil, nil
	require.Empty(t, w.take(t, doc).Changes, "what it does not say stays")
	require.Equal(t, before, w.countLess(t, 2), "but that each call is audited")
}

func TestAnImportChangesWhatItsDocumentSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.rich(t)
	alice := w.consumer(t, "alice")
	w.consumer(t, "bob")
	group, err := w.consumers.CreateGroup(t.Context(), account, "team", "")
	require.NoError(t, err)
	require.NoError(t, w.consumers.AddMembers(t.Context(), account, group.ID, []string{alice}))
	_, err = w.consumers.CreateRules(t.Context(), account, []consumer.RuleSpec{{ConsumerID: alice, ResourceType: consumer.ModelAPI, APIID: api.ID}})
	require.NoError(t, err)
	doc := w.export(t, api.ID)
	doc.BasePath, doc.Domains = "/new", []string{"api.example.com"}
	doc.Services[0].ModelName = "qwen-max"
	doc.Routes = append(doc.Routes[1:], RouteDocument{Name: "completions", Builtin: true})
	doc.Routes[0].Match.Path.Value = "/v2/mine"
	doc.Consumers, doc.ConsumerGroups = []string{"bob", "bob"}, []string{"team"}

	before := w.count(t)
	dry, err := w.apis.Import(t.Context(), account, doc, true, everybody)
	require.NoError(t, err)
	require.Equal(t, before, w.countLess(t, 1), "a dry run is audited and changes nothing")
	require.Equal(t, []string{"alice"}, w.callers(t, api.ID))
	result := w.take(t, doc)
	require.Equal(t, dry, result)
	require.EqualValues(t, 3, result.Revision)
	require.False(t, result.Created)
	paths := map[string]Change{}
	for _, c := range result.Changes {
		paths[c.Path] = c
	}
	require.Len(t, paths, 8, "%v", result.Changes)
	require.Equal(t, Change{"basePath", "/rich", "/new"}, paths["basePath"])
	require.Equal(t, Change{"services[qwen].modelName", "qwen-plus", "qwen-max"}, paths["services[qwen].modelName"])
	require.Equal(t, Change{"routes[mine].match.path.value", "/v[0-9]/mine", "/v2/mine"}, paths["routes[mine].match.path.value"])
	require.Nil(t, paths["routes[chat-completions]"].After)
	require.Nil(t, paths["routes[completions]"].Before)
	require.Equal(t, []any{"bob"}, paths["consumers"].After)
	require.Equal(t, []any{"team"}, paths["consumerGroups"].After)
	require.Contains(t, paths, "domains")

	got := w.served(t, api.ID)
	require.Equal(t, "/new", got.BasePath)
	require.Equal(t, []string{"/v1/completions", "/v2/mine", "/watched"}, routeNames(got.Routes, func(r snapshot.Route) string { return r.Path }))
	require.Equal(t, api.Routes[1].ID, got.Routes[1].ID, "a route that stays keeps its id")
	require.Equal(t, []string{"alice", "bob"}, w.callers(t, api.ID), "alice by her group")

	doc.ConsumerGroups, doc.Environment = nil, "staging"
	w.take(t, doc)
	var environments []string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT array_agg(environment_id) FROM authorization_rule`).Scan(&environments))
	require.Equal(t, []string{w.staging}, environments, "rules go with their API")
	doc.Consumers = []string{"alice"}
	require.EqualValues(t, 4, w.take(t, doc).Revision, "who may call is no part of a revision")
	require.Equal(t, []string{"alice"}, w.callers(t, api.ID))
	doc.Consumers = []string{"bob"}
	result = w.take(t, doc)
	require.EqualValues(t, 4, result.Revision)
	require.Equal(t, []string{"bob"}, w.callers(t, api.ID))
}

func TestARefusedImportChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.rich(t)
	w.create(t, w.spec("taken"))
	before := w.count(t)
	for name, c := range map[string]struct {
		change func(*Document)
		want   string
	}{
		"another format":     {func(d *Document) { d.Format = "x" }, "document.format"},
		"a bad name":         {func(d *Document) { d.Name = "a b" }, "InvalidParameter.Name"},
		"another type":       {func(d *Document) { d.Type = TypeAi }, "which never changes"},
		"another scenario":   {func(d *Document) { d.ModelCategory = "Embedding" }, "which never changes"},
		"unknown gateway":    {func(d *Document) { d.Gateway = "nowhere" }, `no gateway named "nowhere"`},
		"stranger's gateway": {func(d *Document) { d.Gateway = "theirs" }, "NotFound.GatewayNotFound"},
		"unknown env":        {func(d *Document) { d.Environment = "x" }, `no environment named "x"`},
		"unknown domain":     {func(d *Document) { d.Domains = []string{"x.example.com"} }, `no domain "x.example.com"`},
		"stranger's domain":  {func(d *Document) { d.Domains = []string{"theirs.example.com"} }, "DatabaseError.RecordNotFound"},
		"unknown service":    {func(d *Document) { d.Services[0].Name = "x" }, `no service named "x"`},
		"service elsewhere":  {func(d *Document) { d.Services[0].Name = "other" }, "NotFound.ServiceNotFound"},
		"route's service":    {func(d *Document) { d.Routes[1].Backend.Services[0].Name = "x" }, "route mine: NotFound.ServiceNotFound"},
		"unknown consumer":   {func(d *Document) { d.Consumers = []string{"x"} }, `no consumer named "x"`},
		"unknown group":      {func(d *Document) { d.ConsumerGroups = []string{"x"} }, `no consumer group named "x"`},
		"no default route":   {func(d *Document) { d.Routes[1].Builtin = true }, "no default route"},
		"a route twice":      {func(d *Document) { d.Routes = append(d.Routes, d.Routes[0]) }, "HttpApiRouteNameDuplicate"},
		"a taken place":      {func(d *Document) { d.BasePath, d.Domains = "/taken", nil }, "The Model API taken"},
		"a policy":           {func(d *Document) { d.PolicyConfigs = []PolicyDocument{{Type: "AiCache", Enable: true}} }, "UnsupportedParameter"},
		"a timeout":          {func(d *Document) { d.FirstByteTimeout = 3_600_001 }, "firstByteTimeout is not valid: it is 0 to 3600000."},
	} {
		for _, dryRun := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				doc := w.export(t, api.ID)
				c.change(&doc)
				_, err := w.apis.Import(t.Context(), account, doc, dryRun, everybody)
				require.ErrorContains(t, err, c.want)
				require.Equal(t, before, w.count(t))
			})
		}
	}
}

func TestAnImportAsksWhetherItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.rich(t)
	doc := w.export(t, api.ID)
	refused := errors.New("no")
	asked := ""
	before := w.count(t)
	_, err := w.apis.Import(t.Context(), account, doc, true, func(id string) error { asked = id; return refused })
	require.ErrorIs(t, err, refused)
	require.Equal(t, api.ID, asked)
	doc.Name = "new"
	_, err = w.apis.Import(t.Context(), account, doc, false, func(id string) error { asked = id; return refused })
	require.ErrorIs(t, err, refused)
	require.Empty(t, asked)
	require.Equal(t, before, w.count(t))
}

func TestADryRunOfANewAPILeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc := w.export(t, w.rich(t).ID)
	doc.Name, doc.BasePath = "new", "/new"
	before := w.count(t)
	ctx := audit.With(t.Context(), &audit.Entry{RequestID: "dry", AccountID: account, Outcome: audit.Done})
	result, err := w.apis.Import(ctx, account, doc, true, everybody)
	require.NoError(t, err)
	require.Empty(t, result.ID)
	require.True(t, result.Created)
	require.NotEmpty(t, result.Changes)
	require.Equal(t, before, w.countLess(t, 1))
}

func TestRevisionsAreCompared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("chat")
	spec.DeployConfigs[0].AutoDeploy = false
	api := w.create(t, spec)
	diff := func(from, to int64) Difference {
		t.Helper()
		d, err := w.apis.Diff(t.Context(), account, api.ID, from, to)
		require.NoError(t, err)
		return d
	}
	d := diff(0, 0)
	require.Zero(t, d.From)
	require.Contains(t, d.Changes, Change{"basePath", nil, "/chat"}, "nothing is deployed: all of it is new")
	_, err := w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Equal(t, Difference{From: 1, Changes: []Change{}}, diff(0, 0))

	_, err = w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/two", AIProtocols: []string{"Anthropic"}})
	require.NoError(t, err)
	draft := diff(0, 0)
	require.Equal(t, []string{
		"aiProtocols", "basePath", "routes[chat-completions]", "routes[completions]", "routes[messages]", "routes[responses]",
	}, routeNames(draft.Changes, func(c Change) string { return c.Path }))
	_, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Equal(t, Difference{From: 1, To: 2, Changes: draft.Changes}, diff(1, 2))
	require.Equal(t, Change{"basePath", "/two", "/chat"}, diff(2, 1).Changes[1])

	_, err = w.apis.Diff(t.Context(), account, api.ID, 1, 3)
	require.ErrorIs(t, err, ErrRevisionNotFound)
	_, err = w.apis.Diff(t.Context(), stranger, api.ID, 1, 2)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = w.apis.Export(t.Context(), stranger, api.ID, 0)
	require.ErrorIs(t, err, ErrNotFound)
	first, err := w.apis.Export(t.Context(), account, api.ID, 1)
	require.NoError(t, err)
	require.Equal(t, []any{"/chat", []string(nil)}, []any{first.BasePath, first.Consumers})
	_, err = w.apis.Export(t.Context(), account, api.ID, 9)
	require.ErrorIs(t, err, ErrRevisionNotFound)

	v, content, err := w.apis.DescribeRevision(t.Context(), account, api.ID, "1")
	require.NoError(t, err)
	require.Equal(t, first, content)
	byID, _, err := w.apis.DescribeRevision(t.Context(), account, api.ID, v.ID)
	require.NoError(t, err)
	require.Equal(t, []any{v, int64(1), false}, []any{byID, byID.Number, byID.Deployed})
	_, _, err = w.apis.DescribeRevision(t.Context(), account, api.ID, "3")
	require.ErrorIs(t, err, ErrRevisionNotFound)
	_, _, err = w.apis.DescribeRevision(t.Context(), stranger, api.ID, v.ID)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestADifferenceIsAsDeepAsBothAreAlike(t *testing.T) {
	t.Parallel()
	type object = map[string]any
	item := func(name string, more any) object { return object{"name": name, "more": more} }
	for name, c := range map[string]struct {
		before, after object
		want          []Change
	}{
		"nothing":        {object{"a": 1, "b": []any{"x"}}, object{"a": 1, "b": []any{"x"}}, []Change{}},
		"a member":       {object{"a": object{"b": 1, "c": 2}}, object{"a": object{"b": 1, "c": 3}}, []Change{{"a.c", json.Number("2"), json.Number("3")}}},
		"added, removed": {object{"a": 1}, object{"b": "x"}, []Change{{"a", json.Number("1"), nil}, {"b", nil, "x"}}},
		"plain lists":    {object{"a": []any{"x"}}, object{"a": []any{"y"}}, []Change{{"a", []any{"x"}, []any{"y"}}}},
		"named items": {
			object{"a": []any{item("x", "1"), item("y", "1")}},
			object{"a": []any{item("y", "2"), item("x", "1")}},
			[]Change{{"a[y].more", "1", "2"}},
		},
		"another order": {
			object{"a": []any{item("x", "1"), item("y", "1")}},
			object{"a": []any{item("y", "1"), item("x", "1")}},
			[]Change{{"a", []any{item("x", "1"), item("y", "1")}, []any{item("y", "1"), item("x", "1")}}},
		},
		"the same name twice": {
			object{"a": []any{item("x", "1"), item("x", "2")}},
			object{"a": []any{item("x", "1"), item("x", "3")}},
			[]Change{{"a", []any{item("x", "1"), item("x", "2")}, []any{item("x", "1"), item("x", "3")}}},
		},
	} {
		got, err := changes(c.before, c.after)
		require.NoError(t, err)
		require.Equal(t, c.want, got, name)
	}
}

func TestIDsOfWhatIsGoneStayVisible(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	config := w.config()
	config.Services[0].ServiceID = w.service2
	_, err := w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/chat", DeployConfigs: []DeployConfig{config}})
	require.NoError(t, err)
	_, err = w.Owner.Exec(t.Context(), `DELETE FROM ai_service WHERE id = $1`, w.service)
	require.NoError(t, err)
	d, err := w.apis.Diff(t.Context(), account, api.ID, 1, 2)
	require.NoError(t, err)
	require.Equal(t, "services["+w.service+"]", d.Changes[1].Path)
	require.Equal(t, "services[deepseek]", d.Changes[0].Path)
	require.True(t, ids.Valid(ids.AIService, w.service))
}
