package route

import (
	"hash/maphash"
	"math/bits"
)

// index finds sites by a text: a host, or a base path of one host. It does not change after it was made. It is small, so
// that one of very many is found with one look at memory that is in no cache: for a text it has 128 bits that are
// drawn anew for every index, which no two texts share by chance or by anybody's making, since nobody is shown them.
type index struct {
	seeds [2]maphash.Seed
	slots []slot // some of them free
}

type slot struct {
	text [2]uint64
	site site
}

// newIndex returns an empty index with room for n texts.
func newIndex(n int) *index {
	return &index{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, slots: make([]slot, n*3/2+1)}
}

// put returns the site of the text to be filled in, and whether the text is new.
func (x *index) put(text string) (s *site, added bool) {
	name := x.name(text)
	to := x.at(name)
	added = to.text[1] == 0
	to.text = name
	return &to.site, added
}

func (x *index) name(text string) [2]uint64 {
	return [2]uint64{maphash.String(x.seeds[0], text), maphash.String(x.seeds[1], text) | 1} // that of a free slot is 0
}

// at is the slot of the name, or the free one that shows there is none.
func (x *index) at(name [2]uint64) *slot {
	first, _ := bits.Mul64(name[0], uint64(len(x.slots)))
	for i := first; ; i++ {
		if i == uint64(len(x.slots)) {
			i = 0
		}
		if s := &x.slots[i]; s.text == name || s.text[1] == 0 {
			return s
		}
	}
}

// find returns what the text stands for.
func (x *index) find(text string) (s site, ok bool) {
	there := x.at(x.name(text))
	return there.site, there.text[1] != 0
}
