package modelfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

const lockPause = 200 * time.Millisecond

// lock waits for the lock of the source's files and returns what gives it back. waiting is called when another process or
// another user of this store has it. The file stays: a lock on a file that was removed would be one that nobody else sees.
func (s *Store) lock(ctx context.Context, source hub.Source, waiting func()) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(s.config.Dir, locksDir, flat(source)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, err
		}
		waiting()
		if err := sleep(ctx, lockPause); err != nil {
			file.Close()
			return nil, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
