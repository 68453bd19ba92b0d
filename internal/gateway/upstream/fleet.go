package upstream

import "github.com/engineshed/engineshed/internal/secret"

// Fleet is every replica of a configuration by id. Only the goroutine that changes the configuration uses it, so it
// needs no lock.
type Fleet struct {
	replicas map[string]*Replica
	leaving  map[string]struct{} // no longer in the configuration, with requests still running
}

// NewFleet returns an empty fleet.
func NewFleet() *Fleet {
	return &Fleet{replicas: map[string]*Replica{}, leaving: map[string]struct{}{}}
}

// Join returns the replica with this id: the one that is there, connections and all, or one at the new address or
// with the new key that goes on counting the load of the old.
func (f *Fleet) Join(id, addr string, key secret.Secret) *Replica {
	delete(f.leaving, id)
	old := f.replicas[id]
	if old != nil && old.addr == addr && old.key == key {
		return old
	}
	l := new(Load)
	if old != nil {
		l = old.Load
	}
	f.replicas[id] = newReplica(id, addr, key, l)
	return f.replicas[id]
}

// Leave closes the idle connections of a replica that no configuration names any more. Its running streams go on, and
// its load is remembered as long as there are any.
func (f *Fleet) Leave(r *Replica) {
	r.closeIdle()
	if f.replicas[r.id] == r {
		f.leaving[r.id] = struct{}{}
	}
	f.forgetIdle()
}

func (f *Fleet) forgetIdle() {
	for id := range f.leaving {
		if f.replicas[id].InFlight() == 0 {
			delete(f.replicas, id)
			delete(f.leaving, id)
		}
	}
}

// Close closes every idle connection.
func (f *Fleet) Close() {
	for _, r := range f.replicas {
		r.closeIdle()
	}
}
