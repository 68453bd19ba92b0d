package modelservice

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/instance"
)

// member is a replica as the arrangement of its service sees it.
type member struct {
	id      string
	ordinal int
	node    string
	status  string
	born    time.Time
	fits    bool // it has the service's parameters, on a node that stays and a host that is not drained
	evades  bool // its host is drained: it goes when a successor answers elsewhere, and not before
	lost    bool // its host has been silent for so long that its replicas move
}

func (m member) goes() bool    { return m.status == draining || m.status == removing }
func (m member) answers() bool { return m.status == active && !m.lost }

// place is a node of the service that holds no replica, on a host that is alive and not drained.
type place struct{ node, host string }

// moves are what brings a service's replicas nearer to what they should be.
type moves struct {
	add    []place
	take   []member // drain, or go at once when they serve nobody
	forget []member // their host is gone: the rows go, and the host ends the engines when it is back
}

// roster is a service's replicas, sorted out.
type roster struct {
	fit, unfit     []member // those that stay if there are not too many, and those that are to be replaced
	gone           []member // they were going, and their host is lost
	going          int
	answering      int // of fit and unfit
	answeringOfFit int
}

func sortOut(replicas []member) (all roster) {
	for _, r := range replicas {
		answers := 0
		if r.answers() {
			answers = 1
		}
		switch {
		case r.goes() && r.lost:
			all.gone = append(all.gone, r)
		case r.goes():
			all.going++
		case r.fits && !r.lost:
			all.fit = append(all.fit, r)
			all.answering += answers
			all.answeringOfFit += answers
		default:
			all.unfit = append(all.unfit, r)
			all.answering += answers
		}
	}
	slices.SortStableFunc(all.fit, leastMissed)
	slices.SortStableFunc(all.unfit, leastMissed)
	return all
}

// leastMissed orders replicas: first those that do not answer, then the youngest.
func leastMissed(a, b member) int {
	if a.answers() != b.answers() {
		if a.answers() {
			return 1
		}
		return -1
	}
	return cmp.Or(b.born.Compare(a.born), b.ordinal-a.ordinal)
}

// arrange is the whole of the rules by which replicas come and go. What a service has goes only when as many others
// answer as it should have; where no place is free for a successor, one at a time goes while another answers, and the
// last one only if the service may be interrupted. Nothing goes from a host that is drained before its successor answers,
// since its going makes no room. Of too many, those go first that do not answer, then the youngest:
// the older ones have the warmer caches.
func arrange(want int, replicas []member, free []place, mayInterrupt bool) (m moves) {
	all := sortOut(replicas)
	m.forget = all.gone
	adding := max(0, min(want-len(all.fit), len(free)))
	m.add = free[:adding]
	missing := want - len(all.fit) - adding
	settled := adding == 0 && all.answeringOfFit == len(all.fit)
	for _, r := range all.unfit {
		without := all.answering
		if r.answers() {
			without--
		}
		makesRoom := !r.evades && missing > 0 && all.going == 0 && settled && (without > 0 || mayInterrupt)
		switch {
		case r.lost && without >= want:
			m.forget = append(m.forget, r)
		case !r.lost && (!serves(r.status) && !r.evades || without >= want || makesRoom):
			m.take = append(m.take, r)
			all.going++
			all.answering = without
		}
	}
	m.take = append(m.take, all.fit[:max(0, len(all.fit)-want)]...)
	return m
}

// stuck reports whether a change cannot go on unless the service may be interrupted: its one replica answers and is to be
// replaced, and there is no place for the successor.
func stuck(replicas []member, free []place) bool {
	return len(replicas) == 1 && replicas[0].answers() && !replicas[0].fits && !replicas[0].evades && len(free) == 0
}

// arrangement is a service's replicas and places as the database has them.
type arrangement struct {
	want         int
	mayInterrupt bool
	leaving      bool // some of its nodes are to be given back
	replicas     []member
	free         []place
}

// readArrangement reads it. The caller has locked the service.
func readArrangement(ctx context.Context, tx pgx.Tx, serviceID string, lostAfter time.Duration) (a arrangement, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`
		SELECT CASE WHEN status = 'deleting' THEN 0 ELSE replicas END, allow_interruption,
			EXISTS (SELECT FROM ai_node n WHERE n.model_service_id = s.id AND n.leaving)
		FROM model_service s WHERE id = $1`, serviceID).QueryRow(func(row pgx.Row) error {
		return row.Scan(&a.want, &a.mayInterrupt, &a.leaving)
	})
	batch.Queue(`
		SELECT r.id, r.ordinal, r.node_name, r.status, r.created_at,
			r.model_params = s.model_params AND NOT n.leaving AND NOT coalesce(h.draining, false),
			coalesce(h.draining, false) AND NOT n.leaving, h.name IS NULL OR h.heartbeat_at < now() - $2::interval
		FROM replica r JOIN model_service s ON s.id = r.model_service_id JOIN ai_node n ON n.name = r.node_name
		LEFT JOIN host h ON h.name = r.host
		WHERE r.model_service_id = $1 ORDER BY r.ordinal`, serviceID, lostAfter).Query(func(rows pgx.Rows) error {
		a.replicas, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m member, err error) {
			return m, row.Scan(&m.id, &m.ordinal, &m.node, &m.status, &m.born, &m.fits, &m.evades, &m.lost)
		})
		return err
	})
	batch.Queue(`
		SELECT n.name, n.host FROM ai_node n JOIN host h ON h.name = n.host
		WHERE n.model_service_id = $1 AND NOT n.leaving AND NOT h.draining AND h.heartbeat_at > now() - $2::interval
			AND NOT EXISTS (SELECT FROM replica r WHERE r.node_name = n.name)
		ORDER BY (SELECT count(*) FROM replica r WHERE r.model_service_id = $1 AND r.host = n.host)
			+ row_number() OVER (PARTITION BY n.host ORDER BY n.name), n.name`, serviceID, instance.HostLease).Query(func(rows pgx.Rows) error {
		a.free, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p place, err error) {
			return p, row.Scan(&p.node, &p.host)
		})
		return err
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return a, fmt.Errorf("read the replicas of %s: %w", serviceID, err)
	}
	return a, nil
}

