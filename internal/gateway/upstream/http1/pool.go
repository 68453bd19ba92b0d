package http1

import (
	"sync/atomic"
	"time"
)

// pool keeps idle connections without a lock: every request of a busy engine would wait for it. The one used last is
// taken first, so that those that are not needed grow old.
type pool struct {
	max      int64
	maxAge   time.Duration
	top      atomic.Pointer[node]
	size     atomic.Int64
	sweeping atomic.Bool // a sweep is due
}

// node never changes, and is never in the pool twice: who has read one may rely on what it says.
type node struct {
	conn *conn
	next *node
}

// take returns a connection, or nil.
func (p *pool) take() *conn {
	for {
		top := p.top.Load()
		if top == nil {
			return nil
		}
		if p.top.CompareAndSwap(top, top.next) {
			p.size.Add(-1)
			return top.conn
		}
	}
}

// put keeps a connection for later, or closes it when there are enough.
func (p *pool) put(cn *conn) {
	cn.idleSince = time.Now()
	if !p.push(cn) {
		_ = cn.Close()
		return
	}
	p.sweepLater()
}

func (p *pool) push(cn *conn) bool {
	if p.size.Add(1) > p.max {
		p.size.Add(-1)
		return false
	}
	for n := (&node{conn: cn}); ; {
		n.next = p.top.Load()
		if p.top.CompareAndSwap(n.next, n) {
			return true
		}
	}
}

// sweepLater makes sure that what is idle for too long is closed, even if nothing is asked any more.
func (p *pool) sweepLater() {
	if p.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(p.maxAge, p.sweep)
	}
}

// sweep closes what has been idle for too long.
func (p *pool) sweep() {
	var young []*conn
	for cn := p.take(); cn != nil; cn = p.take() {
		if time.Since(cn.idleSince) > p.maxAge {
			_ = cn.Close()
			continue
		}
		young = append(young, cn)
	}
	for i := len(young) - 1; i >= 0; i-- { // the youngest is on top again
		if !p.push(young[i]) {
			_ = young[i].Close()
		}
	}
	p.sweeping.Store(false)
	if p.size.Load() > 0 {
		p.sweepLater()
	}
}

// close closes what is there.
func (p *pool) close() {
	for cn := p.take(); cn != nil; cn = p.take() {
		_ = cn.Close()
	}
}
