package instance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// HostLease is how long a host's word is believed after its last heartbeat.
const HostLease = 10 * time.Second

// Accelerator is one device of a host, as its driver names it.
type Accelerator struct {
	Index     int    `json:"index"`
	Name      string `json:"name"`
	MemoryMiB int    `json:"memoryMiB"`
}

// Host is a machine with a worker, as it reports itself.
type Host struct {
	Name         string
	Machine      string // tells it from another machine of this name
	EngineAddr   string // the address its engines listen on
	Accelerators []Accelerator
	StartedAt    time.Time
}

var (
	// ErrHostTaken refuses to let a machine speak for a host that another machine speaks for.
	ErrHostTaken = errors.New("the host is another machine's")
	// ErrHostSilent says that a host was silent for longer than HostLease: its replicas may have been given up meanwhile.
	ErrHostSilent = errors.New("the host was silent for longer than it is believed")
)

// Beat writes the heartbeat of a host that was silent until now, and on which nothing runs that nobody knows.
func (i *Instances) Beat(ctx context.Context, h Host) error { return i.beat(ctx, h, true) }

// BeatAgain writes the next heartbeat: one of the few rows that change while nothing happens. A host that was silent for
// longer than HostLease is refused, so that a heartbeat that arrives late revives nobody.
func (i *Instances) BeatAgain(ctx context.Context, h Host) error { return i.beat(ctx, h, false) }

func (i *Instances) beat(ctx context.Context, h Host, clean bool) error {
	if h.Accelerators == nil {
		h.Accelerators = []Accelerator{}
	}
	tag, err := i.db.Exec(ctx, `
		INSERT INTO host (name, machine, engine_addr, accelerators, started_at, heartbeat_at)
		SELECT $1, $2, $3, $4, $5, now() WHERE $7 OR EXISTS (SELECT FROM host WHERE name = $1)
		ON CONFLICT (name) DO UPDATE SET machine = excluded.machine, engine_addr = excluded.engine_addr,
			accelerators = excluded.accelerators, started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at
		WHERE CASE WHEN host.heartbeat_at > now() - $6::interval THEN host.machine IN ('', excluded.machine) ELSE $7 END`,
		h.Name, h.Machine, h.EngineAddr, h.Accelerators, h.StartedAt, HostLease, clean)
	if err != nil {
		return fmt.Errorf("write the heartbeat of host %s: %w", h.Name, err)
	}
	if tag.RowsAffected() == 0 {
		return i.refuseBeat(ctx, h)
	}
	return nil
}

// Leave says that the machine stops to speak for the host, so that another one need not wait until its lease is over.
func (i *Instances) Leave(ctx context.Context, h Host) error {
	_, err := i.db.Exec(ctx, `UPDATE host SET machine = '' WHERE name = $1 AND machine = $2`, h.Name, h.Machine)
	if err != nil {
		return fmt.Errorf("leave host %s: %w", h.Name, err)
	}
	return nil
}

// refuseBeat says why the host's heartbeat was refused.
func (i *Instances) refuseBeat(ctx context.Context, h Host) error {
	var machine, engineAddr string
	var heard time.Duration
	err := i.db.QueryRow(ctx, `
		SELECT machine, engine_addr, now() - heartbeat_at FROM host WHERE name = $1`, h.Name).Scan(&machine, &engineAddr, &heard)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrHostSilent // it has been removed
	case err != nil:
		return fmt.Errorf("read who speaks for host %s: %w", h.Name, err)
	case machine == h.Machine:
		return ErrHostSilent
	}
	return fmt.Errorf("%w: the worker of %s reported %s ago from a machine whose engines listen on %s. Give this machine a name of its own "+
		"with --host. If it is to take that machine's place, stop the worker there and start this one %s later",
		ErrHostTaken, h.Name, heard.Round(100*time.Millisecond), engineAddr, HostLease)
}

// inTurn is how many hosts do at once what one is enough for: the others step in for one that is about to be missed.
const inTurn = 2

