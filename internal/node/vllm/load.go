package vllm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Load is what an engine says of its own work.
type Load struct {
	Running, Waiting int     // requests that are being answered, and that wait to be
	Progress         float64 // tokens read and written and requests ended since its start: it grows while the engine works
}

// UnderWay is how many requests the engine has.
func (l Load) UnderWay() int { return l.Running + l.Waiting }

// maxMetrics bounds what is read of an engine's metrics.
const maxMetrics = 4 << 20

// ReadLoad reads an engine's metrics, in the text format of Prometheus. An engine of several cores counts as one.
func ReadLoad(metrics io.Reader) (Load, error) {
	sums := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(metrics, maxMetrics))
	for lines.Scan() {
		line := lines.Text()
		end := strings.IndexAny(line, "{ ")
		if end < 0 || !strings.HasPrefix(line, "vllm:") {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return Load{}, fmt.Errorf("metric %s: %w", line[:end], err)
		}
		sums[line[:end]] += value
	}
	if err := lines.Err(); err != nil {
		return Load{}, fmt.Errorf("read the engine's metrics: %w", err)
	}
	running, ok := sums[MetricRequestsRunning]
	if !ok {
		return Load{}, errors.New("the engine's metrics do not say how many requests it has: there is no " + MetricRequestsRunning)
	}
	return Load{
		Running: int(running), Waiting: int(sums[MetricRequestsWaiting]),
		Progress: sums[MetricPromptTokens] + sums[MetricGenerationTokens] + sums[MetricRequestSuccess],
	}, nil
}
