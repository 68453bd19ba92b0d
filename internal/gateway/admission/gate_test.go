package admission_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/gateway/admission"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWithoutALimitNobodyWaits(t *testing.T) {
	t.Parallel()
	var g admission.Gate
	for range 1000 {
		turn, err := g.Join()
		require.NoError(t, err)
		require.False(t, turn.Waits())
	}
	require.Equal(t, 1000, g.Running())
}

func TestWithoutAQueueOneTooManyIsRefused(t *testing.T) {
	t.Parallel()
	var g admission.Gate
	g.SetLimits(1, 0)
	first, err := g.Join()
	require.NoError(t, err)
	_, err = g.Join()
	require.ErrorIs(t, err, admission.ErrFull)
	require.EqualValues(t, 1, g.Refused())
	first.Leave()
	_, err = g.Join()
	require.NoError(t, err)
}

// gateModel is what a Gate should be: who runs, and who waits in which order.
type gateModel struct {
	gate          admission.Gate
	limit, queue  int
	running, line []*admission.Turn
}

func (m *gateModel) join(t *rapid.T) {
	turn, err := m.gate.Join()
	switch {
	case len(m.line) == 0 && (m.limit == 0 || len(m.running) < m.limit):
		require.NoError(t, err)
		m.running = append(m.running, &turn)
	case len(m.line) < m.queue:
		require.NoError(t, err)
		m.line = append(m.line, &turn)
	default:
		require.ErrorIs(t, err, admission.ErrFull)
	}
}

func (m *gateModel) leave(t *rapid.T, from *[]*admission.Turn) {
	if len(*from) == 0 {
		return
	}
	i := rapid.IntRange(0, len(*from)-1).Draw(t, "who")
	(*from)[i].Leave()
	(*from)[i].Leave()
	*from = slices.Delete(*from, i, i+1)
	m.advance()
}

func (m *gateModel) setLimits(t *rapid.T) {
	m.limit, m.queue = rapid.IntRange(0, 5).Draw(t, "limit"), rapid.IntRange(0, 5).Draw(t, "queue")
	m.gate.SetLimits(m.limit, m.queue)
	m.advance()
}

func (m *gateModel) advance() {
	for len(m.line) > 0 && (m.limit == 0 || len(m.running) < m.limit) {
		m.running, m.line = append(m.running, m.line[0]), m.line[1:]
	}
}

func (m *gateModel) check(t *rapid.T) {
	require.Equal(t, len(m.running), m.gate.Running())
	require.Equal(t, len(m.line), m.gate.Waiting())
	for _, turn := range m.running {
		require.False(t, turn.Waits())
	}
	for _, turn := range m.line {
		require.True(t, turn.Waits())
	}
}

func TestGateIsALimitAndALine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := new(gateModel)
		m.setLimits(t)
		t.Repeat(map[string]func(*rapid.T){
			"":                  m.check,
			"join":              m.join,
			"leave the inside":  func(t *rapid.T) { m.leave(t, &m.running) },
			"leave the line":    func(t *rapid.T) { m.leave(t, &m.line) },
			"change the limits": m.setLimits,
		})
	})
}

func TestWhoseTurnComesAsItGivesUpTakesNoPlaceAlong(t *testing.T) {
	t.Parallel()
	const limit, clients, rounds = 3, 32, 500
	var g admission.Gate
	g.SetLimits(limit, clients/2)
	var inside, most, served atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for i := range rounds {
				turn, err := g.Join()
				if err != nil {
					continue
				}
				ctx, cancel := context.WithCancel(t.Context())
				if i%3 == 0 {
					go cancel() // at about the time that its turn comes
				}
				if turn.Wait(ctx) == nil {
					now := inside.Add(1)
					for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
					}
					served.Add(1)
					inside.Add(-1)
				}
				turn.Leave()
				cancel()
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, most.Load(), int64(limit))
	require.Positive(t, served.Load())
	require.Zero(t, g.Running())
	require.Zero(t, g.Waiting())
	t.Logf("%d served, %d refused", served.Load(), g.Refused())
}

func TestWaitEndsWithTheTurnOrTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g admission.Gate
		g.SetLimits(1, 2)
		inside, err := g.Join()
		require.NoError(t, err)
		require.NoError(t, inside.Wait(t.Context()))
		impatient, err := g.Join()
		require.NoError(t, err)
		patient, err := g.Join()
		require.NoError(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, impatient.Wait(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		require.Equal(t, 1, g.Waiting(), "it has left its place")

		time.AfterFunc(time.Minute, inside.Leave)
		require.NoError(t, patient.Wait(t.Context()))
		require.Equal(t, time.Second+time.Minute, time.Since(began))
		patient.Leave()
		require.Zero(t, g.Running())
	})
}

func BenchmarkGate(b *testing.B) {
	var g admission.Gate
	g.SetLimits(10_000, 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			turn, _ := g.Join()
			_ = turn.Wait(b.Context())
			turn.Leave()
		}
	})
}
