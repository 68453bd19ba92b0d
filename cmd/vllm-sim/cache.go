package main

import (
	"container/list"
	"hash/fnv"
	"sync"
)

// prefixCache is vLLM's automatic prefix caching: it remembers for which blocks of tokens, each with all that stands before
// it, keys and values have been computed. When there is no more room, the block goes that was used longest ago. A nil one
// remembers nothing.
type prefixCache struct {
	blockSize int // tokens
	room      int // blocks

	mu     sync.Mutex
	known  map[block]*list.Element // of recent
	recent list.List               // of blocks, the one used last first
}

// block stands for a block of tokens and all that is before it.
type block uint64

func newPrefixCache(blockSize, room int) *prefixCache {
	return &prefixCache{blockSize: blockSize, room: room, known: map[block]*list.Element{}}
}

// blocks are the full blocks of a text's tokens.
func (c *prefixCache) blocks(tokens []string) []block {
	all := make([]block, 0, len(tokens)/c.blockSize)
	digest := fnv.New64a()
	for len(tokens) >= c.blockSize {
		for _, token := range tokens[:c.blockSize] {
			_, _ = digest.Write([]byte(token))
			_, _ = digest.Write([]byte{0xff}) // is in no text
		}
		all = append(all, block(digest.Sum64()))
		tokens = tokens[c.blockSize:]
	}
	return all
}

// cached is how many tokens at the beginning of a prompt need not be computed. The last token always is: it makes the
// first of the answer.
func (c *prefixCache) cached(prompt []string) int {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, b := range c.blocks(prompt[:max(0, len(prompt)-1)]) {
		if c.known[b] == nil {
			break
		}
		n += c.blockSize
	}
	return n
}

// keep remembers what was computed for a text.
func (c *prefixCache) keep(tokens []string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	blocks := c.blocks(tokens)
	for i := len(blocks) - 1; i >= 0; i-- { // without its beginning a block is of no use: beginnings go last
		if e := c.known[blocks[i]]; e != nil {
			c.recent.MoveToFront(e)
			continue
		}
		c.known[blocks[i]] = c.recent.PushFront(blocks[i])
	}
	for c.recent.Len() > c.room {
		oldest := c.recent.Back()
		delete(c.known, c.recent.Remove(oldest).(block))
	}
}

// usage is which part of the room is taken.
func (c *prefixCache) usage() float64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(c.recent.Len()) / float64(c.room)
}
