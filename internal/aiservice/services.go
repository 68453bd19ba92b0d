package aiservice

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/resourcegroup"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const maxServices = 20 // of one call

// Services are the upstream services of an installation.
type Services struct {
	db       *pgxpool.Pool
	jobs     *jobs.Client
	master   *secret.Box // seals what the database keeps
	snapshot *secret.Box // seals what gateways open
	allowed  snapshot.AllowedUpstream
}

// Config is what New needs.
type Config struct {
	DB       *pgxpool.Pool
	Jobs     *jobs.Client
	Master   *secret.Box
	Snapshot *secret.Box
	Allowed  snapshot.AllowedUpstream // which addresses a service may name
}

// New returns the services that the database of c holds.
func New(c Config) *Services {
	return &Services{c.DB, c.Jobs, c.Master, c.Snapshot, c.Allowed}
}

// row is a checked service as its row holds it.
type row struct {
	id, accountID, gatewayID, name, sourceType, modelServiceID, resourceGroupID string

	addresses []string
	config    config
	keys      keys
}

// config is an AIConfig without its keys, as it is stored.
type config struct {
	Provider            string   `json:"provider,omitempty"`
	Protocols           []string `json:"protocols,omitempty"`
	CompatibleProtocols []string `json:"compatibleProtocols,omitempty"`
	Address             string   `json:"address,omitempty"`
	DefaultModelName    string   `json:"defaultModelName,omitempty"`
	EnableHealthCheck   bool     `json:"enableHealthCheck,omitempty"`
}

