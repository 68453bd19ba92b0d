package gateway

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// linesPerSecond bounds what requests may log: when an engine dies, a thousand of them fail in the same moment.
const linesPerSecond = 10

// boundedLog writes a few warnings a second and counts the rest.
type boundedLog struct {
	log     *slog.Logger
	second  atomic.Int64
	lines   atomic.Int64
	dropped atomic.Int64
}

// Warn logs unless enough has been said this second.
func (b *boundedLog) Warn(message string, args ...any) {
	now := time.Now().Unix()
	if was := b.second.Load(); was != now && b.second.CompareAndSwap(was, now) {
		b.lines.Store(0)
	}
	if b.lines.Add(1) > linesPerSecond {
		b.dropped.Add(1)
		return
	}
	if dropped := b.dropped.Swap(0); dropped > 0 {
		args = append(args, "droppedBefore", dropped)
	}
	b.log.Warn(message, args...)
}

// Write takes the lines of net/http's own logger.
func (b *boundedLog) Write(line []byte) (int, error) {
	b.Warn("http server", "line", strings.TrimSpace(string(line)))
	return len(line), nil
}
