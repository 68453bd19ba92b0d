package config

import (
	"slices"
	"strings"
)

// thing is what a published item is for.
type thing interface {
	comparable
	itemID() string
	has(body []byte) bool
	published(kind, id string) Item
}

func (s *Service) itemID() string     { return s.ID }
func (a *API) itemID() string         { return a.ID }
func (u *Upstream) itemID() string    { return u.ID }
func (c *Consumer) itemID() string    { return c.ID }
func (d *Domain) itemID() string      { return d.ID }
func (k *OperatorKey) itemID() string { return k.ID }

// list is all there is of one kind, in the order of the ids. It never changes. Of very many things it is copied sooner than a
// map; and the garbage collector, which follows a map's pointers to and fro, goes through memory from its beginning to its end.
type list[T thing] []T

// at is where the thing with this id is, or would be.
func (l list[T]) at(id string) (i int, found bool) {
	return slices.BinarySearchFunc(l, id, func(t T, id string) int { return strings.Compare(t.itemID(), id) })
}

// find returns the thing with this id, the zero value when there is none.
func (l list[T]) find(id string) (t T) {
	if i, found := l.at(id); found {
		t = l[i]
	}
	return t
}

// byID is the same to look things up in very often.
func (l list[T]) byID() map[string]T {
	all := make(map[string]T, len(l))
	for _, t := range l {
		all[t.itemID()] = t
	}
	return all
}
