package signature

import (
	"sync"

	"github.com/engineshed/engineshed/internal/secret"
)

// recentSecrets are the secrets of keys that were used not long ago. They prove a signature before the database is
// asked; whether the key still has that secret, and is active, is asked together with the nonce of each request.
type recentSecrets struct {
	mu   sync.RWMutex
	byID map[string]secret.Secret
}

// keptSecrets bounds the memory. Forgetting all of them at once costs each key one question.
const keptSecrets = 10_000

func (r *recentSecrets) get(id string) (secret.Secret, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.byID[id]
	return s, ok
}

func (r *recentSecrets) put(id string, s secret.Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil || len(r.byID) >= keptSecrets {
		r.byID = map[string]secret.Secret{}
	}
	r.byID[id] = s
}

func (r *recentSecrets) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}