// Create makes the services of spec, all or none, and returns their ids in its order. A repeated ClientToken is
// answered with the ids of the first call.
func (s *Services) Create(ctx context.Context, key idempotency.Key, accountID string, spec CreateSpec) ([]string, error) {
	rows, err := s.plan(accountID, spec)
	if err != nil {
		return nil, err
	}
	made := make([]string, len(rows))
	for i, r := range rows {
		made[i] = r.id
	}
	entry := audit.From(ctx)
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		joined := strings.Join(made, ",")
		heldBy, first, err := idempotency.Claim(ctx, tx, key, joined)
		if err != nil || !first {
			made, entry.ResourceID, entry.Outcome = strings.Split(heldBy, ","), heldBy, audit.Repeated
			return err
		}
		if err := gatewayExists(ctx, tx, accountID, spec.GatewayID); err != nil {
			return err
		}
		if err := resourcegroup.Lock(ctx, tx, accountID, rows[0].resourceGroupID); err != nil {
			return err
		}
		for _, r := range rows {
			if err := s.insert(ctx, tx, r); err != nil {
				return err
			}
		}
		entry.ResourceID, entry.Outcome = joined, audit.Done
		return audit.Insert(ctx, tx, entry)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// plan applies the rules that need no database.
func (s *Services) plan(accountID string, spec CreateSpec) ([]*row, error) {
	if spec.GatewayID == "" {
		return nil, fault.MissingParameter("gatewayId")
	}
	if spec.SourceType == "" {
		return nil, fault.MissingParameter("sourceType")
	}
	if !slices.Contains(sourceTypes, spec.SourceType) {
		return nil, fault.ErrUnsupported.Withf("The sourceType %.40q is not supported; use %s.", spec.SourceType, strings.Join(sourceTypes, ", "))
	}
	if len(spec.Services) == 0 || len(spec.Services) > maxServices {
		return nil, fault.InvalidParameter("serviceConfigs", fmt.Sprintf("it must hold from 1 to %d services.", maxServices))
	}
	if spec.ResourceGroupID == "" {
		spec.ResourceGroupID = instance.DefaultResourceGroup
	}
	rows := make([]*row, len(spec.Services))
	for i, service := range spec.Services {
		rows[i] = &row{
			id: ids.New(ids.AIService), accountID: accountID, gatewayID: spec.GatewayID, name: service.Name, sourceType: spec.SourceType,
			modelServiceID: service.ModelServiceID, addresses: service.Addresses, resourceGroupID: spec.ResourceGroupID,
			config: config{
				service.AI.Provider, service.AI.Protocols, service.AI.CompatibleProtocols, service.AI.Address,
				service.AI.DefaultModelName, service.AI.EnableHealthCheck,
			},
		}
		at := fmt.Sprintf("serviceConfigs[%d].", i)
		if err := s.check(rows[i], at); err != nil {
			return nil, err
		}
		if spec.SourceType != AI && len(service.AI.APIKeys) > 0 {
			return nil, onlyFor(at+"aiServiceConfig", AI)
		}
		var err error
		if rows[i].keys, err = s.replaceKeys(at+"aiServiceConfig.apiKeys", rows[i].id, keys{}, service.AI.APIKeys); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

var serviceName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// check applies the rules of one service and fills in what its provider decides. at is where its parameters stand.
func (s *Services) check(r *row, at string) (err error) {
	if !serviceName.MatchString(r.name) {
		return fault.InvalidParameter(at+"name", "it has from 1 to 64 letters, digits, '_', '-' and '.'.")
	}
	if r.modelServiceID != "" && r.sourceType != ModelService {
		return onlyFor(at+"modelServiceId", ModelService)
	}
	if len(r.addresses) > 0 && r.sourceType != DNS && r.sourceType != VIP {
		return fault.InvalidParameter(at+"addresses", "only services of sourceType DNS or VIP have addresses; that of an AI service is aiServiceConfig.address.")
	}
	if r.sourceType != AI && !r.config.isZero() {
		return onlyFor(at+"aiServiceConfig", AI)
	}
	switch r.sourceType {
	case AI:
		err = s.checkAI(&r.config, at+"aiServiceConfig.")
	case DNS, VIP:
		r.addresses, err = checkHostPorts(at+"addresses", r.sourceType, r.addresses, s.allowed)
	case ModelService:
		if r.modelServiceID == "" {
			err = fault.MissingParameter(at + "modelServiceId")
		}
	}
	return err
}

func (c config) isZero() bool {
	return c.Provider == "" && len(c.Protocols) == 0 && len(c.CompatibleProtocols) == 0 && c.Address == "" &&
		c.DefaultModelName == "" && !c.EnableHealthCheck
}

func onlyFor(parameter, sourceType string) error {
	return fault.InvalidParameter(parameter, "only services of sourceType "+sourceType+" have it.")
}

const maxModelName = 256

func (s *Services) checkAI(c *config, at string) (err error) {
	if c.Provider == "" {
		return fault.MissingParameter(at + "provider")
	}
	p, known := provider(c.Provider)
	if !known {
		return fault.InvalidParameter(at+"provider", fmt.Sprintf("%.40q is not one of %s.", c.Provider, strings.Join(providerNames(), ", ")))
	}
	if p.Unsupported != "" {
		return fault.ErrUnsupported.Withf("The provider %s (%s) is not supported: %s.", p.Name, p.Title, p.Unsupported)
	}
	if c.Address == "" {
		c.Address = p.Address
	}
	if c.Address == "" {
		return fault.MissingParameter(at + "address")
	}
	if c.Address, err = checkURL(at+"address", c.Address, s.allowed); err != nil {
		return err
	}
	if c.DefaultModelName == "" {
		c.DefaultModelName = p.DefaultModel
	}
	if len(c.DefaultModelName) > maxModelName {
		return fault.InvalidParameter(at+"defaultModelName", fmt.Sprintf("it is longer than %d bytes.", maxModelName))
	}
	if c.Protocols, err = protocols(at+"protocols", p, c.Protocols, p.Protocols); err != nil {
		return err
	}
	c.CompatibleProtocols, err = protocols(at+"compatibleProtocols", p, c.CompatibleProtocols, p.CompatibleProtocols)
	return err
}

func providerNames() []string {
	names := make([]string, len(providers))
	for i, p := range providers {
		names[i] = p.Name
	}
	return names
}

// protocols returns the protocols as they are spelled here, once each; the provider's when none is named.
func protocols(parameter string, p Provider, named, otherwise []string) ([]string, error) {
	if len(named) == 0 {
		return otherwise, nil
	}
	var spelled []string
	for _, name := range named {
		protocol, known := protocolAliases[strings.ToLower(name)]
		if !known || !p.speaks(protocol) {
			speaks := slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(p.Protocols), p.CompatibleProtocols...))))
			return nil, fault.InvalidParameter(parameter, fmt.Sprintf("%.40q is not a protocol of %s, which speaks %s; requests are not converted.",
				name, p.Title, strings.Join(speaks, ", ")))
		}
		if !slices.Contains(spelled, protocol) {
			spelled = append(spelled, protocol)
		}
	}
	return spelled, nil
}

