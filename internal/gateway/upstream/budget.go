package upstream

import "sync/atomic"

const (
	retryCost = 5              // requests that earn a further attempt: there are a fifth more attempts than requests
	allowance = 10 * retryCost // of ten attempts that were not earned
)

// Budget bounds how often a service is asked again after it did not answer: among as many requests as there are,
// successive ones, there are at most a fifth as many further attempts, and ten. A service in trouble then has not much
// more to do than usual. The zero value has all ten.
type Budget struct {
	owed atomic.Int64 // 0 to allowance
}

// Earn is for the first attempt of each request.
func (b *Budget) Earn() {
	for {
		owed := b.owed.Load()
		if owed == 0 || b.owed.CompareAndSwap(owed, owed-1) {
			return
		}
	}
}

// Spend is for each further attempt after one without an answer, and reports whether it may be made.
func (b *Budget) Spend() bool {
	for {
		owed := b.owed.Load()
		if owed+retryCost > allowance {
			return false
		}
		if b.owed.CompareAndSwap(owed, owed+retryCost) {
			return true
		}
	}
}
