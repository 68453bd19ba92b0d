package modelservice

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/internal/secret"
)

// Engines asks engines how they do. A call waits as long as its context allows.
type Engines interface {
	// Load returns what the engine at addr says of its own work.
	Load(ctx context.Context, addr string) (vllm.Load, error)
	// Try has the engine at addr answer one short request.
	Try(ctx context.Context, addr, model string, key secret.Secret) error
}

// health is what a host makes of an engine that runs. The zero value is no opinion.
type health string

const (
	well health = "well"
	mute health = "mute" // it has not answered for a while
	hung health = "hung" // it has not answered, or not moved, for so long that it is ended
)

// prognosis is what the watcher of this process thinks of an engine.
type prognosis struct {
	answered bool // it has answered a request
	health   health
	reason   string // what there is to say about it, for a person
	files    supply // of its model, on this host
}

const (
	askPulse      = time.Second     // between an engine's answer and the next question
	countsBusy    = 5 * time.Second // requests wait this long before anybody is told
	stuckLimit    = 10              // times HungAfter without progress, while the engine answers: it may read a very long prompt
	tryLimit      = 2 * time.Minute // the first request may be slow
	longestTick   = 2 * lookRunning // a watcher that was away itself knows no more than this
	reasonInstant = "15:04:05 MST"
)

// pulse follows one engine: a goroutine of its own asks it, the watcher's look counts the time.
type pulse struct {
	generation int64 // of the engine
	hungAfter  time.Duration
	stop       context.CancelFunc

	mu       sync.Mutex
	answers  int // so far
	load     vllm.Load
	tried    bool
	refusal  string // why the last trial failed
	taken    int    // of the answers, by tick
	progress float64

	silentFor, stuckFor, fullFor time.Duration
}

// heard takes in an answer.
func (p *pulse) heard(load vllm.Load) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers++
	p.load = load
}

func (p *pulse) wasTried(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried, p.refusal, p.silentFor = err == nil, "", 0
	if err != nil {
		p.refusal = fmt.Sprintf("it answers /health and not a request: %.300s", err)
	}
}

// tick lets time go by.
func (p *pulse) tick(elapsed time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	elapsed = min(elapsed, longestTick)
	p.silentFor += elapsed
	if p.answers != p.taken {
		p.taken, p.silentFor = p.answers, 0
		if p.load.Progress != p.progress || p.load.Running == 0 {
			p.progress, p.stuckFor = p.load.Progress, 0
		}
	}
	p.stuckFor = counted(p.stuckFor, elapsed, p.load.Running > 0)
	p.fullFor = counted(p.fullFor, elapsed, p.load.Waiting > 0)
}

// counted is so much more while it goes on, and nothing when it does not.
func counted(so, elapsed time.Duration, goesOn bool) time.Duration {
	if !goesOn {
		return 0
	}
	return so + elapsed
}

// prognosis judges by what the engine itself says: one with much to do answers late, and answers.
func (p *pulse) prognosis(now time.Time) prognosis {
	p.mu.Lock()
	defer p.mu.Unlock()
	is := func(h health, format string, args ...any) prognosis {
		return prognosis{answered: p.tried, health: h, reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case !p.tried:
		return prognosis{reason: p.refusal}
	case p.silentFor >= p.hungAfter:
		return is(hung, "the engine did not answer for %s and was ended", p.silentFor.Round(time.Second))
	case p.silentFor >= p.hungAfter/2:
		return is(mute, "the engine has not answered since %s; it is started again after %s of silence",
			now.Add(-p.silentFor).UTC().Format(reasonInstant), p.hungAfter)
	case p.answers == 0:
		return prognosis{answered: true} // not asked for long enough to have an opinion
	case p.stuckFor >= stuckLimit*p.hungAfter:
		return is(hung, "the engine had %d requests under way, made no progress for %s and was ended", p.load.Running, p.stuckFor.Round(time.Second))
	case p.fullFor >= countsBusy:
		return is(well, "busy: all its slots are taken and requests wait")
	case p.stuckFor >= p.hungAfter:
		return is(well, "the engine answers, and the requests it has make no progress")
	}
	return is(well, "")
}

// follow asks the engine until ctx ends: first for an answer to a request, unless it has given one, then how it does.
func (p *pulse) follow(ctx context.Context, engines Engines, addr, model string, key secret.Secret) {
	for ctx.Err() == nil {
		if !p.hasAnswered() {
			tryCtx, cancel := context.WithTimeout(ctx, tryLimit)
			p.wasTried(engines.Try(tryCtx, addr, model, key))
			cancel()
		} else {
			loadCtx, cancel := context.WithTimeout(ctx, p.hungAfter)
			if load, err := engines.Load(loadCtx, addr); err == nil {
				p.heard(load)
			}
			cancel()
		}
		select {
		case <-ctx.Done():
		case <-time.After(askPulse):
		}
	}
}

func (p *pulse) hasAnswered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tried
}
