package up

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// running is a child: one of our programs, or Postgres.
type running interface {
	Done() <-chan struct{}
	Stop(ctx context.Context) error
	Signal(signal syscall.Signal)
}

// A child that ends is started again after a pause, which doubles while it ends soon.
const (
	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
	steady        = 30 * time.Second // who has run so long did not end soon
)

// kept is a child that is started again when it ends, until stop.
type kept struct {
	name    string
	start   func(context.Context) (running, error)
	grace   time.Duration // how long it may take to stop
	console Console

	current atomic.Pointer[running]
	end     context.CancelFunc
	ended   chan struct{}
}

// keep starts the child and returns when the first start has succeeded; ctx bounds that start only.
func (k *kept) keep(ctx context.Context) error {
	first, err := k.start(ctx)
	if err != nil {
		return err
	}
	ctx, k.end = context.WithCancel(context.WithoutCancel(ctx))
	k.ended = make(chan struct{})
	k.current.Store(&first)
	go k.run(ctx)
	return nil
}

func (k *kept) run(ctx context.Context) {
	defer close(k.ended)
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		began := time.Now()
		current := *k.current.Load()
		select {
		case <-ctx.Done():
			k.stopChild(current)
			return
		case <-current.Done():
		}
		if time.Since(began) > steady {
			pause = shortestPause
		}
		k.console.Notice(fmt.Sprintf("%s ended by itself and is started again.", k.name))
		if !k.startAgain(ctx, pause) {
			return
		}
	}
}

// startAgain tries until it succeeds, and returns false when ctx ends first.
func (k *kept) startAgain(ctx context.Context, pause time.Duration) bool {
	for ; ; pause = min(2*pause, longestPause) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
		next, err := k.start(ctx)
		if err == nil {
			k.current.Store(&next)
			return true
		}
		if ctx.Err() == nil {
			k.console.Notice(fmt.Sprintf("%s does not start: %v", k.name, err))
		}
	}
}

func (k *kept) stopChild(current running) {
	ctx, cancel := context.WithTimeout(context.Background(), k.grace)
	defer cancel()
	if err := current.Stop(ctx); err != nil && ctx.Err() != nil {
		k.console.Notice(fmt.Sprintf("%s: %v", k.name, err))
	}
}

// stop ends the child for good, and returns when it is gone.
func (k *kept) stop() {
	k.end()
	<-k.ended
}

// signal reaches the child that runs now.
func (k *kept) signal(signal syscall.Signal) { (*k.current.Load()).Signal(signal) }

// exited is closed when the child that runs now has ended.
func (k *kept) exited() <-chan struct{} { return (*k.current.Load()).Done() }