// rearrange makes the next moves of the service, whose row the caller has locked, and gives back nodes that nothing runs
// on any more. changed reports whether gateways are to be told.
func (s *Services) rearrange(ctx context.Context, tx pgx.Tx, serviceID string) (changed bool, err error) {
	a, err := readArrangement(ctx, tx, serviceID, s.lostAfter)
	if err != nil {
		return false, err
	}
	m := arrange(a.want, a.replicas, a.free, a.mayInterrupt)
	if err := m.record(ctx, tx, serviceID); err != nil {
		return false, err
	}
	if err := s.forget(ctx, tx, m.forget); err != nil {
		return false, err
	}
	if len(m.take) > 0 {
		if _, err := s.takeAway(ctx, tx, serviceID, idsOf(m.take)); err != nil {
			return false, err
		}
	}
	if err := s.add(ctx, tx, serviceID, a.replicas, m.add); err != nil {
		return false, err
	}
	if a.leaving {
		if err := giveBack(ctx, tx, serviceID); err != nil {
			return false, err
		}
	}
	return len(m.take) > 0 || slices.ContainsFunc(m.forget, func(m member) bool { return serves(m.status) }), nil
}

// giveBack frees the nodes that leave the service and that no replica is on any more.
func giveBack(ctx context.Context, tx pgx.Tx, serviceID string) error {
	if _, err := tx.Exec(ctx, `
		UPDATE ai_node n SET model_service_id = NULL, leaving = false, updated_at = now()
		WHERE n.model_service_id = $1 AND n.leaving AND NOT EXISTS (SELECT FROM replica r WHERE r.node_name = n.name)`, serviceID); err != nil {
		return fmt.Errorf("give back AI nodes of %s: %w", serviceID, err)
	}
	return nil
}

// record tells of the moves.
func (m moves) record(ctx context.Context, tx pgx.Tx, serviceID string) error {
	var said []string
	for _, r := range m.forget {
		said = append(said, fmt.Sprintf("Replica %d on %s is given up: its host is silent.", r.ordinal, r.node))
	}
	for _, r := range m.take {
		why := "there are more replicas than there should be"
		if !r.fits {
			why = "it has other parameters than the service, its AI node is given back, or its host is drained"
		}
		said = append(said, fmt.Sprintf("Replica %d on %s goes: %s.", r.ordinal, r.node, why))
	}
	for _, p := range m.add {
		said = append(said, fmt.Sprintf("A replica is added on %s, host %s.", p.node, p.host))
	}
	for _, text := range said {
		if err := record(ctx, tx, serviceID, EventPlacement, "%s", text); err != nil {
			return err
		}
	}
	return nil
}

func idsOf(members []member) []string {
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.id
	}
	return ids
}

// forget removes the rows of replicas whose host is gone. Whatever it does later is fenced off, and when it is back it
// ends the engines that no row knows before it says that it is alive.
func (s *Services) forget(ctx context.Context, tx pgx.Tx, gone []member) error {
	if len(gone) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, `DELETE FROM replica WHERE id = ANY ($1)`, idsOf(gone)); err != nil {
		return fmt.Errorf("forget replicas of a lost host: %w", err)
	}
	return nil
}

// add inserts replicas of the service as it is now, with their jobs, under the lowest free ordinals.
func (s *Services) add(ctx context.Context, tx pgx.Tx, serviceID string, have []member, places []place) error {
	taken := map[int]bool{}
	for _, m := range have {
		taken[m.ordinal] = true
	}
	ordinal := 0
	added := make([]plannedReplica, 0, len(places))
	for _, p := range places {
		for taken[ordinal] {
			ordinal++
		}
		taken[ordinal] = true
		r, err := s.planReplica(p.node)
		if err != nil {
			return err
		}
		r.host = p.host
		if _, err := tx.Exec(ctx, `
			INSERT INTO replica (id, model_service_id, ordinal, node_name, host, status, engine_key_sealed, published_key, model_params)
			SELECT $1, id, $3, $4, $5, $6, $7, $8, model_params FROM model_service WHERE id = $2`,
			r.id, serviceID, ordinal, r.node, r.host, pending, r.sealedKey, r.publishedKey); err != nil {
			return fmt.Errorf("insert a replica of %s on %s: %w", serviceID, p.node, err)
		}
		added = append(added, r)
	}
	return s.enqueueSteps(ctx, tx, added)
}
