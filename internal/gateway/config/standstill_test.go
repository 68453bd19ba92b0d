package config

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// stoodStill is a store that serves a configuration in a process that has not run for some seconds.
func stoodStill() (s *Store, known *Config) {
	s, known = &Store{hints: make(chan struct{}, 1)}, new(Config)
	s.current.Store(known)
	s.pulse.beat.Store(time.Now().Add(-standstill - time.Millisecond).UnixNano())
	return s, known
}

func TestAProcessThatStoodStillServesWhatWasPublishedMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := stoodStill()
		lag, fresh, began := s.pulse.notice(), new(Config), time.Now()
		time.AfterFunc(300*time.Millisecond, func() {
			s.current.Store(fresh)
			s.pulse.caughtUp(lag)
		})
		require.Same(t, fresh, s.Serving())
		require.Equal(t, 300*time.Millisecond, time.Since(began))
		require.Len(t, s.hints, 1, "the database is asked at once")
	})
}

func TestAProcessThatStoodStillWaitsForNoDatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, known := stoodStill()
		began := time.Now()
		require.Same(t, known, s.Serving())
		require.Equal(t, catchUpTimeout, time.Since(began))
		require.Same(t, known, s.Serving())
		require.Equal(t, catchUpTimeout, time.Since(began), "nobody waits after that")
	})
}

func TestAProcessThatRunsIsNotBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, known := &Store{hints: make(chan struct{}, 1)}, new(Config)
		s.current.Store(known)
		go s.pulse.run(t.Context())
		for range 100 {
			time.Sleep(beatInterval / 3)
			require.Nil(t, s.pulse.notice())
		}
	})
}
