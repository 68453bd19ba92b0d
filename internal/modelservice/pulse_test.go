package modelservice

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/internal/secret"
)

// scripted is an Engines of one engine that does what its fields say.
type scripted struct {
	mu    sync.Mutex
	load  func() (vllm.Load, error)
	late  time.Duration // how long every answer takes
	tried error
}

func (s *scripted) Load(ctx context.Context, _ string) (vllm.Load, error) {
	select {
	case <-ctx.Done():
		return vllm.Load{}, ctx.Err()
	case <-time.After(s.late):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load()
}

func (s *scripted) Try(ctx context.Context, _, _ string, _ secret.Secret) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(s.late):
		return s.tried
	}
}

// watchFor lets a watcher look at the engine for so long and returns every prognosis but its reasons' changes of time.
func watchFor(t *testing.T, s *scripted, tried bool, d time.Duration) (seen []prognosis) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		p := &pulse{hungAfter: 30 * time.Second, stop: stop, tried: tried}
		go p.follow(ctx, s, "", "", secret.Secret{})
		for range int(d / lookRunning) {
			time.Sleep(lookRunning)
			synctest.Wait()
			p.tick(lookRunning)
			now := p.prognosis(time.Now())
			if len(seen) == 0 || seen[len(seen)-1].health != now.health || seen[len(seen)-1].answered != now.answered {
				seen = append(seen, now)
			}
		}
	})
	return seen
}

func healths(seen []prognosis) (all []health) {
	for _, p := range seen {
		all = append(all, p.health)
	}
	return all
}

func TestAnEngineThatDoesNotAnswerIsSilentThenHung(t *testing.T) {
	stopped := &scripted{late: time.Hour, load: func() (vllm.Load, error) { return vllm.Load{}, nil }}
	seen := watchFor(t, stopped, true, 35*time.Second)
	require.Equal(t, []health{"", mute, hung}, healths(seen))
	require.Contains(t, seen[1].reason, "has not answered since")
	require.Contains(t, seen[2].reason, "did not answer for 30s and was ended")
}

func TestABusyEngineThatAnswersLateIsLeftAlone(t *testing.T) {
	tokens := 0.0
	busy := &scripted{late: 8 * time.Second, load: func() (vllm.Load, error) {
		tokens += 100
		return vllm.Load{Running: 256, Waiting: 1000, Progress: tokens}, nil
	}}
	seen := watchFor(t, busy, true, 10*time.Minute)
	require.Equal(t, []health{"", well}, healths(seen))
}

func TestABusyEngineSaysSo(t *testing.T) {
	p := &pulse{hungAfter: 30 * time.Second, tried: true}
	for i := range 20 {
		p.heard(vllm.Load{Running: 4, Waiting: 9, Progress: float64(i)})
		p.tick(lookRunning)
	}
	now := p.prognosis(time.Now())
	require.Equal(t, prognosis{answered: true, health: well, reason: "busy: all its slots are taken and requests wait"}, now)
	p.heard(vllm.Load{Running: 4, Progress: 1000})
	p.tick(lookRunning)
	require.Empty(t, p.prognosis(time.Now()).reason)
}

func TestAnEngineThatAnswersAndMakesNoProgressIsGivenLonger(t *testing.T) {
	stuck := &scripted{load: func() (vllm.Load, error) { return vllm.Load{Running: 3, Progress: 7}, nil }}
	require.Equal(t, []health{well}, healths(watchFor(t, stuck, true, 4*time.Minute)))
	require.Equal(t, []health{well, hung}, healths(watchFor(t, stuck, true, 6*time.Minute)))
}

func TestAnEngineWithNothingToDoNeedNotProgress(t *testing.T) {
	idle := &scripted{load: func() (vllm.Load, error) { return vllm.Load{Progress: 7}, nil }}
	require.Equal(t, []health{well}, healths(watchFor(t, idle, true, time.Hour)))
}

func TestAWatcherThatWasAwayBlamesNoEngine(t *testing.T) {
	p := &pulse{hungAfter: 30 * time.Second, tried: true}
	p.heard(vllm.Load{})
	p.tick(lookRunning)
	p.tick(time.Hour)
	require.Equal(t, well, p.prognosis(time.Now()).health)
}

func TestAnEngineIsTriedBeforeItIsBelieved(t *testing.T) {
	refuses := &scripted{tried: errors.New("401 Unauthorized")}
	seen := watchFor(t, refuses, false, 5*time.Second)
	require.False(t, seen[len(seen)-1].answered)
	require.Contains(t, seen[len(seen)-1].reason, "401 Unauthorized")

	late := &scripted{late: 25 * time.Second, load: func() (vllm.Load, error) { return vllm.Load{}, nil }}
	seen = watchFor(t, late, false, 28*time.Second)
	require.Equal(t, []prognosis{{}, {answered: true}}, seen, "the time of the trial is not silence")
}
