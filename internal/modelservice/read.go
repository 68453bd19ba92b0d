package modelservice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/instance"
)

// selectServices reads services with their nodes, replicas and the IP array that decides.
const selectServices = `
	SELECT s.id, s.account_id, s.db_instance_id, s.region_id, s.resource_group_id, s.model_name, s.description,
		s.model_params, s.public, s.api_key_sealed, s.status, s.status_reason, s.created_at, s.replicas,
		ARRAY(SELECT n.name FROM ai_node n WHERE n.model_service_id = s.id ORDER BY n.name) AS ai_nodes,
		coalesce((SELECT a.entries FROM ip_array a WHERE a.db_instance_id = s.db_instance_id AND a.name IN (s.id, 'default')
			ORDER BY a.name = 'default' LIMIT 1), '{}') AS ip_entries,
		(SELECT coalesce(jsonb_agg(jsonb_build_object('ID', r.id, 'Ordinal', r.ordinal, 'NodeName', r.node_name,
				'Host', r.host, 'Status', r.status, 'Reason', r.status_reason,
				'HeardFrom', (SELECT heartbeat_at FROM host h WHERE h.name = r.host),
				'UpToDate', r.model_params = s.model_params AND NOT n.leaving) ORDER BY r.ordinal), '[]')
			FROM replica r JOIN ai_node n ON n.name = r.node_name WHERE r.model_service_id = s.id) AS replicas,
		now() AS now`

// reference names a service as its caller does.
type reference struct{ accountID, dbInstanceID, id string }

// Describe returns the account's service, or ErrNotFound.
func (s *Services) Describe(ctx context.Context, accountID, dbInstanceID, id string) (Service, error) {
	found, err := s.descriptions.Ask(ctx, reference{accountID, dbInstanceID, id})
	if err != nil {
		return Service{}, err
	}
	if found == nil {
		if err := instance.Exists(ctx, s.db, accountID, dbInstanceID); err != nil {
			return Service{}, err
		}
		return Service{}, notFound(id)
	}
	return s.open(found)
}

// describe reads services in one statement. One that does not exist is nil; who asks for the same may get the same row,
// which nobody changes.
func (s *Services) describe(ctx context.Context, wanted []reference) ([]*serviceRow, error) {
	accounts, instances, ids := make([]string, len(wanted)), make([]string, len(wanted)), make([]string, len(wanted))
	for i, w := range wanted {
		accounts[i], instances[i], ids[i] = w.accountID, w.dbInstanceID, w.id
	}
	rows, err := s.db.Query(ctx, selectServices+`
		FROM unnest($1::text[], $2::text[], $3::text[]) AS w (account_id, db_instance_id, id)
		JOIN model_service s ON s.id = w.id AND s.db_instance_id = w.db_instance_id AND s.account_id = w.account_id`,
		accounts, instances, ids)
	if err != nil {
		return nil, err
	}
	services, err := pgx.CollectRows(rows, scanService)
	if err != nil {
		return nil, err
	}
	byReference := make(map[reference]*serviceRow, len(services))
	for _, svc := range services {
		byReference[reference{svc.AccountID, svc.DBInstanceID, svc.ID}] = svc
	}
	found := make([]*serviceRow, len(wanted))
	for i, w := range wanted {
		found[i] = byReference[w]
	}
	return found, nil
}

// List returns one page of the instance's services, oldest first, and how many there are in all.
func (s *Services) List(ctx context.Context, accountID, dbInstanceID string, page instance.Page) ([]Service, int, error) {
	if err := instance.Exists(ctx, s.db, accountID, dbInstanceID); err != nil {
		return nil, 0, err
	}
	var total int
	if err := s.db.QueryRow(ctx, `
		SELECT count(*) FROM model_service WHERE db_instance_id = $1 AND account_id = $2`, dbInstanceID, accountID).Scan(&total); err != nil {
		return nil, 0, err
	}
	// The page is cut before the rest is looked up: what is skipped is not.
	rows, err := s.db.Query(ctx, selectServices+`
		FROM (SELECT * FROM model_service WHERE db_instance_id = $1 AND account_id = $2
			ORDER BY created_at, id OFFSET $3 LIMIT $4) s
		ORDER BY s.created_at, s.id`, dbInstanceID, accountID, (page.Number-1)*page.Size, page.Size)
	if err != nil {
		return nil, 0, err
	}
	found, err := pgx.CollectRows(rows, scanService)
	if err != nil {
		return nil, 0, err
	}
	services := make([]Service, len(found))
	for i, row := range found {
		if services[i], err = s.open(row); err != nil {
			return nil, 0, err
		}
	}
	return services, total, nil
}

