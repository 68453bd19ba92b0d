package identity

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxRemembered is how many of each of two generations a Memory holds.
const maxRemembered = 8192

// Memory remembers what was verified, until it ends or newer things have taken its place. The zero value is empty.
type Memory[T any] struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]remembered[T]
}

type remembered[T any] struct {
	value T
	until time.Time
}

// Get returns what was put under the key, unless it has ended.
func (m *Memory[T]) Get(key [sha256.Size]byte, now time.Time) (value T, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.young[key]
	if !ok {
		if found, ok = m.old[key]; ok {
			m.put(key, found)
		}
	}
	if !ok || !now.Before(found.until) {
		return value, false
	}
	return found.value, true
}

// Put remembers the value until then.
func (m *Memory[T]) Put(key [sha256.Size]byte, value T, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(key, remembered[T]{value, until})
}

// put forgets what nobody asked for while the young generation filled up.
func (m *Memory[T]) put(key [sha256.Size]byte, r remembered[T]) {
	if m.young == nil || len(m.young) >= maxRemembered {
		m.young, m.old = make(map[[sha256.Size]byte]remembered[T]), m.young
	}
	m.young[key] = r
}
