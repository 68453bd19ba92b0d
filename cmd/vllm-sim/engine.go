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
	reading chan struct{} // the slot of the request whose prompt is being computed
	cache   *prefixCache
	metrics *metrics

	vocabulary vocabulary
	now        func() time.Time
}

func newEngine(k knobs, o options) *engine {
	var cache *prefixCache
	if o.prefixCaching {
		cache = newPrefixCache(o.blockSize, o.blocks)
	}
	return &engine{
		knobs: k, options: o,
		running: make(chan struct{}, o.maxNumSeqs),
		reading: make(chan struct{}, 1),
		cache:   cache,
		metrics: newMetrics(o.names[0], cache.usage),
		now:     time.Now,

		vocabulary: vocabulary{ids: map[string]int{}},
	}
}

// generate hands the tokens of g to emit at the engine's pace. It ends early with the error of ctx or of emit.
func (e *engine) generate(ctx context.Context, g *generation, emit func(i int, token string) error) (err error) {
	arrived := e.now()
	produced := 0
	defer func() { e.metrics.finished(g, produced, e.now().Sub(arrived), err) }()
	if err := e.admit(ctx); err != nil {
		return err
	}
	defer e.leave()
	e.metrics.queued.Observe(e.now().Sub(arrived).Seconds())
	if err := e.prefill(ctx, g); err != nil {
		return err
	}
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
	if e.cache != nil {
		e.cache.keep(g.whole())
	}
	return nil
}

// prefill computes what is not cached of the prompt, one prompt after the other: it takes all there is of a processor.
func (e *engine) prefill(ctx context.Context, g *generation) error {
	select {
	case e.reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.reading }()
	if e.cache != nil {
		g.cachedTokens = e.cache.cached(g.prompt)
		e.metrics.prefixQueries.Add(float64(len(g.prompt)))
		e.metrics.prefixHits.Add(float64(g.cachedTokens))
	}
	if err := wait(ctx, time.Duration(g.promptTokens-g.cachedTokens)*e.prefillLatency/1000); err != nil {
		return err
	}
	e.cache.keep(g.prompt)
	e.metrics.prompt.Add(float64(g.promptTokens))
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