// Active returns one page of the account's active services in all of its instances, the oldest first, and how many there are
// in all. Only ID and ModelName are set.
func (s *Services) Active(ctx context.Context, accountID string, page instance.Page) (services []Service, total int, err error) {
	const active = ` FROM model_service WHERE account_id = $1 AND status = 'active'`
	if err := s.db.QueryRow(ctx, `SELECT count(*)`+active, accountID).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the active services: %w", err)
	}
	rows, err := s.db.Query(ctx, `SELECT id, model_name`+active+` ORDER BY created_at, id OFFSET $2 LIMIT $3`,
		accountID, (page.Number-1)*page.Size, page.Size)
	if err != nil {
		return nil, 0, err
	}
	services, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (svc Service, err error) {
		err = row.Scan(&svc.ID, &svc.ModelName)
		return svc, err
	})
	return services, total, err
}

// replicaRow is a replica with the time its host was last heard from.
type replicaRow struct {
	Replica
	HeardFrom *time.Time
}

// serviceRow is what selectServices reads.
type serviceRow struct {
	Service
	public   bool
	sealed   []byte
	entries  []string
	replicas []replicaRow
	now      time.Time
}

func scanService(row pgx.CollectableRow) (*serviceRow, error) {
	var r serviceRow
	return &r, row.Scan(&r.ID, &r.AccountID, &r.DBInstanceID, &r.RegionID, &r.ResourceGroupID, &r.ModelName,
		&r.Description, &r.ModelParams, &r.public, &r.sealed, (*string)(&r.Status), &r.StatusReason, &r.CreatedAt, &r.ReplicaCount,
		&r.AINodes, &r.entries, &r.replicas, &r.now)
}

// open returns the service that a row shows.
func (s *Services) open(row *serviceRow) (svc Service, err error) {
	svc = row.Service
	if svc.APIKey, err = s.master.Open(apiKeyPurpose(svc.ID), row.sealed); err != nil {
		return svc, err
	}
	svc.SecurityIPList = strings.Join(row.entries, ",")
	svc.PrivateURL = endpoint(s.gateway, svc.ID)
	if row.public {
		svc.PublicURL = endpoint(s.publicGate, svc.ID)
	}
	svc.observe(row.replicas, row.now)
	return svc, nil
}

// endpoint is the base URL that OpenAI clients take.
func endpoint(gateway, id string) string { return gateway + "/services/" + id + "/v1" }

// observe fills in the replicas. What a host said longer ago than its lease is not known any more.
func (svc *Service) observe(replicas []replicaRow, now time.Time) {
	var silent []Replica
	for _, r := range replicas {
		if r.HeardFrom == nil || now.Sub(*r.HeardFrom) > hostLease {
			if (svc.Status == Active || svc.Status == Degraded) && r.Status != draining && r.Status != removing {
				svc.Status = Degraded
			}
			r.Status = unknown
			r.Reason = fmt.Sprintf("host %s has never reported", r.Host)
			if r.HeardFrom != nil {
				r.Reason = fmt.Sprintf("host %s last reported %s ago", r.Host, since(*r.HeardFrom, now))
			}
			silent = append(silent, r.Replica)
		}
		svc.Replicas = append(svc.Replicas, r.Replica)
	}
	if len(silent) > 0 {
		svc.StatusReason = whyUnknown(silent, len(replicas))
	}
}

const namedHosts = 3 // in a reason

// whyUnknown says for a person why the states of some of all replicas are not known.
func whyUnknown(silent []Replica, all int) string {
	if len(silent) == 1 {
		return fmt.Sprintf("The state of replica %d on %s is unknown: %s; check that its worker runs and reaches the database.",
			silent[0].Ordinal, silent[0].NodeName, silent[0].Reason)
	}
	var hosts []string
	for _, r := range silent {
		if !slices.Contains(hosts, r.Reason) {
			hosts = append(hosts, r.Reason)
		}
	}
	if more := len(hosts) - namedHosts; more > 0 {
		hosts = append(hosts[:namedHosts], "and so for "+plural(more, "other host"))
	}
	return fmt.Sprintf("The states of %d of %d replicas are unknown: %s; check that the workers run and reach the database.",
		len(silent), all, strings.Join(hosts, ", "))
}
