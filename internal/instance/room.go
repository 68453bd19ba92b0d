package instance

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Room is what an AI node gives the one replica it holds.
type Room struct {
	Node         string
	Spec         string
	Accelerators int     // 0: a simulated node, of which nothing is known
	MemoryMiB    int     // of each accelerator, the smallest; 0: not known
	Fraction     float64 // of each accelerator's memory
	Host         string
	Engine       string // the version of the host's vLLM; "": not known
}

// SelectRoom are the columns of a Room after its name, of the row n of ai_node, which may be null.
const SelectRoom = `coalesce(n.node_spec, ''), coalesce(cardinality(n.accelerators), 0), coalesce(n.memory_fraction, 1)::float8,
	coalesce((SELECT min((a ->> 'memoryMiB')::int) FROM host h CROSS JOIN jsonb_array_elements(h.accelerators) a
		WHERE h.name = n.host AND (a ->> 'index')::int = ANY (n.accelerators)), 0),
	coalesce(n.host, ''), coalesce((SELECT h.engine_version FROM host h WHERE h.name = n.host), '')`

// Columns are where SelectRoom is scanned to.
func (r *Room) Columns() []any {
	return []any{&r.Spec, &r.Accelerators, &r.Fraction, &r.MemoryMiB, &r.Host, &r.Engine}
}

// SetEngineVersion writes down which version of the engine the host has, such as 0.32.0.
func (i *Instances) SetEngineVersion(ctx context.Context, host, version string) error {
	if _, err := i.db.Exec(ctx, `UPDATE host SET engine_version = $2 WHERE name = $1 AND engine_version <> $2`, host, version); err != nil {
		return fmt.Errorf("write the engine's version of host %s: %w", host, err)
	}
	return nil
}

// Bytes is the memory of the node's accelerators that is the replica's, in all; 0: not known.
func (r Room) Bytes() int64 {
	return bytesOf(size{r.Accelerators, r.Fraction}, r.MemoryMiB)
}

func bytesOf(s size, memoryMiB int) int64 {
	return int64(float64(s.accelerators) * s.fraction * float64(memoryMiB) * (1 << 20))
}

// Larger names the node specifications that have at least so many bytes on accelerators like the node's and allow a split
// over one of counts (nil: any), the smallest first; none when nothing has.
func (r Room) Larger(bytes int64, counts []int) []string {
	var names []string
	for name, s := range sizes {
		if bytesOf(s, r.MemoryMiB) >= bytes && (counts == nil || slices.Contains(counts, s.accelerators)) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(bytesOf(sizes[a], 1024), bytesOf(sizes[b], 1024)), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s.N", name)
	}
	return names
}
