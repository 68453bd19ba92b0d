package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
)

const modelName = "Qwen3-8B"

// prepareCreates makes ready signed creates, each on a node of its own.
func (r *rig) prepareCreates(calls int) job {
	nodes, requests := r.nodes(calls), make([][]byte, calls)
	for i := range requests {
		requests[i] = r.signed("CreateModelService", map[string]any{
			"DBInstanceId": r.instance, "ModelName": modelName, "AiNodes": nodes[i : i+1], "ClientToken": rand.Text(),
		})
	}
	return job{
		do: func(client, i int) error {
			body, err := r.conns[client].call(requests[i])
			if err == nil && !bytes.Contains(body, []byte(`"ModelServiceId":"ms-`)) {
				err = fmt.Errorf("no model service: %s", body)
			}
			return err
		},
		check: r.expectCreated(calls),
	}
}

// expectCreated returns a check that every table a create writes has grown by so many rows.
func (r *rig) expectCreated(calls int) func() {
	before := r.created()
	return func() {
		for table, rows := range r.created() {
			require.Equal(r.b, before[table]+calls, rows, table)
		}
	}
}

func (r *rig) created() map[string]int {
	rows := map[string]int{}
	for _, table := range []string{
		"model_service", "replica", "client_token", "audit_event", "river_job", "nonce", "ai_node WHERE model_service_id IS NOT NULL",
	} {
		var n int
		require.NoError(r.b, r.db.Owner.QueryRow(r.b.Context(), "SELECT count(*) FROM "+table).Scan(&n))
		rows[table] = n
	}
	return rows
}

// spendNonce is what internal/iam runs to spend a nonce.
const spendNonce = `
	INSERT INTO nonce (signed_at, bucket, access_key_id, nonce)
	SELECT $1::timestamptz, date_bin('10 minutes', $1, 'epoch'), $2, $3
	WHERE $1 >= coalesce((SELECT not_before FROM nonce_floor), last_crash())
	  AND set_config('synchronous_commit', 'off', true) = 'off'
	ON CONFLICT DO NOTHING`

// prepareBareCreates makes ready the rows of as many creates, to be inserted by plain pgx: the nonce by itself, the
// others in one transaction that is sent in one go. It looks nothing up, locks nothing first and notifies nobody.
func (r *rig) prepareBareCreates(calls int) job {
	nodes := r.nodes(calls)
	rows := make([]bareRows, calls)
	for i := range rows {
		rows[i] = newBareRows(r.instance, nodes[i])
	}
	return job{
		do:    func(_, i int) error { return r.insertBare(rows[i]) },
		check: r.expectCreated(calls),
	}
}

// bareRows is what one create inserts, of the same sizes.
type bareRows struct {
	nonce, token, instance, service, node, replica, requestID string
	fingerprint, sealed                                       []byte
}

func newBareRows(instance, node string) bareRows {
	fingerprint := sha256.Sum256([]byte(node))
	sealed := make([]byte, 62)
	_, _ = rand.Read(sealed)
	return bareRows{
		nonce: rand.Text(), token: rand.Text(), instance: instance, service: ids.New(ids.ModelService), node: node,
		replica: ids.New(ids.Replica), requestID: "11111111-2222-3333-4444-" + rand.Text()[:12], fingerprint: fingerprint[:], sealed: sealed,
	}
}

