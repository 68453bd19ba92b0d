package identity

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// What Nonces hold at most, some 40 bytes each: of all signers, and of each, so that none can use up what is there for all.
const (
	maxNonces        = 1 << 20
	maxNoncesOfOne   = 1 << 18
	nonceHash        = 16
	windowOfMinutes  = int64(window / time.Minute)
	secondsOfAMinute = 60
)

var (
	// ErrSpent is a nonce that was there before: the request is a replay.
	ErrSpent = errors.New("the nonce was used before")
	// ErrFull refuses a request because it could not be told from a replay later.
	ErrFull = errors.New("too many nonces are remembered")
)

// Nonces remembers the nonces of signed requests for as long as their dates are accepted. A replay carries its date, so it
// is looked for among the nonces of the same minute, and a minute is forgotten as a whole. What does not fit is refused,
// never forgotten. They are those of one process: each gateway process would take the same request once.
type Nonces struct {
	mu      sync.Mutex
	minutes map[int64]*minute
	total   int
	ofOne   map[string]int // by signer
}

type minute struct {
	spent map[[nonceHash]byte]struct{}
	ofOne map[string]int
}

// NewNonces returns a memory without nonces.
func NewNonces() *Nonces { return &Nonces{minutes: map[int64]*minute{}, ofOne: map[string]int{}} }

// Spend takes note of a signer's nonce, dated at, which is within the window around now.
func (n *Nonces) Spend(signer, nonce string, at, now time.Time) error {
	sum := sha256.Sum256([]byte(signer + "\x00" + nonce))
	key := [nonceHash]byte(sum[:])
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(now)
	number := at.Unix() / secondsOfAMinute
	of := n.minutes[number]
	if of == nil {
		of = &minute{map[[nonceHash]byte]struct{}{}, map[string]int{}}
		n.minutes[number] = of
	}
	if _, spent := of.spent[key]; spent {
		return ErrSpent
	}
	if n.total >= maxNonces || n.ofOne[signer] >= maxNoncesOfOne {
		return ErrFull
	}
	of.spent[key] = struct{}{}
	of.ofOne[signer]++
	n.ofOne[signer]++
	n.total++
	return nil
}

// forget drops the minutes whose dates are not accepted any more.
func (n *Nonces) forget(now time.Time) {
	for number, of := range n.minutes {
		if number+windowOfMinutes+1 > now.Unix()/secondsOfAMinute {
			continue
		}
		delete(n.minutes, number)
		n.total -= len(of.spent)
		for signer, count := range of.ofOne {
			if n.ofOne[signer] -= count; n.ofOne[signer] == 0 {
				delete(n.ofOne, signer)
			}
		}
	}
}
