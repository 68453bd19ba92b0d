package access

import (
	"container/list"
	"sync"
)

// lru keeps the values that were asked for last. Its lock is held for one look into a map, never while a value is made.
type lru[K comparable, V any] struct {
	limit int

	mu      sync.Mutex
	entries map[K]*list.Element
	recent  list.List // of entry[K, V], the one asked for last in front
}

type entry[K comparable, V any] struct {
	key   K
	value V
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

func (c *lru[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[key]; ok {
		element.Value = entry[K, V]{key, value}
		c.recent.MoveToFront(element)
		return
	}
	c.entries[key] = c.recent.PushFront(entry[K, V]{key, value})
	if c.recent.Len() > c.limit {
		oldest := c.recent.Remove(c.recent.Back()).(entry[K, V])
		delete(c.entries, oldest.key)
	}
}