// Turn reports whether it is the host's turn to do what each host could do for all, once in each interval. Two hosts
// that are alive have it at a time, so that hundreds cost no more than two, and one that stands still is passed over.
func (i *Instances) Turn(ctx context.Context, host string, interval time.Duration) (mine bool, err error) {
	err = i.db.QueryRow(ctx, `
		SELECT (floor(extract(epoch FROM now()) / $2)::bigint + count(*) FILTER (WHERE name < $1)) % greatest(ceil(count(*) / $3::numeric)::bigint, 1) = 0
		FROM host WHERE heartbeat_at > now() - $4::interval`, host, interval.Seconds(), inTurn, HostLease).Scan(&mine)
	if err != nil {
		return false, fmt.Errorf("ask whose turn it is: %w", err)
	}
	return mine, nil
}

// slot is where a new AI node goes.
type slot struct {
	host         string
	accelerators []int
	fraction     float64
}

// freeSlots finds count places of the given size on the hosts that take new ones. Whole accelerators are taken from all
// hosts in turn, so that one machine's end does not take everything; parts fill up what is begun. Call it under the
// placement lock.
func freeSlots(ctx context.Context, tx pgx.Tx, want size, count int) ([]slot, error) {
	hosts, err := liveHosts(ctx, tx)
	if err != nil {
		return nil, err
	}
	var slots []slot
	for len(hosts) > 0 && len(slots) < count {
		h := hosts[0]
		s, ok := h.take(want)
		switch {
		case !ok:
			hosts = hosts[1:]
			continue
		case want.fraction == 1:
			hosts = append(hosts[1:], h)
		}
		slots = append(slots, s)
	}
	if len(slots) < count {
		return nil, ErrInsufficientCapacity.Withf(
			"The hosts have room for %d more AI nodes of this size, not for %d. Free some with DeleteAINode, or add a host.", len(slots), count)
	}
	return slots, nil
}

// capacity is what is left of one host.
type capacity struct {
	host      string
	simulated bool
	left      []float64 // by accelerator index
}

func (c *capacity) take(want size) (slot, bool) {
	if c.simulated {
		return slot{host: c.host, accelerators: []int{}, fraction: 1}, true
	}
	var chosen []int
	for index, left := range c.left {
		if left >= want.fraction && len(chosen) < want.accelerators {
			chosen = append(chosen, index)
		}
	}
	if len(chosen) < want.accelerators {
		return slot{}, false
	}
	for _, index := range chosen {
		c.left[index] -= want.fraction
	}
	return slot{c.host, chosen, want.fraction}, true
}

func liveHosts(ctx context.Context, tx pgx.Tx) ([]*capacity, error) {
	rows, err := tx.Query(ctx, `
		SELECT h.name, h.accelerators, coalesce(
			(SELECT jsonb_object_agg(used.index, used.fraction) FROM (
				SELECT a.index::text, sum(n.memory_fraction) AS fraction
				FROM ai_node n CROSS JOIN unnest(n.accelerators) AS a(index)
				WHERE n.host = h.name GROUP BY a.index) used), '{}')
		FROM host h
		WHERE h.heartbeat_at > now() - $1::interval AND NOT h.draining
		ORDER BY (SELECT count(*) FROM ai_node n WHERE n.host = h.name), h.name`, HostLease)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*capacity, error) {
		var c capacity
		var accelerators []Accelerator
		var used map[int]float64
		if err := row.Scan(&c.host, &accelerators, &used); err != nil {
			return nil, err
		}
		c.simulated = len(accelerators) == 0
		for _, a := range accelerators {
			for len(c.left) <= a.Index {
				c.left = append(c.left, 0)
			}
			c.left[a.Index] = 1 - used[a.Index]
		}
		return &c, nil
	})
}

// Zones names the hosts that are alive: each is a zone of the region.
func (i *Instances) Zones(ctx context.Context) ([]string, error) {
	rows, err := i.db.Query(ctx, `SELECT name FROM host WHERE heartbeat_at > now() - $1::interval ORDER BY name`, HostLease)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