// gatewayExists keeps the gateway from being deleted until the transaction ends.
func gatewayExists(ctx context.Context, tx pgx.Tx, accountID, id string) error {
	var found bool
	err := tx.QueryRow(ctx, `
		SELECT true FROM gateway WHERE id = $1 AND account_id = $2 FOR KEY SHARE`, id, accountID).Scan(&found)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrGatewayNotFound.Withf("The gateway %.64q does not exist. Call ListGateways for the ids of this account.", id)
	}
	return err
}

// modelServiceExists asks for the target of a service: one of the same account that is not being deleted.
func modelServiceExists(ctx context.Context, tx pgx.Tx, accountID, id string) error {
	var found bool
	err := tx.QueryRow(ctx, `
		SELECT true FROM model_service WHERE id = $1 AND account_id = $2 AND status <> 'deleting'`, id, accountID).Scan(&found)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrModelServiceNotFound.Withf("The model service %.64q does not exist. Call ListModelServices for the ids of a DB instance.", id)
	}
	return err
}

func (s *Services) insert(ctx context.Context, tx pgx.Tx, r *row) error {
	if r.sourceType == ModelService {
		if err := modelServiceExists(ctx, tx, r.accountID, r.modelServiceID); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO ai_service (id, account_id, gateway_id, name, source_type, addresses, model_service_id, config,
			api_keys_sealed, published_keys, resource_group_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		r.id, r.accountID, r.gatewayID, r.name, r.sourceType, append([]string{}, r.addresses...), r.modelServiceID, r.config,
		append([][]byte{}, r.keys.sealed...), append([][]byte{}, r.keys.published...), r.resourceGroupID)
	if err != nil {
		return duplicate(r.name, err)
	}
	return publish.Enqueue(ctx, tx, s.jobs, snapshot.KindAIService, r.id)
}

func duplicate(name string, err error) error {
	if postgres.IsUniqueViolation(err, "ai_service_gateway_id_name_key") {
		return ErrNameDuplicate.Withf("The gateway has a service named %q already. Take another name.", name)
	}
	return fmt.Errorf("write the service: %w", err)
}

// Update changes the account's service and publishes it. Keys that are not sent again stay only while the service
// answers at the same origin: a key is write-only, and sending it somewhere else would be a way to read it.
func (s *Services) Update(ctx context.Context, accountID, id string, spec UpdateSpec) error {
	entry := audit.From(ctx)
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		r, err := lock(ctx, tx, accountID, id)
		if err != nil {
			return err
		}
		if err := s.change(r, spec); err != nil {
			return err
		}
		if spec.ModelServiceID != nil {
			if err := modelServiceExists(ctx, tx, accountID, r.modelServiceID); err != nil {
				return err
			}
		}
		if _, err = tx.Exec(ctx, `
			UPDATE ai_service SET name = $2, addresses = $3, model_service_id = $4, config = $5, api_keys_sealed = $6,
				published_keys = $7, version = version + 1, updated_at = now()
			WHERE id = $1`,
			id, r.name, r.addresses, r.modelServiceID, r.config, r.keys.sealed, r.keys.published); err != nil {
			return duplicate(r.name, err)
		}
		entry.ResourceID, entry.Outcome = id, audit.Done
		if err := audit.Insert(ctx, tx, entry); err != nil {
			return err
		}
		return publish.Enqueue(ctx, tx, s.jobs, snapshot.KindAIService, id)
	})
}

