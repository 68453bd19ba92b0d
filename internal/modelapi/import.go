package modelapi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
)

// Rules keeps who may call what.
type Rules interface {
	// SetRules makes exactly these consumers and groups may call the locked API.
	SetRules(ctx context.Context, tx pgx.Tx, accountID, apiID string, consumerIDs, groupIDs []string) error
}

// Imported is what Import made of a document.
type Imported struct {
	ID       string // "": a new API that was not made, because it was a dry run
	Name     string
	Created  bool
	Revision int64 // the one that gateways serve; 0: none
	Changes  []Change
}

// Import makes the API that a document describes, or makes the one of its name as the document says, and deploys it
// when the document says so. A document that changes nothing does nothing. may is asked first, with the id of the API
// there is or "". A dry run tells what would happen, refusals too, and changes nothing.
func (a *APIs) Import(ctx context.Context, accountID string, doc Document, dryRun bool, may func(id string) error) (Imported, error) {
	if doc.Format != DocumentFormat {
		return Imported{}, fault.InvalidParameter("document.format", "it is "+DocumentFormat+".")
	}
	id, err := a.named(ctx, accountID, doc.Name)
	if err != nil {
		return Imported{}, err
	}
	if err := may(id); err != nil {
		return Imported{}, err
	}
	entry := audit.From(ctx)
	var result Imported
	err = pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		if result, err = a.tryImport(ctx, tx, accountID, id, doc, dryRun); err != nil {
			return err
		}
		entry.ResourceID, entry.Outcome = result.ID, audit.Done
		return audit.Insert(ctx, tx, entry)
	})
	return result, err
}

