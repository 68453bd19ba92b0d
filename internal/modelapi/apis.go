package modelapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/resourcegroup"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// APIs are the Model APIs of one region.
type APIs struct {
	db        *pgxpool.Pool
	jobs      *jobs.Client
	rules     Rules
	subDomain func(environmentID string) string
}

// Config is what New needs.
type Config struct {
	DB        *pgxpool.Pool
	Jobs      *jobs.Client
	Rules     Rules
	SubDomain func(environmentID string) string
}

// New returns the Model APIs that the database of c holds.
func New(c Config) *APIs { return &APIs{c.DB, c.Jobs, c.Rules, c.SubDomain} }

// Create makes an API with its default routes, and deploys it when its deployConfig says so.
func (a *APIs) Create(ctx context.Context, accountID string, spec Spec) (API, error) {
	def, err := spec.definition()
	if err != nil {
		return API{}, err
	}
	if def.Routes, err = builtinRoutes(def, nil, def.DeployConfig.BuiltinRouteNames); err != nil {
		return API{}, err
	}
	if err := def.checkRoutes(); err != nil {
		return API{}, err
	}
	s := &stored{API: API{ID: ids.New(ids.HTTPAPI), AccountID: accountID, Definition: *def, ResourceGroupID: spec.ResourceGroupID}}
	var created API
	err = pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		if err := a.add(ctx, tx, s); err != nil {
			return err
		}
		if err := a.settle(ctx, tx, s, s.DeployConfig.AutoDeploy); err != nil {
			return err
		}
		noteRecording(ctx, nil, s.recorded())
		created, err = a.finish(ctx, tx, accountID, s.ID, s.ID)
		return err
	})
	return created, err
}

// Update changes an API. Gateways serve the new state when the API deploys by itself and is deployed, or its
// deployConfig is sent, unless only the stored configuration is to change.
func (a *APIs) Update(ctx context.Context, accountID, id string, u UpdateSpec) (API, error) {
	return a.change(ctx, accountID, id, func(tx pgx.Tx, s *stored) error {
		before := s.Definition
		if err := u.apply(&s.Definition); err != nil {
			return err
		}
		var err error
		if s.Routes, err = builtinRoutes(&s.Definition, before.Routes, u.builtinRouteNames(&before, &s.Definition)); err != nil {
			return err
		}
		if err := s.checkRoutes(); err != nil {
			return err
		}
		if err := a.save(ctx, tx, s, before.Routes); err != nil {
			return err
		}
		deploy := !u.OnlyChangeConfig && s.DeployConfig.AutoDeploy && (s.DeployedRevision > 0 || u.DeployConfigs != nil)
		return a.settle(ctx, tx, s, deploy)
	})
}

// Delete removes an API with its routes, revisions and authorization rules; gateways stop serving it.
func (a *APIs) Delete(ctx context.Context, accountID, id string) error {
	entry := audit.From(ctx)
	return pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		if err := lock(ctx, tx, accountID, id); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(`DELETE FROM resource_tag WHERE resource_id = $1`, id)
		batch.Queue(`DELETE FROM http_api WHERE id = $1`, id)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("delete the Model API %s: %w", id, err)
		}
		if err := publish.Enqueue(ctx, tx, a.jobs, snapshot.KindModelAPI, id); err != nil {
			return err
		}
		entry.ResourceID, entry.Outcome = id, audit.Done
		return audit.Insert(ctx, tx, entry)
	})
}

// Deploy makes the stored state the next revision, which gateways then serve.
func (a *APIs) Deploy(ctx context.Context, accountID, id string) (API, error) {
	return a.change(ctx, accountID, id, func(tx pgx.Tx, s *stored) error {
		if err := checkReferences(ctx, tx, accountID, &s.Definition); err != nil {
			return err
		}
		return a.settle(ctx, tx, s, true)
	})
}

// Undeploy makes gateways stop serving an API, and keeps what is stored.
func (a *APIs) Undeploy(ctx context.Context, accountID, id string) (API, error) {
	return a.change(ctx, accountID, id, func(tx pgx.Tx, s *stored) error {
		if s.DeployedRevision == 0 {
			return nil
		}
		s.deployed = nil
		if err := a.show(ctx, tx, s.ID, 0); err != nil {
			return err
		}
		return hold(ctx, tx, s.ID, s.places())
	})
}

// Rollback makes the content of revision number the stored state again and deploys it, as the next revision.
func (a *APIs) Rollback(ctx context.Context, accountID, id string, number int64) (API, error) {
	return a.change(ctx, accountID, id, func(tx pgx.Tx, s *stored) error {
		then, err := revision(ctx, tx, id, number)
		if err != nil {
			return err
		}
		before := s.Routes
		s.Definition = then.Content
		if err := s.check(); err != nil {
			return err
		}
		if err := s.checkRoutes(); err != nil {
			return err
		}
		if err := a.save(ctx, tx, s, before); err != nil {
			return err
		}
		return a.settle(ctx, tx, s, true)
	})
}

