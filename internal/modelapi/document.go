package modelapi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// DocumentFormat is the form of documents that Import reads.
const DocumentFormat = "engineshed.model-api/v1"

// Document is an API as one text: names where the API has ids, so that another account or installation can take it in,
// and no secret.
type Document struct {
	Format           string            `json:"format"`
	Name             string            `json:"name"`
	Type             string            `json:"type"`
	ModelCategory    string            `json:"modelCategory"`
	AIProtocols      []string          `json:"aiProtocols"`
	BasePath         string            `json:"basePath"`
	RemoveBasePath   bool              `json:"removeBasePathOnForward"`
	Protocols        []string          `json:"protocols"`
	Description      string            `json:"description"`
	EnableAuth       bool              `json:"enableAuth"`
	AuthConfig       *AuthConfig       `json:"authConfig,omitempty"`
	FirstByteTimeout int               `json:"firstByteTimeout"`
	TrafficConfig    TrafficConfig     `json:"trafficConfig"`
	Gateway          string            `json:"gateway"`
	Environment      string            `json:"environment,omitempty"` // "": the gateway's default one
	SubDomain        bool              `json:"subDomain"`             // it answers on the environment's sub-domain
	Domains          []string          `json:"domains"`
	AutoDeploy       bool              `json:"autoDeploy"`
	BackendScene     string            `json:"backendScene"`
	Services         []ServiceDocument `json:"services"`
	PolicyConfigs    []PolicyDocument  `json:"policyConfigs"`
	Routes           []RouteDocument   `json:"routes,omitzero"`         // nil: the default ones of a new API, those there are of another
	Consumers        []string          `json:"consumers,omitzero"`      // who may call; nil with ConsumerGroups: as it is
	ConsumerGroups   []string          `json:"consumerGroups,omitzero"` // who may call, by group
}

// ServiceDocument is a service that requests may go to.
type ServiceDocument struct {
	Name             string         `json:"name"`
	ModelName        string         `json:"modelName,omitempty"`
	ModelNamePattern string         `json:"modelNamePattern,omitempty"`
	Weight           int            `json:"weight,omitempty"`
	Observability    *Observability `json:"observabilityRouteConfig,omitempty"`
}

// PolicyDocument is one policy.
type PolicyDocument struct {
	Type         string            `json:"type"`
	Enable       bool              `json:"enable"`
	AiStatistics *AiStatistics     `json:"aiStatisticsConfig,omitempty"`
	AiFallback   *FallbackDocument `json:"aiFallbackConfig,omitempty"`
}

// FallbackDocument is where requests go while the services before fail.
type FallbackDocument struct {
	OnlyRedirectUpstreamCode bool                      `json:"onlyRedirectUpstreamCode"`
	Services                 []FallbackServiceDocument `json:"serviceConfigs"`
}

// FallbackServiceDocument is a service that is asked when those before have failed.
type FallbackServiceDocument struct {
	Name            string `json:"name"`
	TargetModelName string `json:"targetModelName,omitempty"` // "": the request's own
}

// RouteDocument is one route.
type RouteDocument struct {
	Name          string           `json:"name"`
	Description   string           `json:"description"`
	Builtin       bool             `json:"builtin"`
	Match         Match            `json:"match"` // without a path, of a default route: its own
	Backend       *BackendDocument `json:"backend,omitempty"`
	PolicyConfigs []PolicyDocument `json:"policyConfigs"`
}

// BackendDocument is where a route of one's own leads.
type BackendDocument struct {
	Scene    string            `json:"scene"`
	Services []ServiceDocument `json:"services"`
}

// Export returns the account's API as a document: as it is stored, or the content of revision number, which says
// nothing of who may call.
func (a *APIs) Export(ctx context.Context, accountID, id string, number int64) (doc Document, err error) {
	err = pgx.BeginTxFunc(ctx, a.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		s, err := a.get(ctx, tx, accountID, id)
		if err != nil {
			return err
		}
		if number == 0 {
			doc, err = documentOf(ctx, tx, s)
			return err
		}
		then, err := revision(ctx, tx, id, number)
		if err != nil {
			return err
		}
		known, err := namesIn(ctx, tx, accountID, &then.Content)
		doc = known.document(&then.Content)
		return err
	})
	return doc, err
}

// documentOf is the stored state of an API with who may call it.
func documentOf(ctx context.Context, tx pgx.Tx, s *stored) (Document, error) {
	known, err := namesIn(ctx, tx, s.AccountID, &s.Definition)
	if err != nil {
		return Document{}, err
	}
	doc := known.document(&s.Definition)
	if doc.Consumers, err = existing(ctx, tx, `
		SELECT c.name FROM authorization_rule r JOIN consumer c ON c.id = r.consumer_id
		WHERE r.http_api_id = $1 ORDER BY c.name`, s.ID); err != nil {
		return Document{}, err
	}
	doc.ConsumerGroups, err = existing(ctx, tx, `
		SELECT g.name FROM authorization_rule r JOIN consumer_group g ON g.id = r.group_id
		WHERE r.http_api_id = $1 ORDER BY g.name`, s.ID)
	return doc, err
}

// names are of what definitions refer to, by id. What is gone is called by its id.
type names map[string]string

