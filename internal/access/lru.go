package access

import (
	"container/list"
	"sync"
)

// lru keeps the values that were asked for last, up to a limit of their weights. Its lock is held for one look into a
// map, never while a value is made.
type lru[K comparable, V any] struct {
	limit int

	mu      sync.Mutex
	weight  int // of all entries
	entries map[K]*list.Element
	recent  list.List // of entry[K, V], the one asked for last in front
}

type entry[K comparable, V any] struct {
	key   K
	value V

	weight int
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	return &lru[K, V]{limit: limit, entries: map[K]*list.Element{}}
}

func (c *lru[K, V]) get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[key]
	if !ok {
		var none V
		return none, false
	}
	c.recent.MoveToFront(element)
	return element.Value.(entry[K, V]).value, true
}

// put keeps the value. One that is heavier than the limit is kept alone.
func (c *lru[K, V]) put(key K, value V, weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[key]; ok {
		c.remove(element)
	}
	c.entries[key] = c.recent.PushFront(entry[K, V]{key, value, weight})
	c.weight += weight
	for c.weight > c.limit && c.recent.Len() > 1 {
		c.remove(c.recent.Back())
	}
}

func (c *lru[K, V]) remove(element *list.Element) {
	gone := c.recent.Remove(element).(entry[K, V])
	delete(c.entries, gone.key)
	c.weight -= gone.weight
}