// change runs do on the locked API and writes the audit row, in one transaction.
func (a *APIs) change(ctx context.Context, accountID, id string, do func(pgx.Tx, *stored) error) (changed API, err error) {
	err = pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		s, err := a.locked(ctx, tx, accountID, id)
		if err != nil {
			return err
		}
		before := s.recorded()
		if err := do(tx, s); err != nil {
			return err
		}
		noteRecording(ctx, before, s.recorded())
		changed, err = a.finish(ctx, tx, accountID, id, id)
		return err
	})
	return changed, err
}

// finish writes the audit row and returns the API as it is now.
func (a *APIs) finish(ctx context.Context, tx pgx.Tx, accountID, id, resourceID string) (API, error) {
	entry := audit.From(ctx)
	entry.ResourceID, entry.Outcome = resourceID, audit.Done
	if err := audit.Insert(ctx, tx, entry); err != nil {
		return API{}, err
	}
	s, err := a.get(ctx, tx, accountID, id)
	if err != nil {
		return API{}, err
	}
	return s.API, nil
}

func insert(ctx context.Context, tx pgx.Tx, s *stored) error {
	if err := resourcegroup.Lock(ctx, tx, s.AccountID, s.ResourceGroupID); err != nil {
		return err
	}
	config, err := json.Marshal(s.DeployConfig)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO http_api (id, account_id, name, type, model_category, ai_protocols, base_path, remove_base_path, protocols,
			description, enable_auth, auth_config, first_byte_timeout, gateway_id, environment_id, deploy_config, resource_group_id,
			traffic_config)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
		s.ID, s.AccountID, s.Name, s.Type, s.ModelCategory, s.AIProtocols, s.BasePath, s.RemoveBasePath, s.Protocols,
		s.Description, s.EnableAuth, s.AuthConfig, s.FirstByteTimeout, s.DeployConfig.GatewayID, s.DeployConfig.EnvironmentID,
		config, s.ResourceGroupID, s.TrafficConfig)
	if postgres.IsUniqueViolation(err, "http_api_account_id_name_key") {
		return ErrNameDuplicate.Withf("Another Model API of this account is named %s. Choose another name, or update that one.", s.Name)
	}
	if err != nil {
		return fmt.Errorf("insert the Model API: %w", err)
	}
	return nil
}

// save writes the changed definition. What an API can never change is not written.
func (a *APIs) save(ctx context.Context, tx pgx.Tx, s *stored, before []RouteDefinition) error {
	if err := checkReferences(ctx, tx, s.AccountID, &s.Definition); err != nil {
		return err
	}
	config, err := json.Marshal(s.DeployConfig)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		UPDATE http_api SET ai_protocols = $2, base_path = $3, remove_base_path = $4, protocols = $5, description = $6,
			enable_auth = $7, auth_config = $8, first_byte_timeout = $9, gateway_id = $10, environment_id = $11,
			deploy_config = $12, traffic_config = $13, updated_at = now()
		WHERE id = $1`,
		s.ID, s.AIProtocols, s.BasePath, s.RemoveBasePath, s.Protocols, s.Description, s.EnableAuth, s.AuthConfig,
		s.FirstByteTimeout, s.DeployConfig.GatewayID, s.DeployConfig.EnvironmentID, config, s.TrafficConfig); err != nil {
		return fmt.Errorf("update the Model API %s: %w", s.ID, err)
	}
	return syncRoutes(ctx, tx, s.ID, before, s.Routes)
}

// settle takes the places the API answers at and, when it is to be deployed, makes its state the next revision.
func (a *APIs) settle(ctx context.Context, tx pgx.Tx, s *stored, deploy bool) error {
	if !deploy {
		return hold(ctx, tx, s.ID, s.places())
	}
	if len(s.DeployConfig.CustomDomainIDs) == 0 && len(s.DeployConfig.EnvDomainIDs) == 0 {
		return ErrDeployConfigs.Withf("The Model API has no domain to answer on. Name some in customDomainIds, or bind the environment's sub-domain.")
	}
	s.deployed = &s.Definition
	if err := hold(ctx, tx, s.ID, s.places()); err != nil {
		return err
	}
	number, err := insertRevision(ctx, tx, s)
	if err != nil {
		return err
	}
	if err := a.show(ctx, tx, s.ID, number); err != nil {
		return err
	}
	// Find out now, not in the job, that a gateway could not serve this.
	_, _, err = a.Compile(ctx, tx, s.ID)
	return err
}

// show makes gateways serve revision number, or nothing for 0.
func (a *APIs) show(ctx context.Context, tx pgx.Tx, id string, number int64) error {
	if _, err := tx.Exec(ctx, `
		UPDATE http_api SET deployed_revision = $2, version = version + 1, updated_at = now() WHERE id = $1`, id, number); err != nil {
		return fmt.Errorf("mark the deployed revision of %s: %w", id, err)
	}
	return publish.Enqueue(ctx, tx, a.jobs, snapshot.KindModelAPI, id)
}
