package postgres_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres"
)

func TestEveryCallerGetsItsOwnAnswer(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	double := postgres.NewTogether(func(_ context.Context, questions []int) ([]int, error) {
		asked.Add(1)
		answers := make([]int, len(questions))
		for i, q := range questions {
			answers[i] = 2 * q
		}
		return answers, nil
	})
	var callers sync.WaitGroup
	for n := range 1000 {
		callers.Go(func() {
			answer, err := double.Ask(context.Background(), n)
			if err != nil || answer != 2*n {
				t.Errorf("%d: %d, %v", n, answer, err)
			}
		})
	}
	callers.Wait()
	require.LessOrEqual(t, asked.Load(), int64(1000))
}

func TestWhoComesWhileAQuestionIsAskedIsAskedByTheNext(t *testing.T) {
	t.Parallel()
	var batches [][]string
	under, proceed := make(chan struct{}), make(chan struct{})
	echo := postgres.NewTogether(func(_ context.Context, questions []string) ([]string, error) {
		batches = append(batches, questions)
		if len(batches) == 1 {
			close(under)
			<-proceed
		}
		return questions, nil
	})
	var callers sync.WaitGroup
	ask := func(q string) {
		callers.Go(func() {
			answer, err := echo.Ask(context.Background(), q)
			if err != nil || answer != q {
				t.Errorf("%s: %s, %v", q, answer, err)
			}
		})
	}
	ask("first")
	<-under
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := echo.Ask(gone, "of one who left") // it has joined the next batch before it looks at its context
	require.ErrorIs(t, err, context.Canceled)
	close(proceed)
	callers.Wait()
	answer, err := echo.Ask(t.Context(), "last")
	require.NoError(t, err)
	require.Equal(t, "last", answer)
	require.Equal(t, []string{"first"}, batches[0])
	require.Contains(t, batches[1], "of one who left")
}

func TestAnErrorIsEverybodys(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	fails := postgres.NewTogether(func(context.Context, []int) ([]int, error) { return nil, broken })
	_, err := fails.Ask(t.Context(), 1)
	require.ErrorIs(t, err, broken)
	_, err = fails.Ask(t.Context(), 2)
	require.ErrorIs(t, err, broken, "and it is asked again")
}