func namesIn(ctx context.Context, db queryer, accountID string, definitions ...*Definition) (names, error) {
	var wanted []string
	for _, d := range definitions {
		c := &d.DeployConfig
		wanted = append(append(wanted, c.GatewayID, c.EnvironmentID), c.CustomDomainIDs...)
		wanted = append(wanted, d.services()...)
	}
	rows, err := db.Query(ctx, `
		SELECT id, name FROM gateway WHERE account_id = $1 AND id = ANY ($2)
		UNION ALL SELECT id, CASE WHEN is_default THEN '' ELSE name END FROM environment WHERE account_id = $1 AND id = ANY ($2)
		UNION ALL SELECT id, name FROM domain WHERE account_id = $1 AND id = ANY ($2)
		UNION ALL SELECT id, name FROM ai_service WHERE account_id = $1 AND id = ANY ($2)`, accountID, wanted)
	if err != nil {
		return nil, err
	}
	known := names{}
	var id, name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		known[id] = name
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the names: %w", err)
	}
	return known, nil
}

func (n names) of(id string) string {
	if name, known := n[id]; known {
		return name
	}
	return id
}

func (n names) document(d *Definition) Document {
	c := &d.DeployConfig
	doc := Document{
		Format: DocumentFormat, Name: d.Name, Type: d.Type, ModelCategory: d.ModelCategory, AIProtocols: d.AIProtocols,
		BasePath: d.BasePath, RemoveBasePath: d.RemoveBasePath, Protocols: d.Protocols, Description: d.Description,
		EnableAuth: d.EnableAuth, AuthConfig: d.AuthConfig, FirstByteTimeout: d.FirstByteTimeout, TrafficConfig: d.TrafficConfig,
		Gateway: n.of(c.GatewayID), Environment: n.of(c.EnvironmentID), SubDomain: len(c.EnvDomainIDs) > 0, Domains: []string{},
		AutoDeploy: c.AutoDeploy, BackendScene: c.BackendScene, Services: n.services(c.Services),
		PolicyConfigs: n.policies(c.PolicyConfigs), Routes: make([]RouteDocument, len(d.Routes)),
	}
	for _, id := range c.CustomDomainIDs {
		doc.Domains = append(doc.Domains, n.of(id))
	}
	slices.Sort(doc.Domains)
	for i, r := range d.Routes {
		doc.Routes[i] = RouteDocument{
			Name: r.Name, Description: r.Description, Builtin: r.Builtin, Match: r.Match, PolicyConfigs: n.policies(r.PolicyConfigs),
		}
		if r.Backend != nil {
			doc.Routes[i].Backend = &BackendDocument{r.Backend.Scene, n.services(r.Backend.Services)}
		}
	}
	return doc
}

func (n names) services(configs []ServiceConfig) []ServiceDocument {
	services := make([]ServiceDocument, len(configs))
	for i, c := range configs {
		services[i] = ServiceDocument{n.of(c.ServiceID), c.ModelName, c.ModelNamePattern, c.Weight, c.Observability}
	}
	return services
}

func (n names) policies(configs []PolicyConfig) []PolicyDocument {
	policies := make([]PolicyDocument, len(configs))
	for i, c := range configs {
		policies[i] = PolicyDocument{Type: c.Type, Enable: c.Enable, AiStatistics: c.AiStatistics}
		if c.AiFallback != nil {
			fallback := &FallbackDocument{OnlyRedirectUpstreamCode: c.AiFallback.OnlyRedirectUpstreamCode}
			for _, s := range c.AiFallback.Services {
				fallback.Services = append(fallback.Services, FallbackServiceDocument{n.of(s.ServiceID), s.TargetModelName})
			}
			policies[i].AiFallback = fallback
		}
	}
	return policies
}

// services are the ids of all services that a definition leads to.
func (d *Definition) services() []string {
	found := serviceIDs(d.DeployConfig.Services)
	policies := slices.Clone(d.DeployConfig.PolicyConfigs)
	for _, r := range d.Routes {
		policies = append(policies, r.PolicyConfigs...)
		if r.Backend != nil {
			found = append(found, serviceIDs(r.Backend.Services)...)
		}
	}
	for _, s := range fallbackServices(policies) {
		found = append(found, s.ServiceID)
	}
	return found
}

// DescribeRevision returns a revision of the account's API, by its id or its number, with its content as a document.
func (a *APIs) DescribeRevision(ctx context.Context, accountID, id, ref string) (v Revision, doc Document, err error) {
	if err := exists(ctx, a.db, accountID, id); err != nil {
		return Revision{}, Document{}, err
	}
	rows, err := a.db.Query(ctx, selectRevisions+` WHERE a.id = $1 AND $2 IN (v.id, v.number::text)`, id, ref)
	if err != nil {
		return Revision{}, Document{}, err
	}
	v, err = pgx.CollectExactlyOneRow(rows, scanRevision)
	if errors.Is(err, pgx.ErrNoRows) {
		return Revision{}, Document{}, ErrRevisionNotFound.Withf("The Model API %s has no revision %.40q. Call ListHttpApiRevisions for those it has.", id, ref)
	}
	if err != nil {
		return Revision{}, Document{}, fmt.Errorf("read a revision of %s: %w", id, err)
	}
	known, err := namesIn(ctx, a.db, accountID, &v.Content)
	return v, known.document(&v.Content), err
}
