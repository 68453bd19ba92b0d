package main

import (
	"context"
	"time"
)

// engine is the simulated model: it paces tokens, holds as many requests at once as vLLM's scheduler would, and counts.
type engine struct {
	knobs
	options
	running chan struct{} // one slot per request that is being answered
	metrics *metrics
	now     func() time.Time
}

func newEngine(k knobs, o options) *engine {
	return &engine{
		knobs: k, options: o,
		running: make(chan struct{}, o.maxNumSeqs),
		metrics: newMetrics(o.names[0]),
		now:     time.Now,
	}
}

// generate hands the tokens of g to emit at the engine's pace. It ends early with the error of ctx or of emit.
func (e *engine) generate(ctx context.Context, g generation, emit func(i int, token string) error) (err error) {
	arrived := e.now()
	produced := 0
	defer func() { e.metrics.finished(g, produced, e.now().Sub(arrived), err) }()
	if err := e.admit(ctx); err != nil {
		return err
	}
	defer e.leave()
	e.metrics.queued.Observe(e.now().Sub(arrived).Seconds())
	for i := range g.length {
		pause := e.interTokenLatency
		if i == 0 {
			pause = e.timeToFirstToken
		}
		began := e.now()
		if err := wait(ctx, pause); err != nil {
			return err
		}
		if i == 0 {
			e.metrics.prompt.Add(float64(g.promptTokens))
			e.metrics.firstToken.Observe(e.now().Sub(arrived).Seconds())
		} else {
			e.metrics.interToken.Observe(e.now().Sub(began).Seconds())
		}
		e.metrics.generated.Inc()
		produced++
		if err := emit(i, g.token(i)); err != nil {
			return err
		}
	}
	return nil
}

// admit waits for a slot, as a request waits in vLLM's queue beyond --max-num-seqs.
func (e *engine) admit(ctx context.Context) error {
	e.metrics.waiting.Inc()
	defer e.metrics.waiting.Dec()
	select {
	case e.running <- struct{}{}:
		e.metrics.running.Inc()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *engine) leave() {
	e.metrics.running.Dec()
	<-e.running
}
