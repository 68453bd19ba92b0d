package postgres

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Together asks the database the questions of concurrent calls in one go: while one round trip is under way, those who
// come wait and are asked for together by the next. Every question is sent after it was put, so no answer is older than
// its question. Who comes alone waits for nobody. On a busy server a statement of many is several times cheaper than
// many statements, most of whose cost is waking processes up.
type Together[Question, Answer any] struct {
	ask func(context.Context, []Question) ([]Answer, error)

	mu      sync.Mutex
	waiting []*asked[Question, Answer]
	busy    bool
}

type asked[Question, Answer any] struct {
	question Question
	answer   Answer
	err      error
	done     chan struct{}
}

// askLimit bounds one query: a connection that went silent must not hold up everybody for long.
const askLimit = 10 * time.Second

// NewTogether returns a Together of ask, which returns one answer for each question, in their order, or an error for all.
func NewTogether[Question, Answer any](ask func(context.Context, []Question) ([]Answer, error)) *Together[Question, Answer] {
	return &Together[Question, Answer]{ask: ask}
}

// Ask returns the answer to a question. It returns early when ctx ends; the question may be asked all the same.
func (t *Together[Question, Answer]) Ask(ctx context.Context, question Question) (Answer, error) {
	mine := &asked[Question, Answer]{question: question, done: make(chan struct{})}
	if t.join(mine) {
		t.askWaiting(ctx)
	}
	select {
	case <-mine.done:
		return mine.answer, mine.err
	case <-ctx.Done():
		var none Answer
		return none, ctx.Err()
	}
}

// join adds a question and reports whether its caller has to ask, because nobody is asking.
func (t *Together[Question, Answer]) join(mine *asked[Question, Answer]) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, mine)
	first := !t.busy
	t.busy = true
	return first
}

// askWaiting asks what waits, once, and leaves what has come meanwhile to a goroutine of its own.
func (t *Together[Question, Answer]) askWaiting(ctx context.Context) {
	runtime.Gosched()
	t.answer(ctx, t.take())
	if t.more() {
		go t.askWaiting(context.WithoutCancel(ctx))
	}
}

func (t *Together[Question, Answer]) take() []*asked[Question, Answer] {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch := t.waiting
	t.waiting = nil
	return batch
}

// more reports whether questions wait; if none do, the next one is asked by its own caller.
func (t *Together[Question, Answer]) more() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = len(t.waiting) > 0
	return t.busy
}

// answer asks for a batch. It goes on when the caller who asks for all is gone: the others are not.
func (t *Together[Question, Answer]) answer(ctx context.Context, batch []*asked[Question, Answer]) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLimit)
	defer cancel()
	questions := make([]Question, len(batch))
	for i, a := range batch {
		questions[i] = a.question
	}
	answers, err := t.askSafely(ctx, questions)
	for i, a := range batch {
		if a.err = err; err == nil {
			a.answer = answers[i]
		}
		close(a.done)
	}
}

// askSafely turns a panic into an error: one caller's must not leave the others waiting.
func (t *Together[Question, Answer]) askSafely(ctx context.Context, questions []Question) (answers []Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return t.ask(ctx, questions)
}