func (r *rig) insertBare(row bareRows) error {
	ctx := r.b.Context()
	if _, err := r.db.Control.Exec(ctx, spendNonce, time.Now(), rootKey.id, row.nonce); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(`
		INSERT INTO client_token (account_id, region_id, action, token, fingerprint, resource_id)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT DO NOTHING`,
		rootAccount, region, "gpdb:CreateModelService", row.token, row.fingerprint, row.service)
	batch.Queue(`
		INSERT INTO model_service (id, account_id, db_instance_id, region_id, resource_group_id, model_name, description,
			model_params, replicas, public, api_key_sealed, status)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		row.service, rootAccount, row.instance, region, "rg-default", modelName, "", []byte("{}"), 1, false, row.sealed, "deploying")
	batch.Queue(`
		UPDATE ai_node SET model_service_id = $1, updated_at = now() WHERE name = ANY ($2)`, row.service, []string{row.node})
	batch.Queue(`
		INSERT INTO replica (id, model_service_id, ordinal, node_name, host, status, engine_key_sealed, published_key)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		row.replica, row.service, 0, row.node, "host-a", "pending", row.sealed, row.sealed)
	batch.Queue(`
		INSERT INTO audit_event (request_id, account_id, principal, access_key_id, source_ip, action, resource,
			resource_id, outcome, code)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		row.requestID, rootAccount, "acs:ram::"+rootAccount+":root", rootKey.id, "127.0.0.1", "gpdb:CreateModelService",
		"acs:gpdb:"+region+":"+rootAccount+":dbinstance/"+row.instance, row.service, "done", "")
	batch.Queue(`
		INSERT INTO river_job (args, kind, max_attempts, metadata, priority, queue, scheduled_at, state, tags)
		VALUES ($1, $2, $3, $4, $5, $6, now(), $7, $8)`,
		[]byte(`{"replicaId":"`+row.replica+`"}`), "replica_step", 3, []byte("{}"), 1, "host_host-a", "available", []string{})
	if oneByOne {
		return pgx.BeginFunc(ctx, r.db.Control, func(tx pgx.Tx) error {
			for _, q := range batch.QueuedQueries {
				if _, err := tx.Exec(ctx, q.SQL, q.Arguments...); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return r.db.Control.SendBatch(ctx, batch).Close() // one implicit transaction
}

var oneByOne = os.Getenv("ONEBYONE") != ""

// deployOne creates one service through the API and returns its id.
func (r *rig) deployOne() string {
	r.conns = append(r.conns, dial(r.b, r.control.addr))
	j := r.prepareCreates(1)
	require.NoError(r.b, j.do(0, 0))
	j.check()
	var id string
	require.NoError(r.b, r.db.Owner.QueryRow(r.b.Context(), `SELECT id FROM model_service`).Scan(&id))
	return id
}

func (r *rig) prepareDescribes(calls int, service string) job {
	requests := make([][]byte, calls)
	for i := range requests {
		requests[i] = r.signed("DescribeModelService", map[string]any{"DBInstanceId": r.instance, "ModelServiceId": service})
	}
	return job{
		do: func(client, i int) error {
			body, err := r.conns[client].call(requests[i])
			if err == nil && (!bytes.Contains(body, []byte(`"ModelServiceId":"`+service+`"`)) || !bytes.Contains(body, []byte(`"ApiKey":"sk-`))) {
				err = fmt.Errorf("not the service: %s", body)
			}
			return err
		},
		check: func() {},
	}
}

// selectService is what internal/modelservice runs to describe a service.
const selectService = `
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
		now() AS now
	FROM model_service s WHERE s.id = $1 AND s.db_instance_id = $2 AND s.account_id = $3`

// prepareBareDescribes asks the query and reads its one row into Go's variables.
func (r *rig) prepareBareDescribes(_ int, service string) job {
	return job{
		do: func(int, int) error {
			rows, err := r.db.Control.Query(r.b.Context(), selectService, service, r.instance, rootAccount)
			if err != nil {
				return err
			}
			row, err := pgx.CollectExactlyOneRow(rows, scanBare)
			if err == nil && row.id != service {
				err = fmt.Errorf("not the service: %s", row.id)
			}
			return err
		},
		check: func() {},
	}
}

// bareService is what selectService reads.
type bareService struct {
	id, account, instance, region, group, model, description, status, reason string
	params                                                                   map[string]any
	public                                                                   bool
	sealed                                                                   []byte
	created, now                                                             time.Time
	count                                                                    int
	nodes, entries                                                           []string
	replicas                                                                 []struct {
		ID, NodeName, Host, Status, Reason string
		Ordinal                            int
		HeardFrom                          *time.Time
		UpToDate                           bool
	}
}

func scanBare(row pgx.CollectableRow) (s bareService, err error) {
	return s, row.Scan(&s.id, &s.account, &s.instance, &s.region, &s.group, &s.model, &s.description, &s.params, &s.public,
		&s.sealed, &s.status, &s.reason, &s.created, &s.count, &s.nodes, &s.entries, &s.replicas, &s.now)
}
