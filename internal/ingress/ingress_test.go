package ingress_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/secret"
)

const (
	account  = "1000000000000001"
	stranger = "1000000000000002"
)

var everything = instance.Page{Number: 1, Size: 100}

// world is an installation with two accounts and an empty certificate directory.
type world struct {
	*pgtest.DB
	ingress   *ingress.Ingress
	publisher *publish.Publisher
	snapshot  *secret.Box
	certs     string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := pgtest.New(t)
	client, err := jobs.NewInserter(db.Control)
	require.NoError(t, err)
	box, err := secret.NewBox()
	require.NoError(t, err)
	w := &world{DB: db, snapshot: box, certs: t.TempDir()}
	w.ingress = ingress.New(ingress.Config{DB: db.Control, Jobs: client, Snapshot: box, BaseDomain: "Base.Test", CertDir: w.certs})
	w.publisher = publish.NewPublisher(db.Control, client, w.ingress)
	w.exec(t, `INSERT INTO account (id, name) VALUES ($1, 'a'), ($2, 'b')`, account, stranger)
	return w
}

func (w *world) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	_, err := w.Owner.Exec(t.Context(), statement, args...)
	require.NoError(t, err)
}

// rows counts what a refused call must not leave.
func (w *world) rows(t *testing.T) (counts string) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT format('gateways %s, environments %s, domains %s, jobs %s, audit %s',
			(SELECT count(*) FROM gateway), (SELECT count(*) FROM environment), (SELECT count(*) FROM domain),
			(SELECT count(*) FROM river_job), (SELECT count(*) FROM audit_event))`).Scan(&counts))
	return counts
}

func (w *world) gateway(t *testing.T, name string) ingress.Gateway {
	t.Helper()
	g, err := w.ingress.CreateGateway(t.Context(), account, ingress.GatewaySpec{Name: name})
	require.NoError(t, err)
	return g
}

func (w *world) environment(t *testing.T, gatewayID, name string) ingress.Environment {
	t.Helper()
	e, err := w.ingress.CreateEnvironment(t.Context(), account, ingress.EnvironmentSpec{GatewayID: gatewayID, Name: name})
	require.NoError(t, err)
	return e
}

// api puts a Model API into the environment.
func (w *world) api(t *testing.T, e ingress.Environment) string {
	t.Helper()
	id := ids.New(ids.HTTPAPI)
	w.exec(t, `
		INSERT INTO http_api (id, account_id, name, type, model_category, ai_protocols, base_path, gateway_id,
			environment_id, deploy_config, resource_group_id)
		VALUES ($1, $2, $1, 'LLM', 'Text', '{OpenAI/v1}', '/', $3, $4, '{}', 'rg-default')`, id, account, e.GatewayID, e.ID)
	return id
}

func to[T any](v T) *T { return &v }

func TestAGatewayComesWithItsDefaultEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway(t, "main")
	require.True(t, ids.Valid(ids.Gateway, g.ID))
	require.Equal(t, account, g.AccountID)
	require.Equal(t, "rg-default", g.ResourceGroupID)
	require.False(t, g.Default)
	require.Len(t, g.Environments, 1)
	e := g.Environments[0]
	require.True(t, ids.Valid(ids.Environment, e.ID))
	require.Equal(t, "default-"+g.ID, e.Name)
	require.True(t, e.Default)
	require.Equal(t, e.ID+".base.test", e.SubDomain)
	require.Equal(t, w.ingress.SubDomain(e.ID), e.SubDomain)

	got, err := w.ingress.GetEnvironment(t.Context(), account, e.ID)
	require.NoError(t, err)
	require.Equal(t, e, got)
	require.Equal(t, "main", got.GatewayName)
}

func TestAGatewayRunsWhileAProcessReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway(t, "main")
	require.Equal(t, "Stopped", g.Status)
	status := func() string {
		got, err := w.ingress.GetGateway(t.Context(), account, g.ID)
		require.NoError(t, err)
		return got.Status
	}
	w.exec(t, `INSERT INTO gateway_status VALUES ('p', 1, now(), now())`)
	require.Equal(t, "Running", status())
	w.exec(t, `UPDATE gateway_status SET reported_at = now() - interval '11 seconds'`)
	require.Equal(t, "Stopped", status())
	w.exec(t, `UPDATE gateway_status SET reported_at = now(), gateway_id = 'gw-another'`)
	require.Equal(t, "Stopped", status(), "a process of another gateway does not serve this one")
	w.exec(t, `UPDATE gateway_status SET gateway_id = '`+g.ID+`'`)
	require.Equal(t, "Running", status())
}

func TestBadGatewaysAndEnvironmentsAreRefusedAndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway(t, "main")
	w.environment(t, g.ID, "staging")
	theirs, err := w.ingress.CreateGateway(t.Context(), stranger, ingress.GatewaySpec{Name: "main"})
	require.NoError(t, err, "names are the account's own")
	before := w.rows(t)
	for name, c := range map[string]struct{ name, group, want string }{
		"no name":       {"", "", "InvalidParameter.Name"},
		"65 characters": {strings.Repeat("a", 65), "", "InvalidParameter.Name"},
		"a space":       {"my gateway", "", "InvalidParameter.Name"},
		"taken":         {"main", "", "Conflict.GatewayNameDuplicate"},
		"another group": {"other", "rg-other", "InvalidResourceGroupId.NotFound"},
	} {
		t.Run("gateway "+name, func(t *testing.T) {
			_, err := w.ingress.CreateGateway(t.Context(), account, ingress.GatewaySpec{Name: c.name, ResourceGroupID: c.group})
			require.ErrorContains(t, err, c.want)
		})
	}
	for name, c := range map[string]struct {
		spec ingress.EnvironmentSpec
		want string
	}{
		"bad name":           {ingress.EnvironmentSpec{GatewayID: g.ID, Name: "a/b"}, "InvalidParameter.Name"},
		"taken":              {ingress.EnvironmentSpec{GatewayID: g.ID, Name: "staging"}, "Conflict.EnvironmentNameDuplicate"},
		"unknown gateway":    {ingress.EnvironmentSpec{GatewayID: ids.New(ids.Gateway), Name: "e"}, "NotFound.GatewayNotFound"},
		"a stranger's":       {ingress.EnvironmentSpec{GatewayID: theirs.ID, Name: "e"}, "NotFound.GatewayNotFound"},
		"long alias":         {ingress.EnvironmentSpec{GatewayID: g.ID, Name: "e", Alias: strings.Repeat("a", 65)}, "alias"},
		"long description":   {ingress.EnvironmentSpec{GatewayID: g.ID, Name: "e", Description: strings.Repeat("a", 257)}, "description"},
		"null character":     {ingress.EnvironmentSpec{GatewayID: g.ID, Name: "e", Description: "\x00"}, "description"},
		"another group":      {ingress.EnvironmentSpec{GatewayID: g.ID, Name: "e", ResourceGroupID: "rg"}, "InvalidResourceGroupId.NotFound"},
		"nothing but a name": {ingress.EnvironmentSpec{Name: "e"}, "NotFound.GatewayNotFound"},
	} {
		t.Run("environment "+name, func(t *testing.T) {
			_, err := w.ingress.CreateEnvironment(t.Context(), account, c.spec)
			require.ErrorContains(t, err, c.want)
		})
	}
	require.Equal(t, before, w.rows(t))
}

func TestOfManyCallsForOneNameOneSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway(t, "main")
	race := func(call func() error, loses error) {
		var wait sync.WaitGroup
		results := make([]error, 8)
		for n := range results {
			wait.Go(func() { results[n] = call() })
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
	race(func() error {
		_, err := w.ingress.CreateGateway(t.Context(), account, ingress.GatewaySpec{Name: "one"})
		return err
	}, ingress.ErrGatewayNameTaken)
	race(func() error {
		_, err := w.ingress.CreateEnvironment(t.Context(), account, ingress.EnvironmentSpec{GatewayID: g.ID, Name: "one"})
		return err
	}, ingress.ErrEnvironmentNameTaken)
	race(func() error {
		_, err := w.ingress.CreateDomain(t.Context(), account, ingress.DomainSpec{Name: "one.example.com", Protocol: "HTTP"})
		return err
	}, ingress.ErrDomainNameTaken)
}

func TestGatewaysAreListedAndRenamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.gateway(t, "one"), w.gateway(t, "two")
	w.environment(t, two.ID, "staging")
	list := func(f ingress.GatewayFilter) (names []string) {
		f.Page = everything
		found, total, err := w.ingress.ListGateways(t.Context(), account, f)
		require.NoError(t, err)
		require.Len(t, found, total)
		for _, g := range found {
			names = append(names, g.Name)
		}
		return names
	}
	require.Equal(t, []string{"one", "two"}, list(ingress.GatewayFilter{}))
	require.Equal(t, []string{"two"}, list(ingress.GatewayFilter{ID: two.ID}))
	require.Equal(t, []string{"one"}, list(ingress.GatewayFilter{Name: "one", ResourceGroupID: "rg-default"}))
	require.Empty(t, list(ingress.GatewayFilter{Name: "on"}))
	require.Equal(t, []string{"two"}, list(ingress.GatewayFilter{Keyword: "tw"}))
	require.Equal(t, []string{"one"}, list(ingress.GatewayFilter{Keyword: one.ID}))

	page, total, err := w.ingress.ListGateways(t.Context(), account, ingress.GatewayFilter{Page: instance.Page{Number: 2, Size: 1}})
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Equal(t, "two", page[0].Name)
	require.Len(t, page[0].Environments, 2)

	require.ErrorIs(t, w.ingress.UpdateGatewayName(t.Context(), account, one.ID, "two"), ingress.ErrGatewayNameTaken)
	require.ErrorIs(t, w.ingress.UpdateGatewayName(t.Context(), account, one.ID, "t w o"), ingress.ErrName)
	require.NoError(t, w.ingress.UpdateGatewayName(t.Context(), account, one.ID, "three"))
	require.Equal(t, []string{"three", "two"}, list(ingress.GatewayFilter{}))
}

func TestEnvironmentsAreListedAndUpdated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.gateway(t, "one"), w.gateway(t, "two")
	made, err := w.ingress.CreateEnvironment(t.Context(), account, ingress.EnvironmentSpec{
		GatewayID: one.ID, Name: "staging", Alias: "Before", Description: "try it here",
	})
	require.NoError(t, err)
	require.Equal(t, "try it here", made.Description)
	require.Equal(t, "live", w.environment(t, two.ID, "live").Alias, "an environment without an alias goes by its name")
	list := func(f ingress.EnvironmentFilter) (names []string) {
		f.Page = everything
		found, total, err := w.ingress.ListEnvironments(t.Context(), account, f)
		require.NoError(t, err)
		require.Len(t, found, total)
		for _, e := range found {
			names = append(names, e.Name)
		}
		return names
	}
	require.Equal(t, []string{"default-" + one.ID, "default-" + two.ID, "staging", "live"}, list(ingress.EnvironmentFilter{}))
	require.Equal(t, []string{"default-" + two.ID, "live"}, list(ingress.EnvironmentFilter{GatewayID: two.ID, ResourceGroupID: "rg-default"}))
	require.Equal(t, []string{"staging"}, list(ingress.EnvironmentFilter{NameLike: "tag"}))
	require.Equal(t, []string{"staging"}, list(ingress.EnvironmentFilter{AliasLike: "efor"}))
	require.Equal(t, []string{"live"}, list(ingress.EnvironmentFilter{GatewayNameLike: "wo", NameLike: "live"}))

	require.NoError(t, w.ingress.UpdateEnvironment(t.Context(), account, made.ID, "After", nil))
	got, err := w.ingress.GetEnvironment(t.Context(), account, made.ID)
	require.NoError(t, err)
	require.Equal(t, "After", got.Alias)
	require.Equal(t, "try it here", got.Description)
	require.NoError(t, w.ingress.UpdateEnvironment(t.Context(), account, made.ID, "After", to("")))
	got, err = w.ingress.GetEnvironment(t.Context(), account, made.ID)
	require.NoError(t, err)
	require.Empty(t, got.Description)
	require.ErrorContains(t, w.ingress.UpdateEnvironment(t.Context(), account, made.ID, "", nil), "MissingParameter")
	require.ErrorContains(t, w.ingress.UpdateEnvironment(t.Context(), account, made.ID, "a\x00", nil), "alias")
	require.ErrorContains(t, w.ingress.UpdateEnvironment(t.Context(), account, made.ID, "a", to("\x00")), "description")
}

func TestWhatIsUsedIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway(t, "main")
	staging := w.environment(t, g.ID, "staging")
	free := w.environment(t, g.ID, "free")
	api := w.api(t, staging)
	d, err := w.ingress.CreateDomain(t.Context(), account, ingress.DomainSpec{Name: "api.example.com", Protocol: "HTTP"})
	require.NoError(t, err)
	w.exec(t, `INSERT INTO http_api_host (http_api_id, domain_id, base_path) VALUES ($1, $2, '/')`, api, d.ID)

	before := w.rows(t)
	require.ErrorIs(t, w.ingress.DeleteDomain(t.Context(), account, d.ID), ingress.ErrDomainInUse)
	require.ErrorIs(t, w.ingress.DeleteEnvironment(t.Context(), account, staging.ID), ingress.ErrEnvironmentInUse)
	require.ErrorIs(t, w.ingress.DeleteEnvironment(t.Context(), account, g.Environments[0].ID), ingress.ErrDefaultEnvironment)
	require.ErrorIs(t, w.ingress.DeleteGateway(t.Context(), account, g.ID), ingress.ErrGatewayInUse)
	require.Equal(t, before, w.rows(t))

	require.NoError(t, w.ingress.DeleteEnvironment(t.Context(), account, free.ID))
	w.exec(t, `DELETE FROM http_api`)
	w.exec(t, `
		INSERT INTO ai_service (id, account_id, gateway_id, name, source_type, resource_group_id)
		VALUES ('svc-1', $1, $2, 's', 'AI', 'rg-default')`, account, g.ID)
	require.ErrorIs(t, w.ingress.DeleteGateway(t.Context(), account, g.ID), ingress.ErrGatewayInUse)
	w.exec(t, `DELETE FROM ai_service`)
	require.NoError(t, w.ingress.DeleteDomain(t.Context(), account, d.ID))
	require.NoError(t, w.ingress.DeleteEnvironment(t.Context(), account, staging.ID))
	require.NoError(t, w.ingress.DeleteGateway(t.Context(), account, g.ID))
	require.Contains(t, w.rows(t), "gateways 0, environments 0, domains 0")
}

func TestAStrangersIdAnswersAsAnUnknownOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway(t, "main")
	e := w.environment(t, g.ID, "staging")
	d, err := w.ingress.CreateDomain(t.Context(), account, ingress.DomainSpec{Name: "api.example.com", Protocol: "HTTP"})
	require.NoError(t, err)
	before := w.rows(t)
	i, ctx := w.ingress, t.Context()
	for name, c := range map[string]struct {
		prefix, id string
		call       func(id string) error
	}{
		"GetGateway":        {ids.Gateway, g.ID, func(id string) error { _, err := i.GetGateway(ctx, stranger, id); return err }},
		"UpdateGatewayName": {ids.Gateway, g.ID, func(id string) error { return i.UpdateGatewayName(ctx, stranger, id, "mine") }},
		"DeleteGateway":     {ids.Gateway, g.ID, func(id string) error { return i.DeleteGateway(ctx, stranger, id) }},
		"GetEnvironment":    {ids.Environment, e.ID, func(id string) error { _, err := i.GetEnvironment(ctx, stranger, id); return err }},
		"UpdateEnvironment": {ids.Environment, e.ID, func(id string) error { return i.UpdateEnvironment(ctx, stranger, id, "mine", nil) }},
		"DeleteEnvironment": {ids.Environment, e.ID, func(id string) error { return i.DeleteEnvironment(ctx, stranger, id) }},
		"GetDomain":         {ids.Domain, d.ID, func(id string) error { _, err := i.GetDomain(ctx, stranger, id); return err }},
		"UpdateDomain":      {ids.Domain, d.ID, func(id string) error { return i.UpdateDomain(ctx, stranger, id, ingress.DomainChange{}) }},
		"DeleteDomain":      {ids.Domain, d.ID, func(id string) error { return i.DeleteDomain(ctx, stranger, id) }},
	} {
		t.Run(name, func(t *testing.T) {
			unknownID := ids.New(c.prefix)
			theirs, unknown := c.call(c.id), c.call(unknownID)
			require.Error(t, theirs)
			require.Equal(t, strings.ReplaceAll(unknown.Error(), unknownID, c.id), theirs.Error())
			require.Contains(t, unknown.Error(), "NotFound")
		})
	}
	require.Equal(t, before, w.rows(t))
	_, err = i.GetGateway(ctx, account, "")
	require.ErrorIs(t, err, ingress.ErrGatewayNotFound)
	_, total, err := i.ListGateways(ctx, stranger, ingress.GatewayFilter{Page: everything})
	require.NoError(t, err)
	require.Zero(t, total)
	_, total, err = i.ListEnvironments(ctx, stranger, ingress.EnvironmentFilter{Page: everything})
	require.NoError(t, err)
	require.Zero(t, total)
	_, total, err = i.ListDomains(ctx, stranger, ingress.DomainFilter{Page: everything})
	require.NoError(t, err)
	require.Zero(t, total)
}

func TestSeedMakesOneGatewayOnceAndOneDefaultInAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wait sync.WaitGroup
	results := make([]error, 4)
	for n := range results {
		wait.Go(func() { results[n] = w.ingress.Seed(t.Context(), account) })
	}
	wait.Wait()
	for _, err := range results {
		require.NoError(t, err)
	}
	require.NoError(t, w.ingress.Seed(t.Context(), stranger))
	for owner, isDefault := range map[string]bool{account: true, stranger: false} {
		found, total, err := w.ingress.ListGateways(t.Context(), owner, ingress.GatewayFilter{Page: everything})
		require.NoError(t, err)
		require.Equal(t, 1, total)
		require.Equal(t, isDefault, found[0].Default, "one gateway answers for hosts that no domain claims")
		require.Len(t, found[0].Environments, 1)
	}
}

func TestEveryChangeIsAuditedInItsTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway(t, "main")
	var resource, outcome string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT resource_id, outcome FROM audit_event`).Scan(&resource, &outcome))
	require.Equal(t, g.ID, resource)
	require.Equal(t, "done", outcome)
	e := w.environment(t, g.ID, "staging")

	before := w.rows(t)
	w.exec(t, `REVOKE INSERT ON audit_event FROM engineshed_control`)
	ctx := audit.With(t.Context(), &audit.Entry{RequestID: "r"})
	_, err := w.ingress.CreateGateway(ctx, account, ingress.GatewaySpec{Name: "other"})
	require.Error(t, err)
	_, err = w.ingress.CreateDomain(ctx, account, ingress.DomainSpec{Name: "x.example.com", Protocol: "HTTP"})
	require.Error(t, err)
	require.Error(t, w.ingress.UpdateGatewayName(ctx, account, g.ID, "other"))
	require.Error(t, w.ingress.DeleteEnvironment(ctx, account, e.ID))
	require.Error(t, w.ingress.DeleteGateway(ctx, account, g.ID))
	require.Equal(t, before, w.rows(t))
}