// change brings what spec asks for into r, and checks the whole.
func (s *Services) change(r *row, spec UpdateSpec) error {
	before := r.config
	if spec.Name != nil {
		r.name = *spec.Name
	}
	if spec.Addresses != nil {
		r.addresses = spec.Addresses
	}
	if spec.ModelServiceID != nil {
		r.modelServiceID = *spec.ModelServiceID
	}
	if spec.AI != nil {
		if r.sourceType != AI {
			return onlyFor("aiServiceConfig", AI)
		}
		r.config.apply(*spec.AI)
	}
	if err := s.check(r, ""); err != nil || spec.AI == nil {
		return err
	}
	sent := spec.AI.APIKeys
	if origin(r.config.Address) != origin(before.Address) && reuses(sent, r.keys) {
		return fault.InvalidParameter("aiServiceConfig.apiKeys",
			"the service moves to another host; send its keys in full, or [] to remove them. A key is not sent to a host it was not given for.")
	}
	if sent == nil {
		return nil
	}
	var err error
	r.keys, err = s.replaceKeys("aiServiceConfig.apiKeys", r.id, r.keys, sent)
	return err
}

// reuses reports whether keys that are held would stay.
func reuses(sent []string, held keys) bool {
	if sent == nil {
		return len(held.sealed) > 0
	}
	return slices.ContainsFunc(sent, func(key string) bool { return strings.HasPrefix(key, mask) })
}

func (c *config) apply(u AIUpdate) {
	if u.Provider != nil && *u.Provider != c.Provider {
		*c = config{Provider: *u.Provider, EnableHealthCheck: c.EnableHealthCheck}
	}
	if u.Address != nil {
		c.Address = *u.Address
	}
	if u.Protocols != nil {
		c.Protocols = u.Protocols
	}
	if u.CompatibleProtocols != nil {
		c.CompatibleProtocols = u.CompatibleProtocols
	}
	if u.DefaultModelName != nil {
		c.DefaultModelName = *u.DefaultModelName
	}
	if u.EnableHealthCheck != nil {
		c.EnableHealthCheck = *u.EnableHealthCheck
	}
}

// lock reads the account's service and locks it until the transaction ends.
func lock(ctx context.Context, tx pgx.Tx, accountID, id string) (*row, error) {
	r := &row{id: id, accountID: accountID}
	err := tx.QueryRow(ctx, `
		SELECT gateway_id, name, source_type, addresses, model_service_id, config, api_keys_sealed, published_keys, resource_group_id
		FROM ai_service WHERE id = $1 AND account_id = $2 FOR UPDATE`, id, accountID).Scan(
		&r.gatewayID, &r.name, &r.sourceType, &r.addresses, &r.modelServiceID, &r.config, &r.keys.sealed, &r.keys.published, &r.resourceGroupID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, notFound(id)
	}
	return r, err
}

// Delete removes the account's service, unless a Model API names it.
func (s *Services) Delete(ctx context.Context, accountID, id string) error {
	entry := audit.From(ctx)
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := lock(ctx, tx, accountID, id); err != nil {
			return err
		}
		if err := unused(ctx, tx, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM ai_service WHERE id = $1`, id); err != nil {
			return fmt.Errorf("delete the service: %w", err)
		}
		if err := resource.DeleteTags(ctx, tx, id); err != nil {
			return err
		}
		entry.ResourceID, entry.Outcome = id, audit.Done
		if err := audit.Insert(ctx, tx, entry); err != nil {
			return err
		}
		return publish.Enqueue(ctx, tx, s.jobs, snapshot.KindAIService, id)
	})
}

// unused refuses a service that a Model API names: in its settings, in a route of its own, or in what is deployed.
// An id is found anywhere in the JSON, whatever names it. Who makes an API name a service locks the service first
// (FOR KEY SHARE), so that the two cannot miss each other.
func unused(ctx context.Context, tx pgx.Tx, id string) error {
	var apiID, name string
	err := tx.QueryRow(ctx, `
		SELECT a.id, a.name FROM http_api a
		WHERE strpos(a.deploy_config::text, $1) > 0
			OR EXISTS (SELECT FROM http_api_route r
				WHERE r.http_api_id = a.id AND (strpos(r.backend::text, $1) > 0 OR strpos(r.policy_configs::text, $1) > 0))
			OR EXISTS (SELECT FROM http_api_revision v
				WHERE v.http_api_id = a.id AND v.number = a.deployed_revision AND strpos(v.content::text, $1) > 0)
		ORDER BY a.name LIMIT 1`, id).Scan(&apiID, &name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return ErrInUse.Withf("The service is used by the Model API %s (%s). Change or delete that API first.", name, apiID)
}