// named returns the id of the account's API of this name, or "".
func (a *APIs) named(ctx context.Context, accountID, name string) (id string, err error) {
	err = a.db.QueryRow(ctx, `SELECT id FROM http_api WHERE account_id = $1 AND name = $2`, accountID, name).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// tryImport does the work under a savepoint, which a dry run goes back to.
func (a *APIs) tryImport(ctx context.Context, tx pgx.Tx, accountID, id string, doc Document, dryRun bool) (Imported, error) {
	attempt, err := tx.Begin(ctx)
	if err != nil {
		return Imported{}, err
	}
	defer func() { _ = attempt.Rollback(ctx) }() // after a commit it does nothing
	result, err := a.takeIn(ctx, attempt, accountID, id, doc)
	if err != nil {
		return Imported{}, err
	}
	if !dryRun {
		return result, attempt.Commit(ctx)
	}
	if result.Created {
		result.ID = ""
	}
	return result, nil
}

func (a *APIs) takeIn(ctx context.Context, tx pgx.Tx, accountID, id string, doc Document) (Imported, error) {
	s, before, err := a.importing(ctx, tx, accountID, id, doc)
	if err != nil {
		return Imported{}, err
	}
	routes := s.Routes
	next, err := doc.definition(ctx, tx, s)
	if err != nil {
		return Imported{}, err
	}
	result := Imported{ID: s.ID, Name: s.Name, Created: before == nil}
	s.Definition = *next
	if result.Changes, err = a.importChanges(ctx, tx, s, before, doc); err != nil {
		return Imported{}, err
	}
	switch {
	case before == nil:
		err = a.add(ctx, tx, s)
	case edits(result.Changes):
		err = a.save(ctx, tx, s, routes)
	}
	if err != nil {
		return Imported{}, err
	}
	if edits(result.Changes) || s.DeployStatus != Deployed {
		if err := a.settle(ctx, tx, s, s.DeployConfig.AutoDeploy); err != nil {
			return Imported{}, err
		}
	}
	if err := a.allow(ctx, tx, s, doc); err != nil {
		return Imported{}, err
	}
	err = tx.QueryRow(ctx, `SELECT deployed_revision FROM http_api WHERE id = $1`, s.ID).Scan(&result.Revision)
	return result, err
}

// importing returns the locked API with its document, or a new one without.
func (a *APIs) importing(ctx context.Context, tx pgx.Tx, accountID, id string, doc Document) (*stored, *Document, error) {
	if id == "" {
		s := &stored{API: API{ID: ids.New(ids.HTTPAPI), AccountID: accountID, ResourceGroupID: instance.DefaultResourceGroup}}
		s.Name = doc.Name
		return s, nil, nil
	}
	s, err := a.locked(ctx, tx, accountID, id)
	if err != nil {
		return nil, nil, err
	}
	before, err := documentOf(ctx, tx, s)
	return s, &before, err
}

// importChanges compares what is there with what the document makes of it. What the document leaves open stays.
func (a *APIs) importChanges(ctx context.Context, tx pgx.Tx, s *stored, before *Document, doc Document) ([]Change, error) {
	known, err := namesIn(ctx, tx, s.AccountID, &s.Definition)
	if err != nil {
		return nil, err
	}
	after := known.document(&s.Definition)
	switch {
	case doc.SaysWhoMayCall():
		after.Consumers, after.ConsumerGroups = sorted(doc.Consumers), sorted(doc.ConsumerGroups)
	case before != nil:
		after.Consumers, after.ConsumerGroups = before.Consumers, before.ConsumerGroups
	}
	if before == nil {
		return changes(nil, after)
	}
	return changes(before, after)
}

// SaysWhoMayCall reports whether the document names consumers or groups, if only none.
func (doc *Document) SaysWhoMayCall() bool { return doc.Consumers != nil || doc.ConsumerGroups != nil }

// sorted returns each of the list once, and [] for nothing.
func sorted(list []string) []string {
	return slices.Compact(append([]string{}, slices.Sorted(slices.Values(list))...))
}

// edits reports whether one of the changes is of the definition, and not only of who may call.
func edits(changes []Change) bool {
	return slices.ContainsFunc(changes, func(c Change) bool { return c.Path != "consumers" && c.Path != "consumerGroups" })
}

// add inserts a new API with its routes.
func (a *APIs) add(ctx context.Context, tx pgx.Tx, s *stored) error {
	if err := checkReferences(ctx, tx, s.AccountID, &s.Definition); err != nil {
		return err
	}
	if err := insert(ctx, tx, s); err != nil {
		return err
	}
	return syncRoutes(ctx, tx, s.ID, nil, s.Routes)
}

// allow makes the rules those of the document, if it says anything about them.
func (a *APIs) allow(ctx context.Context, tx pgx.Tx, s *stored, doc Document) error {
	if !doc.SaysWhoMayCall() {
		return nil
	}
	consumers, err := resolve(ctx, tx, sorted(doc.Consumers), func(name string) error {
		return consumer.ErrNotFound.Withf("The account has no consumer named %.64q. Make one with CreateConsumer, or leave it out of the document.", name)
	}, `SELECT name, id FROM consumer WHERE account_id = $1 AND name = ANY ($2)`, s.AccountID, doc.Consumers)
	if err != nil {
		return err
	}
	groups, err := resolve(ctx, tx, sorted(doc.ConsumerGroups), func(name string) error {
		return consumer.ErrGroupNotFound.Withf("The account has no consumer group named %.64q. Make one with CreateConsumerGroup, or leave it out of the document.", name)
	}, `SELECT name, id FROM consumer_group WHERE account_id = $1 AND name = ANY ($2)`, s.AccountID, doc.ConsumerGroups)
	if err != nil {
		return err
	}
	return a.rules.SetRules(ctx, tx, s.AccountID, s.ID, consumers, groups)
}

// definition returns the checked state that the document asks for, with the ids of its names. What it leaves open is as
// it is in s.
func (doc *Document) definition(ctx context.Context, tx pgx.Tx, s *stored) (*Definition, error) {
	d, err := doc.start(s)
	if err != nil {
		return nil, err
	}
	if d.DeployConfig, err = doc.deployConfig(ctx, tx, s.AccountID); err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	if doc.Routes != nil {
		d.Routes, err = doc.routes(ctx, tx, s, d)
	} else {
		var there []string
		if s.Type != "" { // it is not a new one
			there = builtinNames(s.Routes)
		}
		d.Routes, err = builtinRoutes(d, s.Routes, there)
	}
	if err != nil {
		return nil, err
	}
	return d, d.checkRoutes()
}

// start is what needs no names.
func (doc *Document) start(s *stored) (*Definition, error) {
	if !validName.MatchString(doc.Name) {
		return nil, ErrName
	}
	if doc.Type != TypeLLM && doc.Type != TypeAi {
		return nil, ErrType.Withf("The type %.40q is not served; a Model API is of type LLM or Ai.", doc.Type)
	}
	category, err := canonicalCategory(doc.ModelCategory)
	switch {
	case err != nil:
		return nil, err
	case s.Type != "" && s.Type != doc.Type:
		return nil, ErrType.Withf("The Model API %s is of type %s, which never changes. Import the document under another name.", s.Name, s.Type)
	case s.Type != "" && s.ModelCategory != category:
		return nil, ErrCategory.Withf("The scenario of the Model API %s is %s, which never changes. Import the document under another name.", s.Name, s.ModelCategory)
	}
	return &Definition{
		Name: doc.Name, Type: doc.Type, ModelCategory: category, AIProtocols: doc.AIProtocols, BasePath: doc.BasePath,
		RemoveBasePath: doc.RemoveBasePath, Protocols: doc.Protocols, Description: doc.Description, EnableAuth: doc.EnableAuth,
		AuthConfig: doc.AuthConfig, FirstByteTimeout: doc.FirstByteTimeout, TrafficConfig: doc.TrafficConfig,
	}, nil
}

func (doc *Document) deployConfig(ctx context.Context, tx pgx.Tx, accountID string) (c DeployConfig, err error) {
	gateways, err := resolve(ctx, tx, []string{doc.Gateway}, func(name string) error {
		return ErrGatewayNotFound.Withf("The account has no gateway named %.64q. Make one with CreateGateway, or name another in the document.", name)
	}, `SELECT name, id FROM gateway WHERE account_id = $1 AND name = $2`, accountID, doc.Gateway)
	if err != nil {
		return c, err
	}
	c = DeployConfig{
		GatewayID: gateways[0], BackendScene: doc.BackendScene, AutoDeploy: doc.AutoDeploy, EnvDomainIDs: []string{},
	}
	environments, err := resolve(ctx, tx, []string{doc.Environment}, func(name string) error {
		return ErrEnvironmentNotFound.Withf("The gateway %s has no environment named %.64q. Make one with CreateEnvironment, or leave it out of the document for the default one.", doc.Gateway, name)
	}, `SELECT CASE WHEN $2 = '' THEN '' ELSE name END, id FROM environment WHERE gateway_id = $1 AND (name = $2 OR $2 = '' AND is_default)`,
		c.GatewayID, doc.Environment)
	if err != nil {
		return c, err
	}
	c.EnvironmentID = environments[0]
	if doc.SubDomain {
		c.EnvDomainIDs = []string{c.EnvironmentID}
	}
	c.CustomDomainIDs, err = resolve(ctx, tx, doc.Domains, func(name string) error {
		return ErrNotFound.Withf("The account has no domain %.255q. Make it with CreateDomain, or leave it out of the document.", name)
	}, `SELECT name, id FROM domain WHERE account_id = $1 AND name = ANY ($2)`, accountID, doc.Domains)
	if err != nil {
		return c, err
	}
	if c.Services, err = resolveServices(ctx, tx, c.GatewayID, doc.Services); err != nil {
		return c, err
	}
	c.PolicyConfigs, err = resolvePolicies(ctx, tx, c.GatewayID, doc.PolicyConfigs)
	return c, err
}

func resolveServices(ctx context.Context, tx pgx.Tx, gatewayID string, services []ServiceDocument) ([]ServiceConfig, error) {
	wanted := make([]string, len(services))
	for i, s := range services {
		wanted[i] = s.Name
	}
	found, err := resolveServiceNames(ctx, tx, gatewayID, wanted)
	if err != nil {
		return nil, err
	}
	configs := make([]ServiceConfig, len(services))
	for i, s := range services {
		configs[i] = ServiceConfig{
			ServiceID: found[i], Name: s.Name, ModelName: s.ModelName, ModelNamePattern: s.ModelNamePattern, Weight: s.Weight,
			Observability: s.Observability,
		}
	}
	return configs, nil
}

func resolvePolicies(ctx context.Context, tx pgx.Tx, gatewayID string, policies []PolicyDocument) ([]PolicyConfig, error) {
	configs := make([]PolicyConfig, len(policies))
	for i, p := range policies {
		configs[i] = PolicyConfig{Type: p.Type, Enable: p.Enable, AiStatistics: p.AiStatistics}
		if p.AiFallback == nil {
			continue
		}
		wanted := make([]string, len(p.AiFallback.Services))
		for at, s := range p.AiFallback.Services {
			wanted[at] = s.Name
		}
		found, err := resolveServiceNames(ctx, tx, gatewayID, wanted)
		if err != nil {
			return nil, err
		}
		fallback := &AiFallback{OnlyRedirectUpstreamCode: p.AiFallback.OnlyRedirectUpstreamCode}
		for at, s := range p.AiFallback.Services {
			fallback.Services = append(fallback.Services, FallbackService{ServiceID: found[at], Name: s.Name, TargetModelName: s.TargetModelName})
		}
		configs[i].AiFallback = fallback
	}
	return configs, nil
}

func resolveServiceNames(ctx context.Context, tx pgx.Tx, gatewayID string, wanted []string) ([]string, error) {
	return resolve(ctx, tx, wanted, func(name string) error {
		return ErrServiceNotFound.Withf("The gateway has no service named %.255q. Make it with CreateService, or name another in the document.", name)
	}, `SELECT name, id FROM ai_service WHERE gateway_id = $1 AND name = ANY ($2)`, gatewayID, wanted)
}

// routes are those of the document, with the ids of those of s that have their names.
func (doc *Document) routes(ctx context.Context, tx pgx.Tx, s *stored, d *Definition) ([]RouteDefinition, error) {
	defaults, err := defaultsOf(d.ModelCategory, d.AIProtocols)
	if err != nil {
		return nil, err
	}
	routes := make([]RouteDefinition, len(doc.Routes))
	for i, r := range doc.Routes {
		routes[i] = RouteDefinition{
			ID: ids.New(ids.HTTPAPIRoute), Name: r.Name, Description: r.Description, Builtin: r.Builtin, Match: r.Match,
		}
		if at := slices.IndexFunc(s.Routes, func(there RouteDefinition) bool { return there.Name == r.Name && there.Builtin == r.Builtin }); at >= 0 {
			routes[i].ID = s.Routes[at].ID
		}
		if r.Backend != nil {
			services, err := resolveServices(ctx, tx, d.DeployConfig.GatewayID, r.Backend.Services)
			if err != nil {
				return nil, fmt.Errorf("route %s: %w", r.Name, err)
			}
			routes[i].Backend = &Backend{r.Backend.Scene, services}
		}
		if routes[i].PolicyConfigs, err = resolvePolicies(ctx, tx, d.DeployConfig.GatewayID, r.PolicyConfigs); err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Name, err)
		}
		if err := routes[i].complete(defaults); err != nil {
			return nil, err
		}
	}
	return routes, nil
}

// complete fills in what a default route of the document does not say.
func (r *RouteDefinition) complete(defaults []DefaultRoute) error {
	if !r.Builtin {
		return nil
	}
	at := slices.IndexFunc(defaults, func(known DefaultRoute) bool { return known.Name == r.Name })
	if at < 0 {
		return ErrDeployConfigs.Withf("The document says that the route %.64q is builtin; it is no default route of the scenario with its protocols.", r.Name)
	}
	if r.Match.Path.Value == "" {
		r.Match = defaults[at].definition().Match
	}
	return nil
}

// resolve returns the ids of names, in their order, or what missing says of the first that has none. The statement
// selects name and id.
func resolve(ctx context.Context, tx pgx.Tx, wanted []string, missing func(name string) error, sql string, args ...any) ([]string, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	known := names{}
	var name, id string
	if _, err := pgx.ForEachRow(rows, []any{&name, &id}, func() error {
		known[name] = id
		return nil
	}); err != nil {
		return nil, fmt.Errorf("find what the document names: %w", err)
	}
	found := make([]string, len(wanted))
	for i, name := range wanted {
		id, ok := known[name]
		if !ok {
			return nil, missing(name)
		}
		found[i] = id
	}
	return found, nil
}
